"""What people agreed to: one grant for each server and person, kept in the secret store and nowhere else.

    oauth/SERVER/SHA256 of the person's identity   {"server", "who": [issuer, tenant, subject], "token": {…}, …}

A grant that is read is held against the name it was asked by: whatever became of the store, nobody gets another's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from node.credentials.ports import Token
from node.credentials.single_flight import SingleFlight
from node.secrets.ports import SecretStore
from proto import jsons
from proto.errors import Exhausted, Invalid, MeshError, Unknown
from proto.records import Principal

log = logging.getLogger("toolmesh.consent")

GRANTS_MAX = 10_000
"""Of one server; beyond it nobody else can consent until a grant is removed."""

Holder = tuple[str, str, str]
"""`Principal.identity`: (issuer, tenant, subject)."""


@dataclass(frozen=True, slots=True)
class Grant:
    """`requested` are the scopes that were asked for, whatever was given; `resource` is RFC 8707's. Times are unix s.

    `client_id` and the token's `issuer` say which client of which authorization server may refresh it.
    """

    server: str
    holder: Holder
    client_id: str
    resource: str
    token: Token
    requested: tuple[str, ...] = ()
    granted_s: int = 0
    redirect_uri: str = field(default="", repr=False)

    @property
    def id(self) -> str:
        """For operators, `SERVER/DIGEST`: it names the grant and tells nothing of the person."""
        return f"{self.server}/{digest_of(self.holder)}"

    def renewed(self, token: Token) -> Grant:
        """With what a refresh brought; who gives no new refresh token means the old one to be kept (RFC 6749 §6)."""
        kept = replace(
            token,
            refresh_token=token.refresh_token or self.token.refresh_token,
            scopes=token.scopes or self.token.scopes,
            issuer=self.token.issuer,
        )
        return replace(self, token=kept)


class _Entry(NamedTuple):
    """What is remembered of a grant."""

    granted_s: int
    holder: Holder
    resource: str
    issuer: str

    @classmethod
    def of(cls, grant: Grant) -> _Entry:
        return cls(grant.granted_s, grant.holder, grant.resource, grant.token.issuer)


def holder_of(principal: Principal) -> Holder:
    return principal.identity


def digest_of(holder: Holder) -> str:
    """64 hexadecimal digits. Two identities are never written alike: the digest is taken of a JSON list."""
    return jsons.digest(list(holder)).hex()


class Grants:
    """All grants of this node. The store is asked for a token; who has one is remembered here."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store
        self._index: dict[str, dict[str, _Entry]] = {}
        self.renewals: SingleFlight[Token] = SingleFlight()
        """By (server, holder): a refresh token is used once, whoever wants it used."""
        self.revocations: SingleFlight[None] = SingleFlight()
        """By (server, holder): who asked for it need not stay."""

    def __repr__(self) -> str:
        return f"Grants({', '.join(f'{server}: {len(held)}' for server, held in sorted(self._index.items()))})"

    def get(self, server: str, holder: Holder) -> Grant | None:
        """Raises `Unavailable` where the store cannot be read, or holds something else under this name."""
        if digest_of(holder) not in self._of(server):
            return None
        return self._read(server, holder)

    def first(self, server: str, fits: Callable[[str, str], bool] = lambda _resource, _issuer: True) -> Grant | None:
        """The one that was given first of those that are still there and fit, by (resource, issuer)."""
        fitting = [entry for entry in self._of(server).values() if fits(entry.resource, entry.issuer)]
        return self._read(server, min(fitting).holder) if fitting else None

    def put(self, grant: Grant) -> None:
        """Put or replace. Raises `Exhausted` at the bound."""
        held, digest = self._of(grant.server), digest_of(grant.holder)
        if digest not in held and len(held) >= GRANTS_MAX:
            raise Exhausted(
                f"server {grant.server!r}: {GRANTS_MAX} people have consented already; 'toolmesh grants remove' takes "
                "a grant away"
            )
        self._store.set(_name(grant.server, digest), jsons.dumps(_written(grant)).decode())
        held[digest] = _Entry.of(grant)

    def remove(self, server: str, holder: Holder) -> bool:
        """Whether it was there."""
        digest = digest_of(holder)
        self._of(server).pop(digest, None)
        return self._store.remove(_name(server, digest))

    def holders(self, server: str) -> list[Holder]:
        """Who has consented, the oldest consent first."""
        return [entry.holder for entry in sorted(self._of(server).values())]

    def holder_named(self, grant_id: str) -> tuple[str, Holder] | None:
        """(server, holder) of the grant that `Grant.id` names."""
        server, _, digest = grant_id.partition("/")
        found = self._of(server).get(digest) if server else None
        return (server, found.holder) if found is not None else None

    async def close(self) -> None:
        """What still runs with authorization servers is cut off."""
        await self.renewals.close()
        await self.revocations.close()

    def _of(self, server: str) -> dict[str, _Entry]:
        held = self._index.get(server)
        if held is None:
            held = {}
            prefix = _name(server, "")
            for name in self._store.names(prefix):
                try:
                    grant = _parsed(self._store.get(name))
                except MeshError as e:
                    # Whose it was has none, and may consent anew; the others keep theirs.
                    log.warning("server %s: a grant cannot be used: %s", server, e.message)
                    continue
                if grant.server == server and name == _name(server, digest_of(grant.holder)):
                    held[name.removeprefix(prefix)] = _Entry.of(grant)
            self._index[server] = held
        return held

    def _read(self, server: str, holder: Holder) -> Grant | None:
        try:
            grant = _parsed(self._store.get(_name(server, digest_of(holder))))
        except Unknown:
            self._of(server).pop(digest_of(holder), None)
            return None
        if grant.server != server or grant.holder != holder:
            raise Invalid(f"server {server!r}: a grant in the secret store is somebody else's; remove it and sign in")
        return grant


def _name(server: str, digest: str) -> str:
    return f"oauth/{server}/{digest}"


def _written(grant: Grant) -> dict[str, Any]:
    token = grant.token
    return {
        "server": grant.server,
        "who": list(grant.holder),
        "client": grant.client_id,
        "resource": grant.resource,
        "requested": list(grant.requested),
        "granted": grant.granted_s,
        "redirect": grant.redirect_uri,
        "token": {
            "access": token.access_token,
            "expires": token.expires_s,
            "scopes": list(token.scopes),
            "refresh": token.refresh_token,
            "issuer": token.issuer,
        },
    }


def _parsed(text: str) -> Grant:
    try:
        v = jsons.loads_object(text, "a grant")
        issuer, tenant, subject = v["who"]
        token = v["token"]
        return Grant(
            server=v["server"],
            holder=(issuer, tenant, subject),
            client_id=v["client"],
            resource=v["resource"],
            token=Token(token["access"], token["expires"], tuple(token["scopes"]), token["refresh"], token["issuer"]),
            requested=tuple(v["requested"]),
            granted_s=v["granted"],
            redirect_uri=v["redirect"],
        )
    except (KeyError, TypeError, ValueError):
        raise Invalid("a grant in the secret store cannot be read; remove it and sign in again") from None
