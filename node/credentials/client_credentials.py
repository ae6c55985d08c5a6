"""Tokens for this node itself (RFC 6749 §4.4): every caller is the same to the server."""

from __future__ import annotations

from dataclasses import replace

from node.credentials.client_auth import OAuthClient, method_for
from node.credentials.discovery import Discovered, Discovery
from node.credentials.metadata import AuthorizationServer
from node.credentials.ports import Asked, OAuthHttp, Token
from node.credentials.scopes import chosen_scopes
from node.credentials.tokens import request_token
from proto.errors import Invalid, Unavailable
from proto.records import Principal


class TokenEndpoint:
    """Where the tokens for one server are asked for: found by discovery, or, as `fixed`, known beforehand.

    `client` has no method of its own where the authorization server is to choose one.
    """

    def __init__(
        self,
        server: str,
        http: OAuthHttp,
        client: OAuthClient,
        *,
        discovery: Discovery | None = None,
        fixed: Discovered | None = None,
        chooses: bool = True,
    ) -> None:
        if (discovery is None) == (fixed is None):
            raise Invalid("a token endpoint is either found or known")
        self._server = server
        self._http = http
        self._client = client
        self._discovery = discovery
        self._fixed = fixed
        self._chooses = chooses

    async def found(self, asked: Asked) -> Discovered:
        """Raises `Unavailable`."""
        if self._fixed is not None:
            return self._fixed
        if self._discovery is None:
            raise Unavailable(f"server {self._server!r} has no token endpoint", server=self._server)
        return await self._discovery.find(asked.challenge)

    async def ask(self, found: Discovered, form: dict[str, str]) -> Token:
        """Raises `Unavailable` naming the server."""
        try:
            client = self._client_for(found.server)
            return await request_token(self._http, found.server, client, form, learned=self._fixed is None)
        except Invalid as e:
            raise Unavailable(f"server {self._server!r}: {e.message}", server=self._server) from None
        except Unavailable as e:
            e.message = f"server {self._server!r}: {e.message}"
            e.args = (e.message,)
            e.data.setdefault("server", self._server)
            raise

    def _client_for(self, server: AuthorizationServer) -> OAuthClient:
        if not self._chooses:
            return self._client
        has_secret, has_key = bool(self._client.secret), self._client.key is not None
        return replace(self._client, method=method_for(server, has_secret=has_secret, has_key=has_key))


class ClientCredentials:
    """`TokenSource`. `resource` overrides what the server calls itself."""

    def __init__(self, endpoint: TokenEndpoint, scopes: tuple[str, ...] = (), resource: str = "") -> None:
        self._endpoint = endpoint
        self._scopes = scopes
        self._resource = resource

    def __repr__(self) -> str:
        return f"ClientCredentials(scopes={' '.join(self._scopes) or '-'})"

    async def obtain(self, principal: Principal | None, asked: Asked) -> Token:
        found = await self._endpoint.found(asked)
        scopes = chosen_scopes(self._scopes, asked.challenge, found, asked.scopes)
        form = {
            "grant_type": "client_credentials",
            "scope": " ".join(scopes),
            "resource": self._resource or found.resource,
        }
        return await self._endpoint.ask(found, form)

    async def renew(self, principal: Principal | None, token: Token, asked: Asked) -> Token:
        # RFC 6749 §4.4.3: there is no refresh token; another one is asked for.
        return await self.obtain(principal, asked)
