"""A world of nodes under one seed: what happens to them, in one order of events, each followed by every check."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable

from federation.events import Alarm, AskWitnesses, Broken, Effect, Witnessed
from federation.memory import MemoryViewStore
from proto.frames import Down, Farewell, Up
from proto.records import Kind, Record, RecordKey
from tests.simulation.checks import Checks
from tests.simulation.network import Network, Stream
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
        self.checks = Checks(self)
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

    def start(self, name: str, *, loaded_after_ms: int = 0, clone_of: Process | None = None) -> Process:
        """A process of `name`; a clone has its model's epoch, and a copy of nothing else."""
        if clone_of is not None:
            self.cloned.add(name)
            process = Process(self, name, MemoryViewStore(), epoch=clone_of.log.epoch)
        else:
            process = Process(self, name, self.disks[name])
        self.note(f"{name} starts{' as a clone' if clone_of else ''} under epoch {process.log.epoch - WALL_MS:+d}")
        self.processes[name].append(process)
        self.checks.published(process)
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
        self.at(TICK_MS, lambda: self._tick(process), process)

    def crash(self, process: Process) -> None:
        self.note(f"{process.name} crashes")
        process.alive = False
        self.processes[process.name].remove(process)
        self.checks.crashed(process)
        for stream in [*process.streams.values(), *process.subscribers]:
            self.close(stream)

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
        self.at(self._delay(receiver.name, name) * 2, lambda: self._opened(stream), receiver)

    def _refused(self, receiver: Process, name: str) -> None:
        if name not in receiver.streams:
            receiver.handle(name, Broken("nobody answers"))

    def _opened(self, stream: Stream) -> None:
        owner, receiver = stream.owner, stream.receiver
        if not owner.alive or not self.network.both_ways(owner.name, receiver.name):
            self._refused(receiver, owner.name)
        elif owner.name not in receiver.streams:
            receiver.opened(stream)

    def close(self, stream: Stream) -> None:
        """Either end has let go: the other hears of it, unless a cut lies between."""
        if not stream.open:
            return
        stream.open = False
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
        held = stream.held[down]
        held.append(what)
        arrives = max(self.now_ms + self._delay(ends[0].name, ends[1].name), stream.arrives_ms[down])
        stream.arrives_ms[down] = arrives

        def take() -> None:
            while held and self.network.passes(ends[0].name, ends[1].name):
                held.popleft()()
                if len(held) < take_until:
                    break

        take_until = len(held)
        self.at(arrives - self.now_ms, take, ends[1])

    def _delay(self, a: str, b: str) -> int:
        return self.network.delay_ms.get((a, b), 5) + self.rng.randrange(5)

    def heal(self) -> None:
        self.note("every cut is healed")
        self.network.heal()
        for process in self.running():
            for stream in process.streams.values():
                for down, end in ((True, process), (False, stream.owner)):
                    held = stream.held[down]
                    if held:
                        self.at(1, lambda h=held: self._release(h), end)

    def _release(self, held: deque[Callable[[], None]]) -> None:
        while held:
            held.popleft()()

    def ask(self, asker: Process, about: str, question: AskWitnesses) -> None:
        others = [p for p in self.running() if p.name not in (asker.name, about)]
        others = [
            p
            for p in others
            if self.network.both_ways(p.name, asker.name) and asker.peers[p.name].pulse.hears(self.now_ms)
        ][: question.most]
        hearing = tuple(p.name for p in others if about in p.peers and p.peers[about].pulse.hears(self.now_ms))
        word = Witnessed(tuple(p.name for p in others), hearing, question.question)
        self.at(30, lambda: asker.testify(about, word), asker)


__all__ = ["World", "node_id"]
