"""Calls of the simulation: streams of their own that break, questions about what became of a call, and retries.

The owner's book is the real `federation.dedupe.Repeats`, kept as `federation.answering` keeps it; the caller follows
`federation.asking`: a call whose stream broke is asked about, never sent again, and goes elsewhere only when the owner
says that it did not and will not run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from federation.dedupe import Dropped, Kept, Refused, Repeats, RunKey
from federation.events import CallsFailed
from tests.simulation.checks import Violation

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

TRIES_MAX = 3
REDIAL_MS = 300
RECOVERY_MS = 10_000
KEEP_S = 20.0
"""As in the real ones, a caller gives up on a lost owner well before that owner forgets: 45 s and 10 min."""

BOOK_MAX = 12
"""Calls an owner remembers, so that it has to forget."""


@dataclass(eq=False)
class Line:
    """One Forward stream. What is on its way when it breaks may still arrive at the owner, never back."""

    caller: Process
    owner: Process
    open: bool = True
    waiting: set[str] = field(default_factory=set)


@dataclass(eq=False)
class Asked:
    """A call at its caller. `tried`: owners that said that it did not run."""

    call_id: str
    caller: Process
    owner: Process
    tried: set[str] = field(default_factory=set)
    sent_ms: int = 0
    ended: str = ""


class Book:
    """What one process remembers of the calls it ran for others; a run is whom it owes the answer."""

    def __init__(self, world: World) -> None:
        self.repeats: Repeats[list[Line]] = Repeats(lambda: world.now_ms / 1000, keep_s=KEEP_S, count_max=BOOK_MAX)


class Calls:
    """Every call of a world, and the check that none runs twice."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._asked: dict[str, Asked] = {}
        self._lines: dict[tuple[Process, Process], Line] = {}
        self._ran: dict[str, Process] = {}
        self._denied: set[tuple[str, Process]] = set()
        self.outcomes: Counter[str] = Counter()

    # ---- at the caller --------------------------------------------------------------------------

    def begin(self, caller: Process, owner: Process) -> None:
        asked = Asked(f"call-{len(self._asked)}", caller, owner)
        self._asked[asked.call_id] = asked
        self._send(asked, query=False)

    def _line(self, caller: Process, owner: Process) -> Line:
        line = self._lines.get((caller, owner))
        if line is None or not line.open:
            line = self._lines[caller, owner] = Line(caller, owner)
        return line

    def _send(self, asked: Asked, *, query: bool) -> None:
        asked.sent_ms = asked.sent_ms if query else self._world.now_ms
        line = self._line(asked.caller, asked.owner)
        line.waiting.add(asked.call_id)
        arrive = self._queried if query else self._opened
        self._up(line, lambda: arrive(line, asked.call_id))

    def _lost(self, line: Line, call_id: str) -> None:
        """The caller sees that its stream is gone: it looks for the owner, and asks."""
        asked = self._asked[call_id]
        if asked.ended or asked.owner is not line.owner or not asked.caller.alive:
            return
        world, caller, name = self._world, asked.caller, asked.owner.name
        if not asked.owner.alive or world.now_ms - asked.sent_ms > RECOVERY_MS:
            # Another process of its name, or none, or too late: nobody knows what became of the call.
            self._end(asked, "unknown")
        elif world.network.both_ways(caller.name, name):
            self._send(asked, query=True)
        else:
            world.at(REDIAL_MS, lambda: self._lost(line, call_id), caller)

    def _answered(self, line: Line, call_id: str, outcome: str) -> None:
        asked = self._asked[call_id]
        line.waiting.discard(call_id)
        if asked.ended or asked.owner is not line.owner:
            return
        if outcome == "not run":
            asked.tried.add(asked.owner.name)
            others = [p for p in self._world.running() if p.name not in (*asked.tried, asked.caller.name)]
            if others and len(asked.tried) < TRIES_MAX:
                asked.owner = self._world.rng.choice(others)
                self._send(asked, query=False)
                return
        self._end(asked, outcome)

    def _end(self, asked: Asked, outcome: str) -> None:
        asked.ended = outcome
        self.outcomes[outcome] += 1

    # ---- at the owner ---------------------------------------------------------------------------

    def _opened(self, line: Line, call_id: str) -> None:
        repeats, key = line.owner.book.repeats, _key(line, call_id)
        if not self._known(line, call_id):
            self._run(line.owner, call_id)
            repeats.begin(key, [line])
            took_ms = self._world.rng.choice((1, 30, 800, 4_000))
            self._world.at(took_ms, lambda: self._finish(line.owner, key), line.owner)

    def _queried(self, line: Line, call_id: str) -> None:
        repeats = line.owner.book.repeats
        if self._known(line, call_id):
            return
        if repeats.forgetful:
            self._down(line, call_id, "unknown")
            return
        repeats.refuse(_key(line, call_id))
        self._denied.add((call_id, line.owner))
        self._down(line, call_id, "not run")

    def _known(self, line: Line, call_id: str) -> bool:
        """A call that was heard of before is answered by what is known of it."""
        repeats, key = line.owner.book.repeats, _key(line, call_id)
        running = repeats.running(key)
        if running is not None:
            running.append(line)
            return True
        match repeats.past(key):
            case Kept():
                self._down(line, call_id, "result")
            case Dropped():
                self._down(line, call_id, "unknown")
            case Refused():
                self._down(line, call_id, "not run")
            case None:
                return False
        return True

    def _finish(self, owner: Process, key: RunKey) -> None:
        claims = owner.book.repeats.running(key) or []
        owner.book.repeats.finish(key, b"{}")
        for line in claims:
            self._down(line, key.call_id, "result")

    def _run(self, owner: Process, call_id: str) -> None:
        before = self._ran.get(call_id)
        if before is not None:
            raise Violation(f"{call_id} runs at {owner}, after it had run at {before}")
        if (call_id, owner) in self._denied:
            raise Violation(f"{call_id} runs at {owner}, which had said that it never would")
        self._ran[call_id] = owner

    # ---- the way --------------------------------------------------------------------------------

    def _up(self, line: Line, arrive: Callable[[], None]) -> None:
        world, here, there = self._world, line.caller.name, line.owner.name
        late = 0
        if self._strikes(here, there):
            self.break_line(line)
            late = world.rng.choice((-1, 200, 1_500))
        if late >= 0 and world.network.passes(here, there):
            world.at(world.delay_ms(here, there) + late, arrive, line.owner)
        elif line.open:
            self.break_line(line)

    def _down(self, line: Line, call_id: str, outcome: str) -> None:
        world, here, there = self._world, line.owner.name, line.caller.name
        if self._strikes(here, there) or not world.network.passes(here, there):
            self.break_line(line)
        if line.open:
            world.at(world.delay_ms(here, there), lambda: self._answered(line, call_id, outcome), line.caller)

    def _strikes(self, here: str, there: str) -> bool:
        return self._world.rng.random() < max(0.02, self._world.network.loss.get((here, there), 0.0))

    def break_line(self, line: Line) -> None:
        """It is reset: the caller is told, the owner does not care."""
        if not line.open:
            return
        line.open = False
        world, caller, owner = self._world, line.caller, line.owner.name

        def learn() -> None:
            caller.handle(owner, CallsFailed("reset"))
            for call_id in sorted(line.waiting):
                self._lost(line, call_id)

        world.at(world.delay_ms(caller.name, owner), learn, caller)

    def break_some(self) -> None:
        lines = [line for line in self._lines.values() if line.open and line.caller.alive]
        if lines:
            self.break_line(self._world.rng.choice(lines))

    def crashed(self, process: Process) -> None:
        """Whoever called it sees its stream end."""
        for line in list(self._lines.values()):
            if line.owner is process or line.caller is process:
                self.break_line(line)


def _key(line: Line, call_id: str) -> RunKey:
    return RunKey(line.caller.name, ("", "", "someone"), call_id)
