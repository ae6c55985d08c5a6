"""The seams of signing in to servers: what a transport asks for, what gets tokens, and how it talks HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from node.credentials.challenge import Challenge
from proto.errors import Unavailable
from proto.records import Principal

EVERYBODY: tuple[str, ...] = ()
"""Whose a connection is that anybody's calls may use."""


class ConsentNeeded(Unavailable):
    """Only this principal itself can let this node act for it at `server`: nothing was sent.

    `principal` is None where it is the server's lists that wait for somebody's consent.
    """

    def __init__(self, server: str, principal: Principal | None, scopes: tuple[str, ...] = ()) -> None:
        who = "somebody" if principal is None else "you"
        super().__init__(f"server {server!r} waits until {who} agreed that this node may sign in there", server=server)
        self.server = server
        self.principal = principal
        self.scopes = scopes


class SignInNeeded(Unavailable):
    """The caller has to come to this node with other credentials first; nobody else was asked."""


@dataclass(frozen=True, slots=True)
class Token:
    """An access token of `issuer`, good until `expires_s` (unix seconds; 0: nobody said). Not shown by repr."""

    access_token: str = field(repr=False)
    expires_s: int = 0
    scopes: tuple[str, ...] = ()
    refresh_token: str = field(default="", repr=False)
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a token must be good for: the last `challenge` of the server, and the `scopes` that it demanded of this
    caller beyond those of the configuration. `step_up`: that demand is why a token is fetched."""

    challenge: Challenge | None = None
    scopes: tuple[str, ...] = ()
    step_up: bool = False


class UpstreamCredentials(Protocol):
    """How this node signs in to one server, for whom. Never shows a secret: not in an error, a log or a repr."""

    @property
    def per_principal(self) -> bool:
        """Does the server see different callers for different principals?"""

    def whose(self, principal: Principal, via: tuple[str, ...]) -> tuple[str, ...]:
        """Principals of whom this is equal share tokens and connections; `EVERYBODY`: all do.

        `via` names the nodes that the call passed. Raises `Unavailable` for a caller who cannot be served at all.
        """

    async def headers(self, principal: Principal | None) -> Mapping[str, str]:
        """All that goes with requests on behalf of a principal, or (None) for the server's lists, the server's fixed
        headers among it. The same object while nothing changes.

        Raises `ConsentNeeded`, or `Unavailable` naming the server, the cause and the mend.
        """

    async def refused(
        self, principal: Principal | None, status: int, www_authenticate: str, sent: Mapping[str, str]
    ) -> bool:
        """The server answered 401 or 403 to the headers `sent`: may the request be sent once more, with new ones?

        Raises as `headers`.
        """

    def describe(self) -> str:
        """Where an operator looks if the server refuses them: `credentials in its 'headers' are …`."""

    def when_forgotten(self, do: Callable[[tuple[str, ...]], None]) -> None:
        """`do` is told of whom (`whose`) connections must not be used any more."""

    async def close(self) -> None: ...


class TokenSource(Protocol):
    """Where the tokens for one server come from. One call at a time for each principal."""

    async def obtain(self, principal: Principal | None, asked: Asked) -> Token:
        """Raises `ConsentNeeded` or `Unavailable`. None: for the server's lists."""

    async def renew(self, principal: Principal | None, token: Token, asked: Asked) -> Token:
        """Another one: the server takes this one no longer, or its time is over."""


class OAuthHttp(Protocol):
    """HTTP with authorization servers: no redirects, no cookies, bounded time and size.

    `learned`: the URL was not written by the operator, so it must not lead into the node's own networks. Raises
    `Unavailable` naming the address (without its query) and the cause. What is not a JSON object counts as `{}`.
    """

    async def get_json(self, url: str, *, learned: bool) -> tuple[int, dict[str, Any]]: ...

    async def post_form(
        self, url: str, form: Mapping[str, str], headers: Mapping[str, str], *, learned: bool
    ) -> tuple[int, dict[str, Any]]: ...

    async def post_json(
        self, url: str, body: Mapping[str, Any], headers: Mapping[str, str], *, learned: bool
    ) -> tuple[int, dict[str, Any]]: ...
