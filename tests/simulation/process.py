"""One process of a simulated node: the real cores, run by a small synchronous driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from federation.events import (
    AskWitnesses,
    Became,
    Broken,
    Changed,
    Close,
    Effects,
    Event,
    Expel,
    Forget,
    Governs,
    Listed,
    Liveness,
    Opened,
    Probe,
    Received,
    Save,
    SaveEpoch,
    Send,
    Spoke,
    Tick,
)
from federation.log import Log, Subscriber
from federation.memory import MemoryViewStore
from federation.peer import Peer
from federation.ticking import Rhythm
from federation.view import View
from proto.errors import Conflict
from proto.frames import Ack, Bye, Down, Farewell, Hello, Up
from proto.names import NodeId
from proto.records import Record, RecordKey
from tests.simulation.calling import Book
from tests.simulation.network import Stream
from tests.simulation.witnessing import Poll

if TYPE_CHECKING:
    from tests.simulation.world import World

TICK_MS = 500
BEAT_TICKS = 2
HASH_BEATS = 5
CHECK_TICKS = 8
"""Every so many ticks each view is checked although nothing seems to have happened to it."""

FRAME_MS = 10_000
MESH = "sim"


def node_id(name: str) -> NodeId:
    return NodeId.of("sim.test", "r1", name)


class Process:
    """A node from start to crash. `disk` outlives it."""

    def __init__(self, world: World, name: str, disk: MemoryViewStore, *, epoch: int | None = None) -> None:
        self.world = world
        self.name = name
        self.me = node_id(name)
        self.disk = disk
        self.alive = True
        self.draining = False
        self.frozen_until_ms = 0
        self._naps: list[tuple[int, int]] = []
        """From when to when it was frozen, or will have been."""
        self.slow_ms = 0
        self.flushes = 0.5
        """How likely a tick is to find the disk free."""
        self.doomed: int | None = None
        """So many effects are still carried out, then it crashes."""
        self.rhythm = Rhythm(world.now_ms - 2 * TICK_MS, TICK_MS, BEAT_TICKS)
        # The first beat comes with the second tick: who has just started is known by its greetings.
        self.rhythm.came(world.now_ms - TICK_MS)
        self.ticks = self._beats = 0
        instance = world.rng.randbytes(16)
        if epoch is None:
            epoch = disk.begin_epoch(world.wall_ms(name), instance)
        self.log = Log(self.me, MESH, epoch, instance)
        self.peers: dict[str, Peer] = {}
        self.book = Book(world)
        self.heard: dict[str, dict[RecordKey, Record]] = {}
        self.told: dict[str, Liveness] = {}
        self.listed: dict[str, bool] = {}
        self.authority: dict[str, bool] = {}
        """Of the latest stream of each owner; absent while there was none."""
        self.streams: dict[str, Stream] = {}
        self.dial_ms: dict[str, int] = {}
        self.subscribers: list[Stream] = []
        self.incoming: list[Stream] = []
        """Streams that others have dialled, greeted or not."""
        self.pending: dict[NodeId, Save] = {}
        self._restore()

    def __repr__(self) -> str:
        return f"{self.name}#{self.log.instance.hex()[:4]}"

    def _restore(self) -> None:
        wall = self.world.wall_ms(self.name)
        for saved in self.disk.views():
            view = View.restored(
                saved.owner,
                MESH,
                version=saved.version,
                instance=saved.instance,
                loaded=saved.loaded,
                records=saved.records.values(),
                age_ms=wall - saved.heard_ms,
                now_ms=self.world.now_ms,
                speaker=self.log.instance,
            )
            self._know(saved.owner.name, view)
            self.heard[saved.owner.name] = view.records

    def _know(self, name: str, view: View | None = None) -> Peer:
        peer = self.peers[name] = Peer(view or View(node_id(name), MESH, speaker=self.log.instance), self.world.now_ms)
        self.heard[name], self.told[name], self.listed[name] = {}, peer.pulse.state, peer.view.listed
        self.dial_ms[name] = self.world.now_ms
        return peer

    def discover(self, name: str) -> None:
        if name != self.name and name not in self.peers:
            self._know(name)

    # ---- time -----------------------------------------------------------------------------------

    def freeze(self, span_ms: int) -> None:
        began_ms, self.frozen_until_ms = self.world.now_ms, max(self.frozen_until_ms, self.world.now_ms + span_ms)
        self._naps.append((max([began_ms, *(until for _, until in self._naps)]), self.frozen_until_ms))

    def awake_ms(self, since_ms: int) -> int:
        """How much of the time since then it was awake."""
        now = self.world.now_ms
        slept = sum(max(0, min(until, now) - max(began, since_ms)) for began, until in self._naps)
        return now - since_ms - slept

    def tick(self) -> None:
        now = self.world.now_ms
        lag, beats = self.rhythm.came(now)
        for name in list(self.peers):
            self.handle(name, Tick(lag))
            if not self.alive:
                return
        self.ticks += 1
        for name in self.peers:
            self.world.checks.after_tick(self, name)
            if self.ticks % CHECK_TICKS == 0:
                self.world.touch(self, name)
        self.world.offers.after_tick(self)
        if beats:
            self._beats += 1
            hashed = self._beats % HASH_BEATS == 0
            wall = self.world.wall_ms(self.name)
            beat = self.log.beat(
                load=0.0, lag_ms=self.rhythm.late_ms, draining=self.draining, wall_ms=wall, hashed=hashed
            )
            for stream in self.subscribers:
                stream.beat = beat
        self.pump()
        for stream in list(self.streams.values()):
            cut = self.world.network.dead(self.name, stream.owner.name, now)
            if cut or now - stream.last_frame_ms > FRAME_MS + lag:
                self.broken(stream, "keepalive" if cut else "no frames")
        for stream in list(self.subscribers):
            if self.world.network.dead(self.name, stream.receiver.name, now):
                self.world.close(stream)
        for name, at in list(self.dial_ms.items()):
            if name not in self.streams and now >= at:
                self.dial_ms[name] = now + self.world.rng.choice((500, 1000, 2000))
                self.world.dial(self, name)
        if self.pending and self.world.rng.random() < self.flushes:
            self.flush()

    # ---- the receiver's side --------------------------------------------------------------------

    def opened(self, stream: Stream) -> None:
        self.streams[stream.owner.name] = stream
        stream.last_frame_ms = self.world.now_ms
        self.authority[stream.owner.name] = stream.authority
        self.handle(stream.owner.name, Opened(stream.authority, repr(stream.owner)))

    def received(self, stream: Stream, frame: Down) -> None:
        if self.streams.get(stream.owner.name) is stream:
            stream.last_frame_ms = self.world.now_ms
            self.handle(stream.owner.name, Received(frame))

    def broken(self, stream: Stream, cause: str) -> None:
        if self.streams.get(stream.owner.name) is stream:
            self.drop(stream.owner.name)
            self.handle(stream.owner.name, Broken(cause))

    def drop(self, name: str) -> None:
        stream = self.streams.pop(name, None)
        if stream is not None:
            self.world.close(stream)

    def hears(self, name: str) -> bool:
        """Whether `name` may be asked, and believed, as a witness."""
        return self.peers[name].pulse.hears(self.world.now_ms)

    def handle(self, name: str, event: Event) -> None:
        if not self.alive:
            return
        self.carry_out(name, self.peers[name].handle(event, self.world.now_ms))

    def carry_out(self, name: str, effects: Effects) -> None:
        if effects:
            self.world.touch(self, name)
        for effect in effects:
            if not self.alive:
                return
            if self.doomed is not None:
                self.doomed -= 1
                if self.doomed < 0:
                    self.world.crash(self)
                    return
            match effect:
                case Send(frame):
                    if (stream := self.streams.get(name)) is not None:
                        self.world.send_up(stream, frame)
                case Changed(puts, deletes):
                    for key in deletes:
                        del self.heard[name][key]
                    self.heard[name].update((r.key, r) for r in puts)
                case Save():
                    self.save(node_id(name), effect)
                case Governs():
                    pass  # which is the view's, held against it at each step
                case Forget():
                    self.pending.pop(node_id(name), None)
                    self.disk.forget(node_id(name))
                    self.world.checks.forgot(self, name)
                case Close():
                    self.drop(name)
                case Probe():
                    self.drop(name)
                    self.dial_ms[name] = self.world.now_ms + TICK_MS
                    self.world.dial(self, name)
                case AskWitnesses():
                    Poll(self.world, self, name, effect)
                case Became(state, cause):
                    self.told[name] = state
                    self.world.checks.became(self, name, state, cause)
                    self.world.note(f"{self.name}: {name} is {state}{': ' + cause if cause else ''}")
                case Expel(instance):
                    for stream in list(self.subscribers):
                        if stream.receiver.name == name and stream.receiver.log.instance == instance:
                            self.world.close(stream)
                case Listed(listed):
                    self.listed[name] = listed
                    self.world.note(f"{self.name}: {name} is {'listed' if listed else 'not listed'}")
                case _:
                    self.world.checks.raised(self, name, effect)
                    self.world.alarmed(self, name, effect)

    def save(self, owner: NodeId, change: Save) -> None:
        before = self.pending.get(owner)
        self.pending[owner] = change if before is None else before.then(change)

    def flush(self) -> None:
        changes, self.pending = self.pending, {}
        self.disk.save(changes, self.world.wall_ms(self.name))

    # ---- the owner's side -----------------------------------------------------------------------

    def publish(self, puts: list[Record], deletes: list[RecordKey]) -> None:
        """Own records need nobody: a node serves them whatever has become of its peers."""
        self.log.publish(puts, deletes)
        self.world.checks.published(self)
        self.pump()

    def subscribed(self, stream: Stream, frame: Up) -> None:
        if not stream.open:
            return
        name = stream.receiver.name
        match frame:
            case Hello():
                if self.peers[name].bearers.refusal(frame.instance, self.world.now_ms):
                    self.world.close(stream)
                    return
                try:
                    effects = self.log.subscribe(stream.sub, frame, self.world.wall_ms(self.name))
                except Conflict:
                    self.world.close(stream)
                    return
                for effect in effects:
                    if isinstance(effect, SaveEpoch):
                        self.disk.raise_epoch(effect.epoch)
                    else:
                        self.world.alarmed(self, stream.receiver.name, effect)
                stream.greeted = True
                if stream not in self.subscribers:
                    self.subscribers.append(stream)
                self.handle(name, Spoke(frame.instance, repr(stream.receiver)))
                self.pump()
            case Ack(seq):
                self.log.acknowledged(stream.sub, seq)
                self.handle(name, Spoke(stream.sub.instance, repr(stream.receiver)))
            case reject:
                self.world.note(f"{stream.receiver.name} rejects {reject.key.id}: {reject.reason}")

    def pump(self) -> None:
        """Every subscriber is sent what its stream can take."""
        for stream in self.subscribers:
            while stream.open and stream.greeted and stream.in_flight < stream.window:
                frame = self.log.pull(stream.sub)
                if frame is None and stream.beat is not None:
                    frame, stream.beat = self.log.current(stream.beat), None
                if frame is None:
                    break
                self.world.send_down(stream, frame)

    def farewell(self, reason: Farewell) -> None:
        for stream in self.subscribers:
            if stream.open:
                self.world.send_down(stream, Bye(reason))

    def subscriber(self, peer: Process) -> Subscriber:
        return Subscriber(peer.me)
