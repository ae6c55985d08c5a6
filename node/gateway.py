"""The straight path of one call: route → admit → choose an owner → run → settle.

A call enters here once at the entry node (`call`) and once more at the owner when a peer forwards it (`answer`);
each side applies its own guard. What runs a call, a server here or a peer, is a `Target`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from node.balance import Candidate, Latencies, choose
from node.catalog import SERVING, Catalog, Member, Route, Server, unknown_server
from node.ports import Action, Caller, Guard, Visibility
from proto.calls import Answer, Call, Exchange, Target
from proto.errors import Conflict, Expired, Fault, Forbidden, MeshError, Unavailable, Unknown
from proto.names import NodeId
from proto.records import Kind

log = logging.getLogger("toolmesh.gateway")

BUDGET_MS = 300_000
ATTEMPTS_MAX = 3
AFFINITIES_MAX = 50_000
RECENT_MAX = 1_000

CANCELLED = "cancelled"
"""The outcome of a call that its caller gave up."""

HOP_METHODS = frozenset(
    {"initialize", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "subscriptions/listen"}
    | {"tasks/list"}
)
"""Requests about the connection that they come on, or about everything ever asked on it: not another hop's."""

NAMED: dict[str, tuple[str, Kind]] = {
    "tools/call": ("name", Kind.TOOL),
    "prompts/get": ("name", Kind.PROMPT),
}
"""Method → (member of params that names what is asked for, its kind). Resource URIs may come from a template."""


class CallRecord(NamedTuple):
    """One finished call, for operators: who asked what of whom, where it ran, how it went. No arguments."""

    at_ms: int
    call_id: str
    subject: str
    server: str
    method: str
    tool: str
    entry: str
    owner: str
    region: str
    outcome: str
    took_ms: float
    attempts: int


class Gateway:
    """Where every call of this node passes. `draw(n)` gives an integer in [0, n)."""

    def __init__(
        self,
        catalog: Catalog,
        guard: Guard,
        *,
        local: Callable[[str], Target],
        remote: Callable[[str], Target],
        draw: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        self._catalog = catalog
        self._guard = guard
        self._local = local
        self._remote = remote
        self._draw = draw
        self._affinity: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._latencies = Latencies()
        self.draining = False
        self.recent: deque[CallRecord] = deque(maxlen=RECENT_MAX)
        self.calls_total = 0
        self.calls_failed = 0
        self.in_flight = 0
        self._idle = asyncio.Event()

    def __repr__(self) -> str:
        return f"Gateway({self.in_flight} in flight, {self.calls_total} done)"

    async def drained(self) -> None:
        """Until no call runs; at once where none does."""
        while self.in_flight:
            self._idle.clear()
            await self._idle.wait()

    # ---- at the entry node ----------------------------------------------------------------------

    async def call(
        self,
        name: str,
        method: str,
        params: dict[str, Any],
        caller: Caller,
        exchange: Exchange,
        *,
        budget_ms: int = BUDGET_MS,
    ) -> Answer:
        """Run an agent's request where it belongs. Raises any `MeshError`."""
        _refuse_hop_method(method)
        visibility = self._guard.visible(caller.principal, Action.CALL)
        route = self._catalog.route(name, visibility)
        member, asked = self._member(route, method, params, visibility)
        if asked and len(route.servers) > 1:
            servers = tuple(s for s in route.servers if visibility.allows(s.resource(asked)))
            route = Route(route.name, servers, route.service)
        call = Call(
            call_id=secrets.token_hex(16),
            server=route.lead.name,
            method=method,
            params=params,
            principal=caller.principal,
            budget_ms=budget_ms,
            era=caller.era,
            tool_digest=member.digest if member else b"",
            session_key=caller.session_key,
            client_capabilities=caller.client_capabilities,
            via=(self._catalog.me.name,),
            trace=caller.trace,
        )
        try:
            return await self._run(call, route, asked, exchange)
        except Forbidden:
            # Told in the very words of what does not exist; `settle` and the record of calls keep the truth.
            raise (_unknown(route, method, asked) if asked else unknown_server(name)) from None

    def _member(
        self, route: Route, method: str, params: dict[str, Any], visibility: Visibility
    ) -> tuple[Member | None, str]:
        named = NAMED.get(method)
        if named is None:
            return None, ""
        field, kind = named
        asked = params.get(field)
        if not isinstance(asked, str):
            # The server words its own complaint about its own parameters.
            return None, ""
        member = route.member(kind, asked)
        if member is None or not any(visibility.allows(s.resource(asked)) for s in route.servers):
            if not any(s.up for s in route.servers):
                # What a server that is not up would offer, nobody knows.
                raise not_up(route)
            raise _unknown(route, method, asked)
        return member, asked

    async def _run(self, call: Call, route: Route, asked: str, exchange: Exchange) -> Answer:
        started = time.perf_counter()
        tried: list[str] = []
        refused: Unavailable | None = None
        outcome, server = "fault", route.lead
        self.in_flight += 1
        try:
            await self._guard.admit(call, route.lead.resource(asked))
            while True:
                try:
                    server = self._choose(route, call, asked, tried)
                except Unavailable as e:
                    # Nobody else is left: what the last owner said tells more.
                    raise refused or e from None
                tried.append(server.qualified)
                # Each attempt gets what is left of the budget, and an id of its own: an owner that refused one
                # attempt must be free to take another.
                spent_ms = int((time.perf_counter() - started) * 1000)
                if spent_ms >= call.budget_ms:
                    raise Expired(f"the call's {call.budget_ms} ms were over before an owner took it")
                attempt = call
                if len(tried) > 1 or spent_ms or server.name != call.server:
                    attempt = _attempt(call, server, call.budget_ms - spent_ms, len(tried))
                try:
                    answer = await self._at(server, attempt, exchange)
                    break
                except Unavailable as e:
                    refused = e
                    if len(tried) >= min(ATTEMPTS_MAX, len(route.servers)) or self._bound(route, call):
                        raise
                    log.info("%s unavailable (%s); trying another owner", tried[-1], e.message)
            outcome = "tool_error" if _failed(answer) else "ok"
            return await self._guard.result(call, answer)
        except MeshError as e:
            outcome = e.kind
            raise
        except asyncio.CancelledError:
            outcome = CANCELLED
            raise
        except Exception as e:
            fault = Fault()
            log.exception("fault %s in call %s of %s", fault.data["fault_id"], call.method, call.server)
            raise fault from e
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()
            self.calls_total += 1
            self.calls_failed += outcome not in ("ok", CANCELLED)
            self._guard.settle(call, outcome)
            self.recent.append(
                CallRecord(
                    at_ms=int(time.time() * 1000),
                    call_id=call.call_id,
                    subject=call.principal.subject,
                    server=route.name,
                    method=call.method,
                    tool=asked,
                    entry=call.via[0] if call.via else "",
                    owner=server.owner.id.name,
                    region=server.owner.id.region,
                    outcome=outcome,
                    took_ms=round((time.perf_counter() - started) * 1000, 3),
                    attempts=len(tried),
                )
            )

    async def _at(self, server: Server, call: Call, exchange: Exchange) -> Answer:
        node = server.owner.id.name
        target = self._local(server.name) if node == self._catalog.me.name else self._remote(node)
        started = time.perf_counter()
        took_ms: float | None = None
        self._latencies.begin(node)
        try:
            answer = await target.call(call, exchange)
            took_ms = (time.perf_counter() - started) * 1000
            return answer
        finally:
            self._latencies.end(node, took_ms)

    def _choose(self, route: Route, call: Call, asked: str, tried: list[str]) -> Server:
        bound = self._bound(route, call)
        if not bound and len(route.servers) == 1 and not tried and route.lead.up:
            return route.lead
        servers = [s for s in route.servers if s.qualified not in tried]
        if call.tool_digest and (named := NAMED.get(call.method)):
            servers = [s for s in servers if (m := s.members[named[1]].get(asked)) and m.digest == call.tool_digest]
            if not servers and not tried:
                raise _changed(route, asked)
        if bound:
            held = self._held(route, call)
            if held is not None:
                if held not in servers:
                    raise _changed(route, asked)
                return held
        # One node may own several members of a service: a candidate stands for a server, not for its node.
        here = self._catalog.owners[self._catalog.me.name].place
        candidates = [self._candidate(s) for s in servers]
        picked = choose(here, candidates, self._draw)
        if picked is None:
            raise Unavailable(f"no owner of {route.name!r} can take the call now: {_states(route)}")
        chosen = next(s for s, c in zip(servers, candidates, strict=True) if c is picked)
        if bound:
            self._affinity[call.session_key, route.name] = chosen.qualified
            self._affinity.move_to_end((call.session_key, route.name))
            while len(self._affinity) > AFFINITIES_MAX:
                self._affinity.popitem(last=False)
        return chosen

    def _candidate(self, server: Server) -> Candidate:
        node = server.owner.id.name
        return Candidate(
            place=server.owner.place,
            alive=server.up,
            draining=server.owner.draining,
            in_flight=self._latencies.in_flight(node),
            latency_ms=self._latencies.average_ms(node),
        )

    def _bound(self, route: Route, call: Call) -> bool:
        """Calls of one session stay with one owner of a service unless every member says that it is stateless.

        Also while a service has one owner only: another may join, or the one of before may have left the lists.
        """
        return route.service and bool(call.session_key) and not all(s.stateless for s in route.servers)

    def _held(self, route: Route, call: Call) -> Server | None:
        name = self._affinity.get((call.session_key, route.name))
        if name is None:
            return None
        server = next((s for s in route.servers if s.qualified == name), None)
        if server is not None and server.up:
            self._affinity.move_to_end((call.session_key, route.name))
            return server
        # Said once; the next call of the session starts afresh with another owner.
        del self._affinity[call.session_key, route.name]
        raise Unavailable(
            f"{route.name!r} keeps state, and the owner that held this session's, {name!r}, is gone; "
            "its state is lost. Call again to start afresh with another owner",
            state_lost=True,
        )

    # ---- at the owner ---------------------------------------------------------------------------

    async def answer(self, call: Call, exchange: Exchange, peer: NodeId) -> Answer:
        """Run what a peer forwards, under this node's own guard. Raises any `MeshError`."""
        _refuse_hop_method(call.method)
        server = self._catalog.find(self._catalog.me.name, call.server)
        visibility = self._guard.visible(call.principal, Action.CALL)
        named = NAMED.get(call.method)
        asked = call.params.get(named[0]) if named else ""
        asked = asked if isinstance(asked, str) else ""
        if server is None or server.info is None or not visibility.allows(server.resource(asked)):
            raise Unknown(f"node {self._catalog.me.name!r} has no server {call.server!r}", server=call.server)
        if named and asked and call.tool_digest:
            member = server.members[named[1]].get(asked)
            if member is None or member.digest != call.tool_digest:
                raise Conflict(
                    f"{call.server!r} has changed {asked!r} since {peer.name!r} listed it; list or search again"
                )
        return await self._run(call, Route(call.server, (server,)), asked, exchange)


def _attempt(call: Call, server: Server, budget_ms: int, n: int) -> Call:
    call_id = call.call_id if n == 1 else f"{call.call_id}-{n}"
    return replace(call, call_id=call_id, server=server.name, budget_ms=budget_ms)


def _failed(answer: Answer) -> bool:
    if "error" in answer:
        return True
    result = answer.get("result")
    return isinstance(result, dict) and result.get("isError") is True


def _unknown(route: Route, method: str, asked: str) -> Unknown:
    what = "prompt" if method.startswith("prompts") else "tool"
    return Unknown(f"server {route.name!r} has no {what} {asked!r}", server=route.name)


def _refuse_hop_method(method: str) -> None:
    """What belongs to one connection would, on the one that all callers share, reach into other callers' calls."""
    if method.startswith("notifications/") or method in HOP_METHODS:
        raise Unknown(f"method {method!r} is not relayed", method=method)


def _changed(route: Route, asked: str) -> Conflict:
    return Conflict(f"no owner of {route.name!r} offers {asked!r} as it was listed; list or search again")


def not_up(route: Route) -> Unavailable:
    """Why nothing can be asked of these servers now; only of servers that the caller may see."""
    return Unavailable(f"{route.name!r} cannot be called now: {_states(route)}")


def _states(route: Route) -> str:
    return "; ".join(
        f"{s.owner.id.name} is {s.owner.liveness}"
        if s.owner.liveness not in SERVING
        else f"{s.name} on {s.owner.id.name} is {s.health.get('state') or 'not started'}"
        + (f" ({s.health['cause']})" if s.health.get("cause") else "")
        for s in route.servers
    )
