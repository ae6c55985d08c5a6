"""Tokens for a caller, in exchange for this node's word or for the caller's own token (RFC 8693)."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from node.credentials.callers import CallerTokens, caller_of
from node.credentials.client_auth import SigningKey
from node.credentials.client_credentials import TokenEndpoint
from node.credentials.discovery import Discovered
from node.credentials.ports import Asked, SignInNeeded, Token, TokenSource
from node.credentials.scopes import chosen_scopes
from node.credentials.tokens import TokenRefused
from proto import jsons
from proto.errors import Invalid, Unavailable
from proto.records import Principal

_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_JWT = "urn:ietf:params:oauth:token-type:jwt"
_ACCESS = "urn:ietf:params:oauth:token-type:access_token"

Subject = Callable[[Principal, Discovered], tuple[str, str]]
"""Gives (subject token, its type) for a principal. Raises `Unavailable`."""


class TokenExchange:
    """`TokenSource`. `listing` is where the token for the server's lists comes from; None: the `node` principal's own.

    `audience` names the server to the authorization server, beside `resource` (RFC 8693 §2.1).
    """

    def __init__(
        self,
        server: str,
        endpoint: TokenEndpoint,
        subject: Subject,
        *,
        node: Principal,
        listing: TokenSource | None = None,
        scopes: tuple[str, ...] = (),
        resource: str = "",
        audience: str = "",
    ) -> None:
        self._server = server
        self._endpoint = endpoint
        self._subject = subject
        self._node = node
        self._listing = listing
        self._scopes = scopes
        self._resource = resource
        self._audience = audience

    def __repr__(self) -> str:
        return f"TokenExchange({self._server} scopes={' '.join(self._scopes) or '-'})"

    async def obtain(self, principal: Principal | None, asked: Asked) -> Token:
        if principal is None:
            if self._listing is not None:
                return await self._listing.obtain(None, asked)
            principal = self._node
        found = await self._endpoint.found(asked)
        resource = self._resource or found.resource
        token, kind = self._subject(principal, found)
        got = await self._endpoint.ask(
            found,
            {
                "grant_type": _GRANT,
                "subject_token": token,
                "subject_token_type": kind,
                "requested_token_type": _ACCESS,
                "scope": " ".join(chosen_scopes(self._scopes, asked.challenge, found, asked.scopes)),
                "resource": resource,
                "audience": self._audience,
            },
        )
        self._check(got, token, {resource, self._audience} - {""})
        return got

    async def renew(self, principal: Principal | None, token: Token, asked: Asked) -> Token:
        return await self.obtain(principal, asked)

    def _check(self, got: Token, given: str, wanted: set[str]) -> None:
        """Raises `TokenRefused` for one that was not exchanged, or is another server's: it would be given away."""
        if got.access_token == given:
            raise self._refused("its authorization server gave back the very token that was to be exchanged")
        said = audience_of(got.access_token)
        if said is not None and not wanted & said:
            for_whom = ", ".join(sorted(said))[:200] or "nobody"
            raise self._refused(
                f"the token that was exchanged for it is for {for_whom}, not for {' or '.join(sorted(wanted))}; mend "
                "'resource' or 'audience' of its 'auth', or the authorization server"
            )

    def _refused(self, why: str) -> TokenRefused:
        return TokenRefused(f"server {self._server!r}: {why}", "invalid_target", server=self._server)


def assertion_of(key: SigningKey, issuer: str, audience: str = "") -> Subject:
    """This node's own word about who calls: a JWT that is good for a minute, for one authorization server.

    `sub` is the caller, `sub_id` (RFC 9493) also says whose word that is, `act` (RFC 8693 §4.1) is this node and those
    who act behind it, nearest first. Nobody's own token is part of it.
    """

    def assertion(principal: Principal, found: Discovered) -> tuple[str, str]:
        claims: dict[str, Any] = {
            "iss": issuer,
            "sub": principal.subject,
            "aud": audience or found.server.issuer or found.server.token_endpoint,
            "sub_id": {"format": "iss_sub", "iss": principal.issuer or issuer, "sub": principal.subject},
            "act": _chain((issuer, *principal.actors)),
        }
        if principal.tenant:
            claims["tenant"] = principal.tenant
        return key.sign(claims), _JWT

    return assertion


def own_token(server: str, callers: CallerTokens) -> Subject:
    """The token that the caller came in with, at this very node."""

    def token(principal: Principal, _found: Discovered) -> tuple[str, str]:
        held = callers.token(principal)
        if not held:
            raise SignInNeeded(
                f"server {server!r} is called with your own token, exchanged; you came without one, or it has ended: "
                "sign in at this node with a bearer token",
                server=server,
            )
        return held, _ACCESS

    return token


def named_caller(server: str, *, own: bool) -> Callable[[Principal, bool], tuple[str, ...]]:
    """Whose a token is, for `BearerCredentials`. `own`: what is exchanged is the caller's own token.

    Refused are those without a name, and, with `own`, those who came in at another node: their token stayed there.
    """

    def whose(principal: Principal, local: bool) -> tuple[str, ...]:
        if principal.kind == "anonymous":
            raise Unavailable(f"server {server!r} wants to know who calls; sign in at this node", server=server)
        if own and not local:
            raise Unavailable(
                f"server {server!r} is called with the caller's own token, which never leaves the node where that came "
                "in: call it at its own node, or set subject: assertion in its 'auth'",
                server=server,
            )
        return caller_of(principal)

    return whose


def audience_of(token: str) -> set[str] | None:
    """The `aud` of a JWT; None: it is none that can be read, or says nothing."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = jsons.loads_object(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), "its claims")
    except (ValueError, Invalid):
        return None
    said = payload.get("aud")
    if isinstance(said, str):
        return {said}
    return {word for word in said if isinstance(word, str)} if isinstance(said, list) else None


def _chain(actors: tuple[str, ...]) -> Mapping[str, Any]:
    chain: dict[str, Any] = {}
    for actor in reversed(actors):
        chain = {"sub": actor, "act": chain} if chain else {"sub": actor}
    return chain
