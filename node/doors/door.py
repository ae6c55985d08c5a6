"""The one way in: what holds for every request, whatever its route, before the router has looked at it.

Cheapest first, and nothing of it depends on who asks:

    version     HTTP/1.1 or 1.0, or 505
    path        written in the one canonical way, or 400
    address     of the client, behind trusted proxies the one that they name: admitted by http.addresses, or 403
    Host        a name of this node, or 421; exactly one, or 400
    Origin      none, a page of this node, or one that may call; or 403
    rate        limits.address, or 429; the same for credentials from where too many were wrong
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import HttpVersion10, HttpVersion11, web
from multidict import istr

from node.doors.addresses import EVERYWHERE, Addresses, Network, parse, within
from node.doors.answers import guard_headers, refusal
from node.doors.forwarded import read_client, remember_peer
from node.doors.names import Names, host_in
from node.doors.paths import is_canonical
from node.doors.patience import Reading
from node.doors.visitors import Connections, Visits
from node.ingress.incoming import API_KEY, AUTHORIZATION, NO_GUESS
from node.settings.limits import AddressLimit

log = logging.getLogger("toolmesh.doors")

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

REFUSALS = (400, 403, 421, 429, 505)
"""Every HTTP status that the doors give."""
_VERSIONS = (HttpVersion11, HttpVersion10)
_HOST = istr("Host")
_ORIGIN = istr("Origin")


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """`secure`: the listener speaks TLS. Times: `head_s` for the head of a connection's first request, `idle_s` from an
    answer to the end of the next one's head, `body_s` for a whole body, `stall_s` without a byte of an answer taken,
    `handshake_s` for TLS."""

    names: Names = field(default_factory=Names)
    addresses: Addresses = EVERYWHERE
    trusted: tuple[Network, ...] = ()
    limit: AddressLimit = field(default_factory=AddressLimit)
    connections_max: int = 16_384
    connections_per_address_max: int = 1_024
    secure: bool = False
    head_s: float = 30.0
    idle_s: float = 75.0
    body_s: float = 60.0
    stall_s: float = 60.0
    handshake_s: float = 10.0


@dataclass(slots=True)
class Visitor:
    """One connection: both of its addresses. `proxy`: it is a trusted one's, and carries the requests of others."""

    address: str
    local: str
    proxy: bool


class Doors:
    """One per listener. `guarded` wraps its application's handler. `barred(address)` is told of each request whose
    credentials are not looked at."""

    def __init__(self, settings: DoorSettings, barred: Callable[[str], None] = lambda _: None) -> None:
        self._settings = settings
        self._barred = barred
        self.connections = Connections(settings.connections_max, settings.connections_per_address_max)
        self.visits = Visits(settings.limit)
        self.stall_s = settings.stall_s
        self.reading: dict[int, Reading] = {}
        """Requests whose body had not arrived when they began, and since when (loop time)."""
        self.refusals: Counter[int] = Counter()
        """By HTTP status."""
        self._known: dict[tuple[str, str], bool] = {}

    def visitor(self, address: str, local: str) -> Visitor | None:
        """Who is on a new connection; None: whoever it is may not connect."""
        trusted = self._settings.trusted
        parsed = parse(address) if trusted else None
        proxy = parsed is not None and within(parsed, trusted)
        if not (proxy or self._settings.addresses.admits(address)):
            log.info("%s is turned away by http.addresses", address)
            return None
        return Visitor(address, local, proxy)

    def enter(self, visitor: Visitor) -> bool:
        """Is there room for one more? Each that is let in must `leave`."""
        return self.connections.enter(visitor.address, visitor.proxy)

    def leave(self, visitor: Visitor) -> None:
        self.connections.leave(visitor.address)

    def guarded(self, handler: Handler) -> Handler:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            visitor: Visitor = request.protocol.visitor  # type: ignore[attr-defined]
            peer = visitor.address
            if visitor.proxy:
                peer = read_client(request, peer, self._settings.trusted)
                remember_peer(request, peer)
            refused = self._refused(request, visitor, peer)
            if refused is not None:
                return refused
            if not request.content.is_eof():
                return await self._with_body(handler, request, peer)
            response = await handler(request)
            if response.status == 401:
                self._count_failure(request, peer)
            return response

        return handle

    async def prepared(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """For `on_response_prepare`: streams and upgrades are begun long before their handler returns."""
        guard_headers(response.headers, secure=self._settings.secure)

    # ---- what every request must hold ------------------------------------------------------------

    def _refused(self, request: web.BaseRequest, visitor: Visitor, peer: str) -> web.Response | None:
        settings, headers, url = self._settings, request.headers, request.rel_url
        path = url.raw_path
        if request.version not in _VERSIONS:
            return self._no(request, 505, "this node speaks HTTP/1.1 and HTTP/1.0")
        if not is_canonical(path):
            return self._no(
                request, 400, "the path is not written as it would be read: without //, dots, ; and needless %"
            )
        if visitor.proxy and not settings.addresses.admits(peer):
            return self._no(request, 403, "requests from your address are not taken here")
        hosts = headers.getall(_HOST, ())
        if len(hosts) != 1:
            return self._no(request, 400, f"a request has one Host header, not {len(hosts)}")
        if not self._named(hosts[0], visitor.local):
            return self._no(request, 421, f"this node is not called {hosts[0][:100]!r}; add it to http.allowed_hosts")
        # RFC 9112 §3.2.2: where the whole address is in the request line, its host is the one that counts.
        if request.host != hosts[0] and host_in(request.host) != host_in(hosts[0]):
            return self._no(request, 400, "the address and the Host header name two hosts")
        origins = headers.getall(_ORIGIN, ())
        if origins and not (len(origins) == 1 and self._may_call(origins[0], hosts[0], visitor.local)):
            return self._no(request, 403, "this Origin may not call; add it to http.allowed_origins")
        if self.visits.counts and (wait_s := self.visits.asked(peer)):
            return self._later(request, "your address asks more often than limits.address allows", wait_s)
        if (wait_s := self.visits.barred_s(peer)) and _presents(request):
            self._barred(peer)
            return self._later(request, "too many credentials from your address were refused", wait_s)
        return None

    def _named(self, header: str, local: str) -> bool:
        # Always the same few from honest clients; others must not make it grow.
        known = self._known.get((header, local))
        if known is None:
            known = self._settings.names.host(header, local)
            if len(self._known) < 1_024:
                self._known[header, local] = known
        return known

    def _may_call(self, origin: str, host: str, local: str) -> bool:
        """Pages of this node's own are of its own name, which Host has just been found to be."""
        own = f"{'https' if self._settings.secure else 'http'}://{host}"
        return origin.lower() == own.lower() or self._settings.names.origin(origin, local)

    async def _with_body(self, handler: Handler, request: web.BaseRequest, peer: str) -> web.StreamResponse:
        self.reading[id(request)] = request, asyncio.get_running_loop().time()
        try:
            response = await handler(request)
        finally:
            self.reading.pop(id(request), None)
        if response.status == 401:
            self._count_failure(request, peer)
        return response

    def _count_failure(self, request: web.BaseRequest, peer: str) -> None:
        if _presents(request) and NO_GUESS not in request:
            self.visits.failed(peer)

    def _no(self, request: web.BaseRequest, status: int, detail: str) -> web.Response:
        self.refusals[status] += 1
        log.debug("%s %s is refused: %d %s", request.method, request.rel_url.raw_path, status, detail)
        return refusal(request.rel_url.raw_path, status, detail, secure=self._settings.secure)

    def _later(self, request: web.BaseRequest, detail: str, wait_s: float) -> web.Response:
        self.refusals[429] += 1
        path = request.rel_url.raw_path
        after_s = max(1, math.ceil(wait_s))
        return refusal(
            path, 429, f"{detail}; try again in {after_s} s", secure=self._settings.secure, retry_after_s=after_s
        )

    def __repr__(self) -> str:
        return f"Doors({self.connections!r})"


def _presents(request: web.BaseRequest) -> bool:
    return AUTHORIZATION in request.headers or API_KEY in request.headers
