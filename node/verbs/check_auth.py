"""What `toolmesh check` finds about who may call: how callers prove themselves, and what is about to end or missing."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal

from node.config import NodeConfig
from node.identity.issuer import keys_in
from node.settings.issuers import IssuerConfig
from node.settings.values import is_loopback
from node.words import count
from proto.errors import Invalid

ENDS_SOON = timedelta(days=30)

Finding = tuple[Literal["fact", "warning", "problem"], str]


def callers(config: NodeConfig) -> str:
    """For whom the listener is, in words."""
    auth = config.auth
    ways = [
        count(number, what)
        for number, what in (
            (len(auth.keys), "API key"),
            (len(auth.users), "user"),
            (len(auth.issuers), "issuer of tokens"),
            (len(auth.certificates), "entry for client certificates"),
        )
        if number
    ]
    if not auth.demanded:
        return "anyone who reaches it"
    return ", ".join(ways) or "keys that authorities of the mesh lay down"


def findings(config: NodeConfig, now: datetime) -> Iterator[Finding]:
    """Reads the files that are named; dials nothing."""
    auth, http = config.auth, config.http
    for issuer in auth.issuers:
        yield "fact", f"tokens of {issuer.issuer} for {_audience(issuer, http.public_url)}; {_source(issuer)}"
        if issuer.jwks is not None:
            try:
                keys_in(issuer.jwks)
            except Invalid as e:
                yield "problem", f"auth.issuers: jwks: {e.message}"
    for key in auth.keys:
        if key.expires_s and (left := datetime.fromtimestamp(key.expires_s, UTC) - now) < ENDS_SOON:
            ends = "has ended" if left <= timedelta(0) else f"ends in {left.days} days"
            yield "warning", f"auth.keys: {key.name!r} {ends}; 'toolmesh key new' makes another"
    if auth.ways and not auth.demanded:
        yield (
            "warning",
            f"auth.required is false: {', '.join(auth.ways)} may be used, and whoever shows nothing may call",
        )
    if config.federation.tls is None:
        # Nobody could change either from outside.
        if auth.required and not auth.ways:
            yield "problem", "auth.required: nobody can prove himself to a node that runs alone; add auth.keys"
        if config.guard.authorities:
            yield (
                "problem",
                "guard.authorities: without federation.tls none of them is ever heard, and everything stays refused",
            )
    if auth.users and http.tls is None and not is_loopback(http.host):
        yield "warning", "auth.users: passwords come over http; make sure that a proxy in front of it does TLS"
    if http.tls is not None and http.tls.client_ca is not None:
        shown = "must show" if http.tls.client_certificates == "required" else "may show"
        means = (
            "and is known by it" if auth.certificates else "and still needs a key or token: auth.certificates is empty"
        )
        yield "fact", f"a client {shown} a certificate of {http.tls.client_ca}, {means}"
        try:
            ssl.create_default_context().load_verify_locations(http.tls.client_ca)
        except (OSError, ssl.SSLError) as e:
            yield "problem", f"http.tls.client_ca: {http.tls.client_ca} cannot be used: {e}; give a PEM file"


def _audience(issuer: IssuerConfig, public_url: str) -> str:
    return " or ".join(issuer.audiences) or f"{public_url}, /mcp under it, or the path that is asked for"


def _source(issuer: IssuerConfig) -> str:
    if issuer.introspection is not None:
        return f"asked about each at {issuer.introspection.url or 'the address in its metadata'}"
    where = issuer.jwks or issuer.jwks_url or issuer.discovery or "the address in its metadata"
    return f"{', '.join(issuer.algorithms)} with keys from {where}"
