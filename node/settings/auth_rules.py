"""What must hold among the ways to prove oneself, and between them and the listener."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from node.settings.values import is_loopback

if TYPE_CHECKING:
    from node.config import NodeConfig

Broken = tuple[tuple[str | int, ...], str]


def auth_rules(config: NodeConfig) -> Iterator[Broken]:
    """Broken ones, as in rules.py."""
    yield from _callers(config)
    yield from _issuers(config)
    yield from _certificates(config)
    if not config.auth.demanded and config.auth.peers.servers != ("*",):
        yield (
            ("auth", "peers", "servers"),
            "needs auth.keys: without keys every caller is anonymous, here and at peers; "
            "add a key ('toolmesh key new') or remove auth.peers",
        )


def _callers(config: NodeConfig) -> Iterator[Broken]:
    # One namespace: a key and a user of one name would be one caller.
    names: dict[str, str] = {}
    digests: dict[str, int] = {}
    for i, key in enumerate(config.auth.keys):
        if key.name in names:
            yield ("auth", "keys", i, "name"), f"{key.name!r} is used by an earlier key; names must differ"
        names[key.name] = "key"
        if digests.setdefault(key.sha256, i) != i:
            yield ("auth", "keys", i), f"is the same key as that of {config.auth.keys[digests[key.sha256]].name!r}"
    for i, user in enumerate(config.auth.users):
        if user.name in names:
            yield (
                ("auth", "users", i, "name"),
                f"{user.name!r} is used by an earlier {names[user.name]}; names must differ",
            )
        names[user.name] = "user"


def _issuers(config: NodeConfig) -> Iterator[Broken]:
    seen: set[str] = set()
    introspecting = ""
    if config.auth.issuers and not (config.http.public_url or is_loopback(config.http.host)):
        yield (
            ("http", "public_url"),
            "is missing: OAuth clients are told by it where this node is, and "
            f"{config.http.listen!r} is no address that they could dial; write the URL that they do",
        )
    for i, issuer in enumerate(config.auth.issuers):
        here = ("auth", "issuers", i)
        if issuer.issuer in seen:
            yield (*here, "issuer"), f"{issuer.issuer!r} is named twice; keep one entry and put all into it"
        seen.add(issuer.issuer)
        if not (issuer.audiences or config.http.public_url):
            yield (
                (*here, "audiences"),
                "is missing, and http.public_url too: without them nobody can tell which tokens are for this node. "
                "Set http.public_url to the URL that clients dial, or name the audiences",
            )
        sources = [name for name in ("jwks", "jwks_url", "discovery") if getattr(issuer, name)]
        if len(sources) > 1:
            yield (*here, sources[1]), f"would have no effect beside {sources[0]}; keep one of them"
        if issuer.introspection is None:
            continue
        if sources and not (sources == ["discovery"] and not issuer.introspection.url):
            yield (*here, sources[0]), "would have no effect: with introspection the issuer is asked about each token"
        if introspecting:
            yield (
                (*here, "introspection"),
                f"is given for {introspecting} too: nothing in such a token says which issuer to ask; keep one of them",
            )
        introspecting = issuer.issuer


def _certificates(config: NodeConfig) -> Iterator[Broken]:
    tls = config.http.tls
    if config.auth.certificates and not (tls and tls.client_ca):
        yield (
            ("auth", "certificates"),
            "needs http.tls.client_ca, the authorities that sign clients' certificates; name that file",
        )
    if tls and not tls.client_ca and tls.client_certificates == "required":
        yield (
            ("http", "tls", "client_certificates"),
            "needs http.tls.client_ca, the authorities that sign clients' certificates; name that file",
        )
