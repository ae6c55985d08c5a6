"""One call, from the first owner asked to its end: who is asked next, what is counted, what operators read of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from node.catalog import Route, Server
from node.choosing import Chooser
from node.ports import CallRecord, Guard, Resource
from node.recording import Recording
from node.retries import ATTEMPTS_MAX, RetryBudgets, may_run_again, not_tried_elsewhere
from node.task_ids import TaskExchange, outward
from proto.calls import Answer, Call, Exchange, Target
from proto.errors import Expired, Fault, MeshError, OutcomeUnknown, Unavailable

log = logging.getLogger("toolmesh.gateway")

RECENT_MAX = 1_000

CANCELLED = "cancelled"
"""The outcome of a call that its caller gave up."""

FAILURES = (Unavailable, Expired, OutcomeUnknown, Fault)
"""What says something about the server, or the way to it, and nothing about the caller."""


@dataclass(slots=True)
class Counters:
    """Since the start, of calls that passed this node: by outcome, and what was done about failures."""

    outcomes: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    retries_refused: int = 0
    ejections: int = 0


class Attempts:
    """Runs calls at their owners, by another one where the first fails and it may run again.

    `me` is this node's name; `target(server)` gives what runs a server's calls, and raises `Unavailable` where nobody
    can. `clock` is monotonic, in seconds.
    """

    def __init__(
        self, me: str, guard: Guard, chooser: Chooser, target: Callable[[Server], Target], clock: Callable[[], float]
    ) -> None:
        self._me = me
        self._guard = guard
        self._chooser = chooser
        self._target = target
        self._clock = clock
        self._budgets = RetryBudgets()
        self.counters = Counters()
        self.recent: deque[CallRecord] = deque(maxlen=RECENT_MAX)
        self.in_flight = 0
        self._idle = asyncio.Event()

    def __repr__(self) -> str:
        return f"Attempts({self.in_flight} in flight)"

    async def drained(self) -> None:
        """Until no call runs; at once where none does."""
        while self.in_flight:
            self._idle.clear()
            await self._idle.wait()

    async def run(
        self, call: Call, route: Route, asked: str, exchange: Exchange, resources: Sequence[Resource]
    ) -> Answer:
        """Run it at a member of the route. `asked` is the tool or prompt, or empty; `resources` are what the call is
        about, at each member. Raises any `MeshError`."""
        started = time.perf_counter()
        tried: list[str] = []
        server, recording = route.lead, Recording(self._me)
        self.in_flight += 1
        try:
            recording.admission = admission = await self._guard.admit(call, *resources)
            call = admission.call
            if len(admission.allowed) < len(resources):
                route = _narrowed(route, resources, admission.allowed)
                server = route.lead
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
                attempt = (
                    call
                    if error is None and server.name == call.server
                    else _attempt(call, server, len(tried), started, error)
                )
                try:
                    if session:
                        answer = await self._in_session(session, route.name, server, attempt, exchange)
                    elif route.service:
                        answer = await self._at_any(server, tried[-1], attempt, exchange)
                    else:
                        answer = await self._at(server, tried[-1], attempt, exchange)
                    break
                except MeshError as e:
                    # Once it may have run, a later refusal does not unsay it.
                    error = error if isinstance(error, OutcomeUnknown) else e
                    if not self._open(e, route, server, asked, session, tried):
                        raise error from None
            recording.outcome = "tool_error" if _failed(answer) else "ok"
            recording.answer = answer
            return await self._guard.result(call, answer)
        except MeshError as e:
            recording.failed(e)
            if isinstance(e, OutcomeUnknown):
                # Whoever asks what became of it needs to know whom; told alike next door and across the mesh.
                e.data.setdefault("owner", server.owner.id.name)
            raise
        except asyncio.CancelledError:
            recording.outcome = CANCELLED
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
            outcomes[recording.outcome] = outcomes.get(recording.outcome, 0) + 1
            recording.attempts = len(tried)
            ended = recording.ended(call, route.name, asked or resources[0].tool, server)
            self.recent.append(ended.record)
            self._guard.settle(call, ended)

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
        target = self._target(server)
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

    async def _at_any(self, server: Server, qualified: str, call: Call, exchange: Exchange) -> Answer:
        """Nothing ties the caller to this owner of a service: tasks that it begins here must say where they run."""
        answer = await self._at(server, qualified, call, TaskExchange(qualified, exchange))
        return outward(qualified, call.method, answer)

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


def _attempt(call: Call, server: Server, n: int, started: float, error: MeshError | None) -> Call:
    """The call as its `n`th owner gets it, with what is left of the budget, and an id of its own: an owner that refused
    one attempt must be free to take another. Where nothing is left, raises the last `error`, or `Expired`.
    """
    left_ms = call.budget_ms - int((time.perf_counter() - started) * 1000)
    if left_ms <= 0:
        raise error or Expired(f"the call's {call.budget_ms} ms were over before an owner took it")
    call_id = call.call_id if n == 1 else f"{call.call_id}-{n}"
    return replace(call, call_id=call_id, server=server.name, budget_ms=left_ms)


def _narrowed(route: Route, resources: Sequence[Resource], allowed: Sequence[Resource]) -> Route:
    """The members where the guard lets the call run."""
    pairs = zip(route.servers, resources, strict=True)
    return Route(route.name, tuple(s for s, r in pairs if any(r is a for a in allowed)), route.service)


def _failed(answer: Answer) -> bool:
    if "error" in answer:
        return True
    result = answer.get("result")
    return isinstance(result, dict) and result.get("isError") is True
