"""Tokens that a person agreed to, for one server: kept, refreshed once for all who wait, given to nobody else."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from node.credentials.consent_flow import Flow, Flows, check_server
from node.credentials.consent_grants import Grant, Grants, Holder, holder_of
from node.credentials.discovery import Discovery
from node.credentials.metadata import AuthorizationServer
from node.credentials.ports import Asked, ConsentNeeded, OAuthHttp, Token
from node.credentials.registration import Registrar
from node.credentials.scopes import chosen_scopes
from node.credentials.tokens import OAuthClient, TokenRefused, request_token
from node.settings.consent_auth import AuthorizationCodeAuth
from proto.errors import MeshError, Unavailable
from proto.records import Principal

log = logging.getLogger("toolmesh.consent")

LEEWAY_S = 60
"""A token that ends sooner is refreshed first."""

_OVER = ("invalid_grant",)
"""What a token endpoint says (RFC 6749 §5.2) of a grant that is gone for good."""


@dataclass(frozen=True, slots=True)
class Where:
    """Addresses of this node, for browsers and for one authorization server. `document` is empty where nobody can
    fetch it."""

    redirect_uri: str
    document: str = ""
    connect: str = ""
    """Where a person begins by itself, before the server's name."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What a person is asked to agree to, before anything is begun."""

    server: AuthorizationServer
    resource: str
    scopes: tuple[str, ...]


class ConsentSource:
    """A `TokenSource` of the server `name`. `changed(name, holder)` is called after a grant was given or ended.

    `where(issuer)` says where that one leads back to; of an empty issuer, clients that were registered by hand.
    `clock` gives unix seconds.
    """

    def __init__(
        self,
        name: str,
        auth: AuthorizationCodeAuth,
        discovery: Discovery,
        http: OAuthHttp,
        grants: Grants,
        registrar: Registrar,
        flows: Flows,
        where: Callable[[str], Where],
        changed: Callable[[str, Holder], None] = lambda _server, _holder: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self._auth = auth
        self._discovery = discovery
        self._http = http
        self._grants = grants
        self._registrar = registrar
        self._flows = flows
        self._where = where
        self._changed = changed
        self._clock = clock

    def __repr__(self) -> str:
        return f"ConsentSource({self.name})"

    # ---- tokens ----------------------------------------------------------------------------------

    async def obtain(self, principal: Principal | None, asked: Asked) -> Token:
        grant = self._grant(principal)
        if grant is None:
            raise self._needed(principal, self._wanted(asked))
        if principal is not None and set(asked.scopes) - {*grant.token.scopes, *grant.requested}:
            # What was asked for once and not given would not be given by asking again.
            raise self._needed(principal, self._wanted(asked, grant))
        if _good(grant.token, self._clock()):
            return grant.token
        return await self._refreshed(grant, principal)

    async def renew(self, principal: Principal | None, token: Token, asked: Asked) -> Token:
        grant = self._grant(principal)
        if grant is None:
            raise self._needed(principal, self._wanted(asked))
        if grant.token.access_token != token.access_token and _good(grant.token, self._clock()):
            return grant.token
        return await self._refreshed(grant, principal)

    def _grant(self, principal: Principal | None) -> Grant | None:
        """Only one that was given for the server at this URL, by the configured issuer: a name in the configuration may
        come to stand for another server, which must not be sent the tokens of the first."""
        if principal is None:
            return self._grants.first(self.name, self._fits)
        grant = self._grants.get(self.name, holder_of(principal))
        return grant if grant is not None and self._fits(grant.resource, grant.token.issuer) else None

    def lists_as(self) -> Holder | None:
        """Whose grant the server's lists are asked for by."""
        grant = self._grant(None)
        return grant.holder if grant is not None else None

    def _fits(self, resource: str, issuer: str) -> bool:
        return self._auth.issuer in ("", issuer) and self._discovery.is_about(resource)

    def _needed(self, principal: Principal | None, scopes: tuple[str, ...] = ()) -> ConsentNeeded:
        needed = ConsentNeeded(self.name, principal, scopes)
        if principal is None and (connect := self._where("").connect):
            # What an operator, or an agent that looks for tools, reads of a server that cannot be listed yet.
            needed.message = f"{needed.message}, at {connect}/{self.name}"
        return needed

    def _wanted(self, asked: Asked, grant: Grant | None = None) -> tuple[str, ...]:
        held = grant.requested if grant is not None else ()
        return tuple(dict.fromkeys((*held, *asked.scopes)))

    async def _refreshed(self, grant: Grant, principal: Principal | None) -> Token:
        # One run for all who wait: who gives up waiting must not cut off an exchange that has used the old token up.
        return await self._grants.renewals.run((self.name, grant.holder), lambda: self._refresh(grant, principal))

    async def _refresh(self, grant: Grant, principal: Principal | None) -> Token:
        """RFC 6749 §6, with rotation: the new refresh token is kept before the access token is used."""
        refresh_token = grant.token.refresh_token
        if not refresh_token:
            raise self._ended(grant, principal, "its token has run out and cannot be refreshed")
        server, client = await self._client_of(grant)
        if client is None:
            raise self._ended(grant, principal, "the client that it was given to is gone")
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        if grant.resource:
            form["resource"] = grant.resource
        try:
            token = await request_token(self._http, server, client, form)
        except TokenRefused as e:
            if e.error == "invalid_client" and not self._auth.client_id:
                self._registrar.forget(grant.token.issuer, grant.redirect_uri)
                raise self._ended(grant, principal, "the authorization server has forgotten this node") from None
            if e.error in _OVER:
                raise self._ended(grant, principal, "the authorization server has ended it") from None
            raise
        # The person may have taken it back while this was under way.
        if self._grants.get(self.name, grant.holder) is None:
            await self._revoke(grant.renewed(token))
            raise self._needed(principal)
        renewed = grant.renewed(token)
        self._grants.put(renewed)
        return renewed.token

    def _ended(self, grant: Grant, principal: Principal | None, why: str) -> ConsentNeeded:
        log.info("server %s: a grant is over: %s", self.name, why)
        self._grants.remove(self.name, grant.holder)
        self._changed(self.name, grant.holder)
        return self._needed(principal, grant.requested)

    async def _client_of(self, grant: Grant) -> tuple[AuthorizationServer, OAuthClient | None]:
        """The issuer that gave the grant, as it is now, and our client there; None where that is another by now."""
        issuer = grant.token.issuer
        server = await self._discovery.authorization_server(issuer, learned=issuer != self._auth.issuer)
        # The configured secret is for the configured issuer, and for no other that once gave a grant.
        by_hand = self._auth.client_id == grant.client_id and self._auth.issuer in ("", issuer)
        document = self._where(issuer).document
        if by_hand or grant.client_id == document:
            client: OAuthClient | None
            client = await self._registrar.client(server, self._auth, grant.redirect_uri, document)
        else:
            client = self._registrar.registered(issuer, grant.redirect_uri)
        return server, client if client is not None and client.client_id == grant.client_id else None

    # ---- consent ---------------------------------------------------------------------------------

    async def intent(self, asked: Asked) -> Intent:
        """What a person would be asked for. Raises `Unavailable` where nobody can be sent there, and why."""
        found = await self._discovery.find(asked.challenge)
        check_server(found.server)
        scopes = chosen_scopes(self._auth.scopes, asked.challenge, found, asked.scopes, offline=True)
        return Intent(found.server, found.resource, scopes)

    async def begin(self, principal: Principal, asked: Asked, browser: str = "", note: str = "") -> str:
        """The URL of the authorization server at which this person agrees. Raises `Unavailable`.

        `browser`: who brings the answer must name the same; `note` comes back with it.
        """
        intent = await self.intent(asked)
        where = self._where("" if self._auth.client_id else intent.server.issuer)
        client = await self._registrar.client(intent.server, self._auth, where.redirect_uri, where.document)
        return self._flows.begin(
            self.name,
            holder_of(principal),
            intent.server,
            client,
            where.redirect_uri,
            resource=intent.resource,
            scopes=intent.scopes,
            browser=browser,
            note=note,
        )

    async def finish(self, parameters: Mapping[str, str], browser: str = "") -> Grant:
        """Take the answer that a browser brought from there, as `Flows.take` does; the grant is kept from now on.

        Raises `Invalid` or `Unavailable`; the answer cannot be used a second time, whatever became of it.
        """
        flow, code = self._flows.take(parameters, browser)
        return await self.complete(flow, code)

    async def complete(self, flow: Flow, code: str) -> Grant:
        """The code of a flow of this server, which was taken, made a grant (RFC 6749 §4.1.3)."""
        if flow.purpose != self.name or flow.holder is None:
            raise Unavailable(f"server {self.name!r}: the answer is for another server")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": flow.redirect_uri,
            "code_verifier": flow.verifier,
        }
        if flow.resource:
            form["resource"] = flow.resource
        token = await request_token(self._http, flow.server, flow.client, form)
        grant = Grant(
            server=self.name,
            holder=flow.holder,
            client_id=flow.client.client_id,
            resource=flow.resource,
            token=Token(
                token.access_token,
                token.expires_s,
                token.scopes or flow.scopes,
                token.refresh_token,
                flow.server.issuer,
            ),
            requested=flow.scopes,
            granted_s=int(self._clock()),
            redirect_uri=flow.redirect_uri,
        )
        # What it replaces is not revoked: many servers would end the new one with it (RFC 7009 §2.1).
        self._grants.put(grant)
        self._changed(self.name, flow.holder)
        return grant

    async def remove(self, holder: Holder) -> bool:
        """End a grant here, and at the authorization server if that can be told. Whether there was one."""
        grant = self._grants.get(self.name, holder)
        if grant is None:
            return False
        self._grants.remove(self.name, holder)
        self._changed(self.name, holder)
        await self._grants.revocations.run((self.name, holder), lambda: self._revoke(grant))
        return True

    async def _revoke(self, grant: Grant) -> None:
        """RFC 7009. That it could not be told is in the log: the grant is gone here all the same."""
        try:
            server, client = await self._client_of(grant)
            if not server.revocation_endpoint or client is None:
                return
            token, hint = grant.token.refresh_token, "refresh_token"
            if not token:
                token, hint = grant.token.access_token, "access_token"
            fields, headers = client.proof(server)
            form = {"token": token, "token_type_hint": hint, **fields}
            status, _ = await self._http.post_form(server.revocation_endpoint, form, headers, learned=True)
            if status != 200:
                log.info("server %s: %s answered a revocation with status %d", self.name, server.issuer, status)
        except MeshError as e:
            log.info("server %s: a removed grant could not be revoked: %s", self.name, e.message)


def _good(token: Token, now: float) -> bool:
    return not token.expires_s or token.expires_s > now + LEEWAY_S
