"""Bearer tokens for one server: got when they are needed, kept while they are good, never another's.

A refusal is answered with one new token (401), or with one that bears more scopes (403, where they may be asked for);
then with the server's own word.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from node.credentials.challenge import Challenge, parse_challenge
from node.credentials.discovery import Discovery
from node.credentials.ports import EVERYBODY, Asked, ConsentNeeded, SignInNeeded, Token, TokenSource
from node.credentials.single_flight import SingleFlight
from node.credentials.tokens import TokenRefused
from proto.errors import Unavailable
from proto.records import Principal

LEEWAY_S = 30.0
"""A token is replaced so long before its end, or a tenth of its life if that is less: it must still hold there."""
RENEW_EVERY_S = 10.0
"""A token that was got because of a 401 and is refused too: so long nobody asks for another."""
STEPS_MAX = 3
"""So often the scopes of one token may grow."""
FAILED_S = 2.0
"""So long a failure is told again before the authorization server is asked again."""
HELD_MAX = 10_000
"""Principals whose tokens are kept; of more, those used longest ago are got anew when they come back."""

Whose = Callable[[Principal, bool], tuple[str, ...]]
_LISTING = ("", "listing")


@dataclass(slots=True)
class _Held:
    """One token, and the headers that it makes. `more`: scopes that were demanded on the way to it."""

    token: Token
    headers: Mapping[str, str] = field(repr=False)
    renew_at: float
    more: tuple[str, ...] = ()
    steps: int = 0
    refused_at: float = float("-inf")
    """When a 401 was the reason for this token."""


class BearerCredentials:
    """`UpstreamCredentials`. `base` are the server's fixed headers.

    `node` is this node's name. `whose` tells callers apart, by (principal, did it come in here); None: all are one.
    `eager`: the lists, too, are asked for with a token from the first request on; otherwise the server has to ask for
    one, and so says which scopes it wants. `steps_up`: scopes may be asked for that nobody configured. `closes` end
    with it. `clock` gives unix seconds. Failures, too, are kept for `HELD_MAX` principals at most.
    """

    def __init__(
        self,
        server: str,
        source: TokenSource,
        *,
        node: str = "",
        whose: Whose | None = None,
        base: Mapping[str, str] | None = None,
        discovery: Discovery | None = None,
        eager: bool = False,
        steps_up: bool = True,
        closes: Sequence[Callable[[], Awaitable[None]]] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._server = server
        self._source = source
        self._node = node
        self._whose = whose
        self._base = dict(base or {})
        self._discovery = discovery
        self._eager = eager
        self._steps_up = steps_up
        self._closes = closes
        self._clock = clock
        self._challenge: Challenge | None = None
        self._held: OrderedDict[tuple[str, ...], _Held] = OrderedDict()
        self._failed: OrderedDict[tuple[str, ...], tuple[float, Unavailable]] = OrderedDict()
        self._flights: SingleFlight[_Held] = SingleFlight()
        self._drops = 0
        self._on_forgotten: Callable[[tuple[str, ...]], None] = lambda _whose: None

    def __repr__(self) -> str:
        return f"BearerCredentials({self._server} {type(self._source).__name__} tokens={len(self._held)})"

    @property
    def per_principal(self) -> bool:
        return self._whose is not None

    def whose(self, principal: Principal, via: tuple[str, ...]) -> tuple[str, ...]:
        if self._whose is None:
            return EVERYBODY
        # Between nodes, TLS proves whom `via` names: a peer cannot say that a caller came in here.
        return self._whose(principal, all(name == self._node for name in via))

    def describe(self) -> str:
        return "the token that its 'auth' gets is not taken; look at the scopes, resource and issuer there"

    async def headers(self, principal: Principal | None) -> Mapping[str, str]:
        key = self._key(principal)
        held = self._held.get(key)
        if held is not None:
            if self._clock() < held.renew_at:
                return held.headers
        elif principal is None and self._challenge is None and not self._eager:
            return self._base
        return (await self._flights.run(key, lambda: self._fresh(key, principal))).headers

    async def refused(
        self, principal: Principal | None, status: int, www_authenticate: str, sent: Mapping[str, str]
    ) -> bool:
        key = self._key(principal)
        held = self._held.get(key)
        challenge = parse_challenge(www_authenticate)
        if held is not None and held.headers is not sent:
            # Another request was refused before this one, and has done what there was to do.
            return True
        if status == 401:
            self._challenge = challenge or self._challenge or Challenge()
            if held is not None and self._clock() < held.refused_at + RENEW_EVERY_S:
                return False
            await self._flights.run(key, lambda: self._renewed(key, principal, held))
            return True
        if challenge is None or challenge.error != "insufficient_scope":
            return False
        await self._flights.run(key, lambda: self._stepped_up(key, principal, challenge, held))
        return True

    def forget(self, principal: Principal | None) -> None:
        """Its grant is gone: its token is used no more, nor are its connections."""
        self.drop(self._key(principal))

    def drop(self, whose: tuple[str, ...]) -> None:
        """As `forget`, by what `whose` says of a principal."""
        self._drops += 1
        self._held.pop(whose, None)
        self._failed.pop(whose, None)
        self._on_forgotten(whose)

    def when_forgotten(self, do: Callable[[tuple[str, ...]], None]) -> None:
        self._on_forgotten = do

    async def close(self) -> None:
        await self._flights.close()
        if self._discovery is not None:
            await self._discovery.close()
        for close in self._closes:
            await close()
        self._held.clear()

    # ---- one flight for each principal -----------------------------------------------------------

    async def _fresh(self, key: tuple[str, ...], principal: Principal | None) -> _Held:
        held = self._held.get(key)
        if held is None:
            return await self._got(key, principal, None)
        try:
            return await self._got(key, principal, held)
        except (ConsentNeeded, SignInNeeded, TokenRefused):
            raise
        except Unavailable:
            # The authorization server is away for a moment; the token has some life left.
            if held.token.expires_s <= self._clock():
                raise
            held.renew_at = min(held.token.expires_s, self._clock() + FAILED_S)
            self._failed.pop(key, None)
            return held

    async def _renewed(self, key: tuple[str, ...], principal: Principal | None, held: _Held | None) -> _Held:
        if self._discovery is not None and held is not None:
            self._discovery.forget()
        got = await self._got(key, principal, held)
        if held is not None:
            got.refused_at = self._clock()
        return got

    async def _stepped_up(
        self, key: tuple[str, ...], principal: Principal | None, challenge: Challenge, held: _Held | None
    ) -> _Held:
        had = held.more if held is not None else ()
        known = set(had) | set(held.token.scopes if held is not None else ())
        missing = [scope for scope in challenge.scopes if scope not in known]
        steps = held.steps if held is not None else 0
        if not self._steps_up or not missing or steps >= STEPS_MAX:
            wanted = ", ".join(challenge.scopes) or "more than it says"
            mend = (
                "allow them to this node's client at the authorization server"
                if self._steps_up
                else "add them to 'scopes' of its 'auth'"
            )
            raise Unavailable(
                f"server {self._server!r} wants a token with the scopes {wanted}, which this node does not get; {mend}",
                server=self._server,
                scopes=list(challenge.scopes),
            )
        # What was granted before is asked for again, beside what is missing now (MCP 2026-07-28).
        granted = held.token.scopes if held is not None else ()
        more = tuple(dict.fromkeys((*granted, *had, *challenge.scopes)))
        got = await self._got(key, principal, None, more, step_up=True)
        got.steps = steps + 1
        return got

    async def _got(
        self,
        key: tuple[str, ...],
        principal: Principal | None,
        old: _Held | None,
        more: tuple[str, ...] | None = None,
        *,
        step_up: bool = False,
    ) -> _Held:
        now = self._clock()
        until, error = self._failed.get(key, (0.0, None))
        if error is not None and now < until:
            raise error
        scopes = more if more is not None else (old.more if old is not None else ())
        asked = Asked(self._challenge, scopes, step_up)
        drops = self._drops
        try:
            if old is None:
                token = await self._source.obtain(principal, asked)
            else:
                token = await self._source.renew(principal, old.token, asked)
        except (ConsentNeeded, SignInNeeded):
            self._held.pop(key, None)
            raise
        except Unavailable as e:
            if isinstance(e, TokenRefused):
                self._held.pop(key, None)
            self._failed[key] = (self._clock() + FAILED_S, e)
            _bounded(self._failed)
            raise
        self._failed.pop(key, None)
        headers = {**self._base, "Authorization": f"Bearer {token.access_token}"}
        held = _Held(token, headers, _renew_at(token, self._clock()), scopes, old.steps if old is not None else 0)
        # What was dropped while this was under way may have been this very one: it serves those who wait, and goes.
        if drops == self._drops:
            self._held[key] = held
            self._held.move_to_end(key)
            _bounded(self._held)
        return held

    def _key(self, principal: Principal | None) -> tuple[str, ...]:
        if principal is None or self._whose is None:
            return _LISTING
        return self._whose(principal, True)


def _renew_at(token: Token, now: float) -> float:
    if not token.expires_s:
        return float("inf")
    return token.expires_s - min(LEEWAY_S, (token.expires_s - now) / 10)


def _bounded(
    table: OrderedDict[tuple[str, ...], _Held] | OrderedDict[tuple[str, ...], tuple[float, Unavailable]],
) -> None:
    while len(table) > HELD_MAX:
        table.popitem(last=False)
