"""The straight path of one call: route → admit → choose an owner → run → settle.

A call enters here once at the entry node (`call`) and once more at the owner when a peer forwards it (`answer`);
each side applies its own guard. What runs a call, a server here or a peer, is a `Target`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from node.balance import Candidate
from node.catalog import Catalog, Member, Route, Server, unknown_server
from node.choosing import NAMED, Chooser, not_up
from node.ports import Action, Caller, Guard, Visibility
from node.retries import ATTEMPTS_MAX, RetryBudgets, may_run_again, not_tried_elsewhere
from node.standing import Standing
from proto.calls import Answer, Call, Exchange, Target
from proto.errors import Conflict, Expired, Fault, Forbidden, MeshError, OutcomeUnknown, Unavailable, Unknown
from proto.names import NodeId
from proto.records import Kind

log = logging.getLogger("toolmesh.gateway")

BUDGET_MS = 300_000
RECENT_MAX = 1_000

CANCELLED = "cancelled"
"""The outcome of a call that its caller gave up."""

HOP_METHODS = frozenset(
    {"initialize", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "subscriptions/listen"}
    | {"tasks/list"}
)
"""Requests about the connection that they come on, or about everything ever asked on it: not another hop's."""

FAILURES = (Unavailable, Expired, OutcomeUnknown, Fault)
"""What says something about the server, or the way to it, and nothing about the caller."""


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


@dataclass(slots=True)
class Counters:
    """Since the start, of calls that passed this node: by outcome, and what was done about failures."""

    outcomes: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    retries_refused: int = 0
    ejections: int = 0


class Gateway:
    """Where every call of this node passes. `draw(n)` gives an integer in [0, n); `clock` is monotonic, in seconds.

    `draining`: peers are asked to choose others, and whoever comes is served. `refusing`: nothing new is taken. Of the
    calls `in_flight` some run `for_peers`.
    """

    def __init__(
        self,
        catalog: Catalog,
        guard: Guard,
        *,
        local: Callable[[str], Target],
        remote: Callable[[str], Target],
        draw: Callable[[int], int] = secrets.randbelow,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._guard = guard
        self._local = local
        self._remote = remote
        self._clock = clock
        self._chooser = Chooser(catalog, draw, clock)
        self._budgets = RetryBudgets()
        self.counters = Counters()
        self.draining = False
        self.refusing = False
        self.recent: deque[CallRecord] = deque(maxlen=RECENT_MAX)
        self.in_flight = 0
        self.for_peers = 0
        self._idle = asyncio.Event()

    def __repr__(self) -> str:
        return f"Gateway({self.in_flight} in flight, {self.calls_total} done)"

    @property
    def me(self) -> str:
        return self._catalog.me.name

    @property
    def calls_total(self) -> int:
        return sum(self.counters.outcomes.values())

    @property
    def calls_failed(self) -> int:
        """What neither succeeded nor was given up by its caller."""
        return sum(n for outcome, n in self.counters.outcomes.items() if outcome not in ("ok", CANCELLED))

    @property
    def standings(self) -> dict[str, Standing]:
        """How each server that was called has fared, by qualified name."""
        return self._chooser.standings.known

    def candidates(self, route: Route, asked: str) -> list[tuple[Server, Candidate]]:
        """The members that a call of the tool `asked` could go to, as `balance.choose` would see them now.

        Those with another definition than most members share are not among them; without a tool, all members are.
        """
        member = route.member(Kind.TOOL, asked) if asked else None
        servers = route.servers
        if member is not None:
            servers = tuple(s for s in servers if (m := s.members[Kind.TOOL].get(asked)) and m.digest == member.digest)
        return self._chooser.candidates(servers)

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
        if self.refusing:
            raise _stopping()
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
        outcome, server = "fault", route.lead
        self.in_flight += 1
        try:
            await self._guard.admit(call, route.lead.resource(asked))
            session = self._chooser.session(route, call)
            if len(route.servers) > 1:
                self._budgets.of(route.name).called()
            error: MeshError | None = None
            while True:
                if error is None:
                    server = self._chooser.choose(route, call, asked, session)
                else:
                    server = self._another(route, call, asked, session, tried, error)
                tried.append(server.qualified)
                # Each attempt gets what is left of the budget, and an id of its own: an owner that refused one
                # attempt must be free to take another.
                spent_ms = int((time.perf_counter() - started) * 1000)
                if spent_ms >= call.budget_ms:
                    raise error or Expired(f"the call's {call.budget_ms} ms were over before an owner took it")
                attempt = call
                if len(tried) > 1 or spent_ms or server.name != call.server:
                    attempt = _attempt(call, server, call.budget_ms - spent_ms, len(tried))
                try:
                    if session:
                        answer = await self._in_session(session, route.name, server, attempt, exchange)
                    else:
                        answer = await self._at(server, tried[-1], attempt, exchange)
                    break
                except MeshError as e:
                    # Once it may have run, a later refusal does not unsay it.
                    error = error if isinstance(error, OutcomeUnknown) else e
                    if not self._open(e, route, server, asked, session, tried):
                        raise error from None
            outcome = "tool_error" if _failed(answer) else "ok"
            return await self._guard.result(call, answer)
        except MeshError as e:
            outcome = e.kind
            if isinstance(e, OutcomeUnknown):
                # Whoever asks what became of it needs to know whom; told alike next door and across the mesh.
                e.data.setdefault("owner", server.owner.id.name)
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
            outcomes = self.counters.outcomes
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
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

    def _another(
        self, route: Route, call: Call, asked: str, session: str, tried: list[str], error: MeshError
    ) -> Server:
        """Whom to ask after an `error`. Raises that error where nobody is left, or too much was retried."""
        try:
            server = self._chooser.choose(route, call, asked, session, tried, again=isinstance(error, OutcomeUnknown))
        except Unavailable as e:
            if "state_lost" in e.data:
                raise type(error)(f"{error.message}; {e.message}", **error.data, state_lost=True) from None
            # What the last owner said tells more.
            raise error from None
        if not self._budgets.of(route.name).take(self._clock()):
            self.counters.retries_refused += 1
            raise not_tried_elsewhere(error, route.name)
        self.counters.retries += 1
        log.info("%s: %s; trying %s", tried[-1], error.message, server.qualified)
        return server

    def _open(self, error: MeshError, route: Route, server: Server, asked: str, session: str, tried: list[str]) -> bool:
        """Whether another attempt may follow this end of the last one."""
        if len(tried) >= ATTEMPTS_MAX or not may_run_again(error, server.retry_safe(asked)):
            return False
        if not session or isinstance(error, OutcomeUnknown):
            return True
        # A session's state is where its calls ran, and nowhere else; that it is lost must be told.
        return "state_lost" not in error.data and self._chooser.bonds.refused(session, route.name)

    async def _at(self, server: Server, qualified: str, call: Call, exchange: Exchange) -> Answer:
        node = server.owner.id.name
        target = self._local(server.name) if node == self._catalog.me.name else self._remote(node)
        standing = self._chooser.standings.of(qualified)
        standing.begin()
        started = time.perf_counter()
        try:
            answer = await target.call(call, exchange)
        except FAILURES as e:
            if standing.failed(self._clock()):
                self.counters.ejections += 1
                log.warning("%s keeps failing and is left alone where others can be asked: %s", qualified, e.message)
            raise
        except MeshError:
            standing.refused()
            raise
        except BaseException:
            standing.left()
            raise
        standing.answered((time.perf_counter() - started) * 1000)
        return answer

    async def _in_session(self, session: str, service: str, server: Server, call: Call, exchange: Exchange) -> Answer:
        bond = self._chooser.bonds.find(session, service)
        if bond is None:
            # Beyond its bound: the session is forgotten already.
            return await self._at(server, server.qualified, call, exchange)
        bond.running += 1
        ran = True
        try:
            return await self._at(server, server.qualified, call, exchange)
        except Unavailable as e:
            ran = False
            if bond.proven and e.data.get("stopping"):
                raise self._chooser.state_lost(session, service, bond.server, "is stopping") from None
            raise
        finally:
            bond.running -= 1
            bond.proven = bond.proven or ran

    # ---- at the owner ---------------------------------------------------------------------------

    async def answer(self, call: Call, exchange: Exchange, peer: NodeId) -> Answer:
        """Run what a peer forwards, under this node's own guard. Raises any `MeshError`."""
        if self.refusing:
            raise _stopping()
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
        self.for_peers += 1
        try:
            return await self._run(call, Route(call.server, (server,)), asked, exchange)
        finally:
            self.for_peers -= 1


def _attempt(call: Call, server: Server, budget_ms: int, n: int) -> Call:
    call_id = call.call_id if n == 1 else f"{call.call_id}-{n}"
    return replace(call, call_id=call_id, server=server.name, budget_ms=budget_ms)


def _stopping() -> Unavailable:
    return Unavailable("this node is stopping and took no part of the call; call again, at another node", stopping=True)


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
