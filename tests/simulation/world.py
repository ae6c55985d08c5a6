"""A world of nodes under one seed: what happens to them, in one order of events, each followed by every check."""

from __future__ import annotations

import copy
import heapq
import random
from collections import deque
from collections.abc import Callable

from federation.events import Alarm, Broken, Effect
from federation.memory import MemoryViewStore
from proto.frames import Down, Farewell, Up
from proto.records import Kind, Record, RecordKey
from tests.simulation.calling import Calls
from tests.simulation.calm import Calm
from tests.simulation.checks import Checks
from tests.simulation.network import Network, Stream
from tests.simulation.offers import Offers
from tests.simulation.process import TICK_MS, Process, node_id

WALL_MS = 1_700_000_000_000
TRANSCRIPT_LINES = 60


class World:
    """`run_until` carries on to a time; everything random comes from the seed."""

    def __init__(self, seed: int, names: list[str]) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.now_ms = 0
        self.names = names
        self.network = Network()
        self.calm = Calm()
        self.checks = Checks(self)
        self.offers = Offers(self)
        self.calls = Calls(self)
        self.roles: set[str] = set()
        """Whose certificates carry the role `authority` now."""
        self.archive: dict[str, MemoryViewStore] = {}
        self.disks: dict[str, MemoryViewStore] = {name: MemoryViewStore() for name in names}
        self.skew_ms: dict[str, int] = dict.fromkeys(names, 0)
        self.processes: dict[str, list[Process]] = {name: [] for name in names}
        self.transcript: deque[str] = deque(maxlen=TRANSCRIPT_LINES)
        self.alarms: dict[str, int] = {}
        self.cloned: set[str] = set()
        self.steps = 0
        self._heap: list[tuple[int, int, Process | None, Callable[[], None]]] = []
        self._count = 0
        self._touched: set[tuple[Process, str]] = set()
        self._serial = 0

    # ---- time -----------------------------------------------------------------------------------

    def wall_ms(self, name: str) -> int:
        return WALL_MS + self.now_ms + self.skew_ms[name]

    def at(self, delay_ms: int, what: Callable[[], None], process: Process | None = None) -> None:
        """Later. What a frozen process was to do happens when it thaws, what a dead one was to do never does."""
        self._count += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._count, process, what))

    def run_until(self, time_ms: int) -> None:
        while self._heap and self._heap[0][0] <= time_ms:
            at_ms, _, process, what = heapq.heappop(self._heap)
            self.now_ms = max(self.now_ms, at_ms)
            if process is not None:
                if not process.alive:
                    continue
                if process.frozen_until_ms > self.now_ms:
                    self.at(process.frozen_until_ms - self.now_ms, what, process)
                    continue
            what()
            self.steps += 1
            touched, self._touched = self._touched, set()
            for one, name in touched:
                self.checks.after_step(one, name)
        self.now_ms = max(self.now_ms, time_ms)

    def touch(self, process: Process, name: str) -> None:
        """Something happened to what `process` holds of `name`: it is checked at the end of the step."""
        self._touched.add((process, name))

    def note(self, line: str) -> None:
        self.transcript.append(f"{self.now_ms:>8} {line}")

    def alarmed(self, process: Process, about: str, effect: Effect) -> None:
        if isinstance(effect, Alarm):
            if effect.name == "resync":
                self.checks.resynced(process, effect.message)
            self.alarms[effect.name] = self.alarms.get(effect.name, 0) + 1
            self.note(f"{process.name}: ALARM {effect.name} about {about}: {effect.message}")

    # ---- nodes ----------------------------------------------------------------------------------

    def start(
        self, name: str, *, loaded_after_ms: int = 0, clone_of: Process | None = None, anew: bool = False
    ) -> Process:
        """A process of `name`; a clone has its model's epoch (or `anew` its own), and a copy of nothing else."""
        if clone_of is not None:
            self.cloned.add(name)
            process = Process(self, name, MemoryViewStore(), epoch=None if anew else clone_of.log.epoch)
        else:
            process = Process(self, name, self.disks[name])
        self.calm.disturb(name, self.now_ms)
        self.note(f"{name} starts{' as a clone' if clone_of else ''} under epoch {process.log.epoch - WALL_MS:+d}")
        self.processes[name].append(process)
        self.checks.published(process)
        self.checks.restored(process)
        for other in self.names:
            process.discover(other)
        if loaded_after_ms:
            self.at(loaded_after_ms, lambda: self._load(process), process)
        else:
            self._load(process)
        self.at(self.rng.randrange(TICK_MS), lambda: self._tick(process), process)
        return process

    def _load(self, process: Process) -> None:
        process.log.set_loaded()
        process.pump()

    def _tick(self, process: Process) -> None:
        process.tick()
        late = self.rng.randrange(process.slow_ms) if process.slow_ms else 0
        self.at(TICK_MS + late, lambda: self._tick(process), process)

    def crash(self, process: Process) -> None:
        self.note(f"{process.name} crashes")
        self.calm.disturb(process.name, self.now_ms)
        process.alive = False
        self.processes[process.name].remove(process)
        self.checks.crashed(process)
        for stream in [*process.streams.values(), *process.incoming]:
            self.close(stream)
        self.calls.crashed(process)

    def stop(self, process: Process, farewell: Farewell) -> None:
        self.note(f"{process.name} says goodbye ({farewell})")
        process.farewell(farewell)
        process.flush()
        self.crash(process)

    def running(self) -> list[Process]:
        return [p for name in self.names for p in self.processes[name]]

    def record(self, owner: str, tool: int) -> Record:
        """A record that only `owner` can have made, different each time."""
        self._serial += 1
        return Record.of(Kind.TOOL, f"srv/tool-{tool}", {"owner": owner, "n": self._serial})

    def rule(self, owner: str, number: int) -> Record:
        """A record that governs."""
        self._serial += 1
        return Record.of(Kind.POLICY, f"rule-{number}", {"owner": owner, "n": self._serial})

    def bad_record(self, owner: str, tool: int) -> Record:
        good = self.record(owner, tool)
        return Record(good.kind, good.id, self.rng.randbytes(32), good.body)

    def smuggle(self, process: Process, record: Record) -> None:
        """A record past the owner's own checks: what a broken or hostile release would send."""
        self.checks.bad.add((record.key, record.digest))
        process.log._change(record.key, record)
        self.checks.published(process)
        process.pump()

    def delete(self, process: Process, key: RecordKey) -> None:
        process.publish([], [key])

    # ---- what befalls nodes ------------------------------------------------------------------------

    def freeze(self, process: Process, span_ms: int) -> None:
        self.note(f"{process.name} freezes for {span_ms} ms")
        process.freeze(span_ms)
        self.calm.disturb(process.name, process.frozen_until_ms)

    def slow(self, process: Process, slow_ms: int, span_ms: int) -> None:
        """Its loop comes to everything late, and its disk hardly ever."""
        self.note(f"{process.name} is slow, by up to {slow_ms} ms, for {span_ms} ms")
        process.slow_ms, process.flushes = slow_ms, 0.05
        self.calm.disturb(process.name, self.now_ms + span_ms)

        def recover() -> None:
            process.slow_ms, process.flushes = 0, 0.5

        self.at(span_ms, recover, process)

    def jump(self, name: str, step_ms: int) -> None:
        """Disturbs nothing: what is decided hangs on no wall clock."""
        self.note(f"the clock of {name} jumps by {step_ms} ms")
        self.skew_ms[name] += step_ms

    def regard(self, name: str, *, authority: bool) -> None:
        """It has another certificate: its streams are opened anew."""
        self.note(f"{name} {'may govern' if authority else 'governs no longer'}")
        (self.roles.add if authority else self.roles.discard)(name)
        for process in self.processes[name]:
            for stream in list(process.incoming):
                self.reset(stream)

    def archive_disk(self, name: str) -> None:
        self.archive[name] = copy.deepcopy(self.disks[name])

    def reset(self, stream: Stream) -> None:
        self.note(f"the stream {stream} is reset")
        self.calm.disturb_pair(stream.owner.name, stream.receiver.name, self.now_ms)
        self.close(stream)

    # ---- streams --------------------------------------------------------------------------------

    def dial(self, receiver: Process, name: str) -> None:
        # A clone is met by chance, as a second address of the same name would be.
        choices = self.processes[name]
        if not choices or not self.network.passes(receiver.name, name):
            self.at(50, lambda: self._refused(receiver, name), receiver)
            return
        owner = self.rng.choice(choices)
        window = self.rng.choice((1, 2, 8, 64))
        stream = Stream(receiver, owner, owner.subscriber(receiver), window)
        self.at(self.delay_ms(receiver.name, name) * 2, lambda: self._opened(stream), receiver)

    def _refused(self, receiver: Process, name: str) -> None:
        if name not in receiver.streams:
            receiver.handle(name, Broken("nobody answers"))

    def _opened(self, stream: Stream) -> None:
        owner, receiver = stream.owner, stream.receiver
        if not owner.alive or not self.network.both_ways(owner.name, receiver.name):
            self._refused(receiver, owner.name)
        elif owner.name not in receiver.streams:
            stream.authority = owner.name in self.roles
            owner.incoming.append(stream)
            receiver.opened(stream)

    def close(self, stream: Stream) -> None:
        """Either end has let go: the other hears of it, unless a cut lies between."""
        if not stream.open:
            return
        stream.open = False
        if stream in stream.owner.incoming:
            stream.owner.incoming.remove(stream)
        if stream in stream.owner.subscribers:
            stream.owner.subscribers.remove(stream)
        if self.network.passes(stream.owner.name, stream.receiver.name):
            # Behind what was sent before, as a FIN is.
            self._deliver(stream, down=True, what=lambda: stream.receiver.broken(stream, "it closed the stream"))

    def send_down(self, stream: Stream, frame: Down) -> None:
        stream.in_flight += 1

        def arrive() -> None:
            stream.in_flight -= 1
            stream.receiver.received(stream, frame)
            if stream.owner.alive and stream.open:
                self.at(1, stream.owner.pump, stream.owner)

        self._deliver(stream, down=True, what=arrive)

    def send_up(self, stream: Stream, frame: Up) -> None:
        self._deliver(stream, down=False, what=lambda: stream.owner.subscribed(stream, frame))

    def _deliver(self, stream: Stream, *, down: bool, what: Callable[[], None]) -> None:
        ends = (stream.owner, stream.receiver) if down else (stream.receiver, stream.owner)
        way = (ends[0].name, ends[1].name)
        if self.network.loss and stream.open and self.rng.random() < self.network.loss.get(way, 0.0):
            self.note(f"{stream} is reset")
            self.close(stream)
            return
        held = stream.held[down]
        held.append(what)
        arrives = max(self.now_ms + self.delay_ms(*way), stream.arrives_ms[down])
        stream.arrives_ms[down] = arrives

        def take() -> None:
            while held and self.network.passes(*way):
                held.popleft()()
                if len(held) < take_until:
                    break

        take_until = len(held)
        self.at(arrives - self.now_ms, take, ends[1])

    def delay_ms(self, a: str, b: str) -> int:
        return self.network.delay_ms.get((a, b), 5) + self.rng.randrange(5)

    def heal(self) -> None:
        self.note("every cut is healed")
        for a, b in [*self.network.cuts, *self.network.loss]:
            self.calm.disturb_pair(a, b, self.now_ms)
        self.network.heal()
        for process in self.running():
            for stream in process.streams.values():
                if not stream.open:
                    # Its other end is gone: the next packet is answered by a reset.
                    self.at(1, lambda s=stream: s.receiver.broken(s, "reset"), process)
                for down, end in ((True, process), (False, stream.owner)):
                    held = stream.held[down]
                    if held:
                        self.at(1, lambda h=held: self._release(h), end)

    def _release(self, held: deque[Callable[[], None]]) -> None:
        while held:
            held.popleft()()


__all__ = ["World", "node_id"]
