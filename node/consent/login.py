"""Signing a browser in at a configured issuer: the authorization-code flow, for a token that is meant for this node.

The access token is shown to the node's own authenticator, like one that an agent brings, and is kept nowhere. So what a
person is after this sign-in is exactly what an agent with a token of this issuer is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from node.consent.pages import Login
from node.credentials.client_auth import OAuthClient, method_for
from node.credentials.consent_flow import Flows
from node.credentials.discovery import AGE_S, Discovery
from node.credentials.metadata import AuthorizationServer
from node.credentials.ports import OAuthHttp
from node.credentials.single_flight import SingleFlight
from node.credentials.tokens import request_token
from proto.errors import Unavailable, Unknown

BEGIN, CALLBACK = "/oauth/login", "/oauth/login/callback"


@dataclass(frozen=True, slots=True)
class LoginIssuer:
    """An issuer at which this node has a client: `auth.issuers[].login`."""

    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    scopes: tuple[str, ...] = ("openid",)


class Logins:
    """`public_url()` is this node's own address, without a last slash: the audience of the tokens that it asks for."""

    def __init__(self, issuers: Sequence[LoginIssuer], http: OAuthHttp, public_url: Callable[[], str]) -> None:
        self._issuers = tuple(issuers)
        self._http = http
        self._public_url = public_url
        self._flows = Flows()
        self._servers: dict[str, tuple[float, AuthorizationServer]] = {}
        self._asking: SingleFlight[AuthorizationServer] = SingleFlight()
        self.offered = tuple(Login(one.issuer, f"{BEGIN}/{n}") for n, one in enumerate(self._issuers))

    def __repr__(self) -> str:
        return f"Logins({', '.join(one.issuer for one in self._issuers) or 'none'})"

    async def begin(self, number: int, browser: str, note: str) -> str:
        """The URL at the issuer. Raises `Unknown`, or `Unavailable` where nobody can be sent there."""
        if not 0 <= number < len(self._issuers):
            raise Unknown("there is no such way to sign in")
        one = self._issuers[number]
        server = await self._server(one.issuer)
        method = method_for(server, has_secret=True, has_key=False) if one.client_secret else "none"
        client = OAuthClient(one.client_id, one.client_secret, method)
        return self._flows.begin(
            one.issuer,
            None,
            server,
            client,
            f"{self._public_url()}{CALLBACK}",
            resource=self._public_url(),
            scopes=one.scopes,
            browser=browser,
            note=note,
        )

    async def close(self) -> None:
        await self._asking.close()

    async def _server(self, issuer: str) -> AuthorizationServer:
        """Asked for once an hour: whoever comes to this page makes this node ask nobody."""
        until, known = self._servers.get(issuer, (0.0, None))
        if known is not None and time.monotonic() < until:
            return known

        async def ask() -> AuthorizationServer:
            found = await Discovery("sign-in", issuer, self._http).authorization_server(issuer, learned=False)
            self._servers[issuer] = time.monotonic() + AGE_S, found
            return found

        return await self._asking.run(issuer, ask)

    async def finish(self, parameters: Mapping[str, str], browser: str) -> tuple[str, str]:
        """The access token, and the note that the flow was begun with. Raises `Invalid` or `Unavailable`."""
        flow, code = self._flows.take(parameters, browser)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": flow.redirect_uri,
            "code_verifier": flow.verifier,
            "resource": flow.resource,
        }
        token = await request_token(self._http, flow.server, flow.client, form, learned=False)
        if not token.access_token:
            raise Unavailable(f"{flow.server.issuer} gave no access token")
        return token.access_token, flow.note
