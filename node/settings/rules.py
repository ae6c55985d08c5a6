"""What must hold between sections: each broken rule is (key path, what is wrong and how to mend it)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from node.settings.audit import audit_rules
from node.settings.auth_rules import auth_rules
from node.settings.consent_auth import consent_rules
from node.settings.doors import door_rules
from node.settings.endpoint import endpoint_rules
from node.settings.upstream_auth import upstream_auth_rules
from node.settings.values import is_loopback, is_unspecified, split_host_port
from node.settings.vectors import store_rules

if TYPE_CHECKING:
    from node.config import NodeConfig

Broken = tuple[tuple[str | int, ...], str]


def broken_rules(config: NodeConfig) -> list[Broken]:
    """Every rule that `config` breaks; empty for a sound one. Reads no files."""
    return [broken for rule in _RULES for broken in rule(config)]


def _listeners(config: NodeConfig) -> Iterator[Broken]:
    http, auth = config.http, config.auth
    if not (is_loopback(http.host) or http.insecure_beyond_loopback or (http.tls and auth.demanded)):
        missing = [what for what, there in (("http.tls", http.tls), ("auth.keys", auth.demanded)) if not there]
        lacking = " and ".join(missing) + (" is missing: add it" if len(missing) == 1 else " are missing: add both")
        yield (
            ("http", "listen"),
            f"{http.listen!r} is reachable from other machines, but {lacking} "
            "('toolmesh key new' makes keys), listen on 127.0.0.1, or, behind something that does TLS and "
            "authentication, set http.insecure_beyond_loopback: true",
        )
    if config.federation.enabled and http.port and http.listen == config.federation.listen:
        yield ("federation", "listen"), f"{http.listen!r} is http.listen too; choose another port"


def _approvals(config: NodeConfig) -> Iterator[Broken]:
    for name, server in config.servers.items():
        if server.approval:
            yield (
                ("servers", name, "approval"),
                "has no effect: what is in servers is started with the node; move it to catalogue, or remove this",
            )


def _federation(config: NodeConfig) -> Iterator[Broken]:
    federation = config.federation
    if not federation.enabled:
        given = sorted(federation.model_fields_set - {"tls"})
        if given:
            yield (
                ("federation", "tls"),
                f"is missing, so {', '.join(given)} would have no effect: nodes talk over mutual TLS only. "
                "'toolmesh ca init' and 'toolmesh ca issue' make the files; or remove the section",
            )
        return
    for key in ("name", "region"):
        if key not in config.node.model_fields_set:
            yield ("node", key), "is required in a mesh; it must equal the one in the certificate"
    host, _ = split_host_port(federation.advertised)
    if is_unspecified(host):
        given_as = "advertise" if federation.advertise else "listen"
        yield (
            ("federation", given_as),
            f"{federation.advertised!r} cannot be dialled by others; set federation.advertise to HOST:PORT "
            "as they reach this node",
        )


def _etcd(config: NodeConfig) -> Iterator[Broken]:
    etcd, here = config.federation.etcd, ("federation", "etcd")
    if not etcd.enabled:
        given = sorted(etcd.model_fields_set - {"endpoints"})
        if given:
            yield (
                (*here, "endpoints"),
                f"is missing, so {', '.join(given)} would have no effect; name them or remove it",
            )
        return
    endpoints = etcd.parsed()
    for i, endpoint in enumerate(endpoints):
        if endpoint in endpoints[:i]:
            yield (*here, "endpoints", i), f"'{endpoint}' is named twice; remove one of them"
        if not (endpoint.secure or etcd.insecure or is_loopback(endpoint.host)):
            yield (
                (*here, "endpoints", i),
                f"'{endpoint}' is not protected: whoever is on the way reads the password and misdirects nodes. "
                "Write https://; or, where only trusted machines are on that way, set federation.etcd.insecure: true",
            )
    secure = any(e.secure for e in endpoints)
    if secure and etcd.tls is None:
        yield (*here, "tls"), "is missing: name in tls.ca the authority of the certificates of the https endpoints"
    if etcd.tls is not None and not secure:
        yield (*here, "tls"), "would have no effect: no endpoint is https"
    if etcd.tls is not None and (etcd.tls.cert is None) != (etcd.tls.key is None):
        lacking = "key" if etcd.tls.key is None else "cert"
        yield (*here, "tls", lacking), "is missing: a certificate and its key are given together"
    if bool(etcd.username) != (etcd.password is not None):
        lacking = "password" if etcd.username else "username"
        yield (*here, lacking), "is missing: username and password are given together"


def _names(config: NodeConfig) -> Iterator[Broken]:
    for name in sorted(config.servers.keys() & config.catalogue.keys()):
        yield ("catalogue", name), "is in servers too; keep one of them"


def _search(config: NodeConfig) -> Iterator[Broken]:
    search = config.search
    if search.read_only_tool and not search.believe_hints:
        yield (
            ("search", "believe_hints"),
            "names no server, so use_read_only_tool would refuse every tool: list the servers whose word counts that a "
            "tool only reads, or set search.read_only_tool: false",
        )
    if len(set(search.aliases)) < len(search.aliases):
        yield ("search", "aliases"), "names the same twice; name each once"


_RULES = (
    _listeners,
    _approvals,
    _federation,
    _etcd,
    _names,
    auth_rules,
    upstream_auth_rules,
    consent_rules,
    _search,
    door_rules,
    endpoint_rules,
    store_rules,
    audit_rules,
)
