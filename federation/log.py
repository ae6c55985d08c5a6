"""The owner's half of owner streams: what this node owns, and what each subscriber is to be sent next. Pure.

Nothing is queued per subscriber. Each has a cursor into one bounded log of changed keys, and `pull` makes the next
frame when its stream can take one: a slow peer costs a cursor, its changes coalesce to the latest of each key, and
one that falls behind the log starts again with a snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from federation import epochs
from federation.admission import RECORDS_MAX, check_record, view_hash
from federation.events import Alarm, Effects, SaveEpoch
from proto.errors import Conflict, Exhausted
from proto.frames import Beat, Delta, Down, Hello, Mode, Reject, Snapshot, Welcome
from proto.names import NodeId
from proto.records import Kind, Record, RecordKey, manifest
from proto.versions import PROTOCOL_MAX, PROTOCOL_MIN, agreed, common

LOG_MIN = 5000
"""Changes kept for delta; twice the tools where that is more. Beyond: a snapshot, bodies only where needed."""

PART_RECORDS = 500
PART_BYTES = 1024 * 1024
"""Bounds of one Delta or Snapshot frame (one body may be as large as the latter): far below gRPC's message limit."""

PART_NAMES = 1000
"""Manifest entries per Snapshot frame, some 80 bytes each: a frame is read in a few milliseconds."""

EPOCH_LEAD_MS = 366 * 24 * 3600 * 1000
"""How far beyond this node's clock a peer's memory may push its epoch: no peer can use up the numbers."""

RAISES_MAX = 5
RAISES_WINDOW_MS = 3600 * 1000
"""Raises per hour. A disk that was lost needs one; more means that two processes hold one identity."""

REJECTS_SHOWN = 100
"""Rejects remembered per subscriber, the latest."""


@dataclass(slots=True)
class Subscriber:
    """One peer's place in the log. `acked` and `rejects` are what it has told.

    `address`: where it says that it can be dialled; `instance`: of its process, empty of an earlier release.
    """

    peer: NodeId
    address: str = ""
    instance: bytes = b""
    cursor: int = 0
    epoch: int = 0
    acked: int = 0
    protocol: int = PROTOCOL_MAX
    features: frozenset[str] = frozenset()
    software: str = ""
    rejects: deque[Reject] = field(default_factory=lambda: deque(maxlen=REJECTS_SHOWN))
    _welcome: Welcome | None = None
    _parts: Iterator[Snapshot] | None = None
    _told_loaded: bool = False

    def __repr__(self) -> str:
        return f"Subscriber({self.peer} {self.epoch}.{self.cursor} acked {self.acked})"


class Log:
    """The records of this node under one epoch. `instance` is 16 random bytes, drawn once per process life."""

    def __init__(self, me: NodeId, mesh: str, epoch: int, instance: bytes, *, software: str = "") -> None:
        self.me = me
        self.epoch = epoch
        self.instance = instance
        self.seq = 0
        self.loaded = False
        self._mesh = mesh
        self._software = software
        self._records: dict[RecordKey, Record] = {}
        self._tools = 0
        # Key → seq of its latest change, oldest first; a key without a record was deleted.
        self._changes: dict[RecordKey, int] = {}
        self._floor = 0
        self._raises: deque[int] = deque(maxlen=RAISES_MAX)
        self._hash: tuple[int, bytes] = (-1, b"")
        self._latest_delta: tuple[tuple[int, int, bool], Delta] | None = None

    def __repr__(self) -> str:
        loaded = "" if self.loaded else " loading"
        return f"Log({self.me} {self.epoch}.{self.seq} {len(self._records)} records{loaded})"

    @property
    def records(self) -> dict[RecordKey, Record]:
        """What every subscriber ends up with: export(owner)."""
        return dict(self._records)

    @property
    def depth_max(self) -> int:
        return max(LOG_MIN, 2 * self._tools)

    # ---- own facts ------------------------------------------------------------------------------

    def publish(self, puts: Iterable[Record], deletes: Iterable[RecordKey]) -> bool:
        """Take changes; equal digests are none. Returns whether anything changed.

        All or nothing: raises `Invalid` naming the record that cannot be one of ours, `Exhausted` beyond
        `RECORDS_MAX`.
        """
        wanted = [r for r in puts if (held := self._records.get(r.key)) is None or held.digest != r.digest]
        gone = [k for k in dict.fromkeys(deletes) if k in self._records]
        for record in wanted:
            check_record(record, self.me, authority=True)
        leaving = set(gone)
        entering = sum(r.key not in self._records or r.key in leaving for r in wanted)
        if len(self._records) - len(leaving) + entering > RECORDS_MAX:
            raise Exhausted(f"{self.me} owns more than {RECORDS_MAX} records; move servers to another node")
        for key in gone:
            self._change(key, None)
        for record in wanted:
            self._change(record.key, record)
        while len(self._changes) > self.depth_max:
            oldest = next(iter(self._changes))
            self._floor = self._changes.pop(oldest)
        return bool(wanted or gone)

    def _change(self, key: RecordKey, record: Record | None) -> None:
        before = self._records.pop(key, None)
        if record is not None:
            self._records[key] = record
        if key.kind is Kind.TOOL:
            self._tools += (record is not None) - (before is not None)
        self.seq += 1
        self._changes.pop(key, None)
        self._changes[key] = self.seq

    def set_loaded(self) -> None:
        """This node's own servers have been started once: what it says now is all there is."""
        self.loaded = True

    # ---- subscribers ----------------------------------------------------------------------------

    def subscribe(self, sub: Subscriber, hello: Hello, wall_ms: int) -> Effects:
        """Take a Hello, the first or a later one of a stream. Carry out the effects before the next `pull`.

        Raises `Conflict`, saying what differs, if the two cannot talk.
        """
        if hello.mesh != self._mesh:
            raise Conflict(
                f"{self.me} belongs to mesh {self._mesh!r}, not to {hello.mesh!r}; name the same mesh on both",
                reason="mesh",
            )
        protocol = agreed(hello.protocol_min, hello.protocol_max)
        if protocol is None:
            raise Conflict(
                f"{self.me} speaks protocol {PROTOCOL_MIN} to {PROTOCOL_MAX}, {sub.peer} speaks "
                f"{hello.protocol_min} to {hello.protocol_max}; bring both to releases that share one",
                reason="protocol",
            )
        sub.protocol, sub.features, sub.software = protocol, common(hello.features), hello.software
        sub.instance = hello.instance
        effects = self._catch_up(sub, hello, wall_ms)
        epoch, seq = hello.known
        if epoch == self.epoch and max(self._floor, 1) <= seq <= self.seq:
            sub.epoch, sub.cursor, sub.acked, sub._parts = self.epoch, seq, seq, None
            sub._welcome = self._make_welcome(sub, Mode.DELTA)
        else:
            self._restart(sub, hello.manifest)
        return effects

    def _catch_up(self, sub: Subscriber, hello: Hello, wall_ms: int) -> Effects:
        """A peer remembers more of us than we do: our disk was lost, our clock is behind, or we were cloned."""
        epoch, seq = hello.known
        if epoch < self.epoch or (epoch == self.epoch and seq <= self.seq):
            return []
        what = f"{sub.peer} remembers this node at {epoch}.{seq}, ahead of {self.epoch}.{self.seq}"
        while self._raises and wall_ms - self._raises[0] >= RAISES_WINDOW_MS:
            self._raises.popleft()
        if epoch > wall_ms + EPOCH_LEAD_MS:
            return [Alarm("epoch_lead", f"{what}, more than a year beyond this node's clock: set the clock")]
        if len(self._raises) >= RAISES_MAX:
            return [Alarm("identity_contested", f"{what}, again: another process holds this node's identity, stop one")]
        self._raises.append(wall_ms)
        self.epoch = epochs.beyond(epoch, self.instance)
        return [SaveEpoch(self.epoch), Alarm("epoch_raised", f"{what}: its epoch is {self.epoch} now")]

    def lower(self, epoch: int) -> None:
        """The raise that was just made could not be saved: this node speaks under no epoch that its disk may forget."""
        self.epoch = epoch
        self._raises.pop()

    def _restart(self, sub: Subscriber, held: Mapping[RecordKey, bytes]) -> None:
        sub.epoch, sub.cursor, sub.acked = self.epoch, self.seq, 0
        sub._welcome = self._make_welcome(sub, Mode.SNAPSHOT)
        sub._parts = self._snapshot(held)

    def _make_welcome(self, sub: Subscriber, mode: Mode) -> Welcome:
        sub._told_loaded = self.loaded
        return Welcome(
            self.epoch,
            self.instance,
            self.seq,
            mode,
            self.loaded,
            protocol=sub.protocol,
            features=sub.features,
            software=self._software,
        )

    def acknowledged(self, sub: Subscriber, seq: int) -> None:
        sub.acked = max(sub.acked, min(seq, self.seq))

    def pull(self, sub: Subscriber) -> Down | None:
        """The next frame for this subscriber, None while there is nothing to send. Call after `subscribe`."""
        if sub.epoch != self.epoch or (sub._parts is None and sub.cursor < self._floor):
            self._restart(sub, {})
        if sub._welcome is not None:
            frame, sub._welcome = sub._welcome, None
            return frame
        if sub._parts is not None:
            part = next(sub._parts, None)
            if part is not None:
                return part
            sub._parts = None
            return self.pull(sub)
        if sub.cursor < self.seq or sub._told_loaded != self.loaded:
            return self._delta(sub)
        return None

    def _delta(self, sub: Subscriber) -> Delta:
        """The oldest changes after the cursor that fit one frame. Each key once, as it is now.

        Whoever stands at the same seq is given the same object, so that its wire form can be shared.
        """
        latest = self._latest_delta
        if latest is None or latest[0] != (self.epoch, self.seq, self.loaded) or latest[1].from_seq != sub.cursor:
            latest = self._latest_delta = ((self.epoch, self.seq, self.loaded), self._make_delta(sub.cursor))
        delta = latest[1]
        sub.cursor, sub._told_loaded = delta.to_seq, sub._told_loaded or delta.loaded
        return delta

    def _make_delta(self, cursor: int) -> Delta:
        newest: list[tuple[RecordKey, int]] = []
        for key, seq in reversed(self._changes.items()):
            if seq <= cursor:
                break
            newest.append((key, seq))
        puts: list[Record] = []
        deletes: list[RecordKey] = []
        size, to_seq = 0, self.seq
        for key, seq in reversed(newest):
            record = self._records.get(key)
            count = len(puts) + len(deletes)
            if count and (count >= PART_RECORDS or size + (len(record.body) if record else 0) > PART_BYTES):
                to_seq = seq - 1
                break
            if record is None:
                deletes.append(key)
            else:
                puts.append(record)
                size += len(record.body)
        complete = self.loaded and to_seq == self.seq
        return Delta(self.epoch, cursor, to_seq, tuple(puts), tuple(deletes), loaded=complete)

    def _snapshot(self, held: Mapping[RecordKey, bytes]) -> Iterator[Snapshot]:
        """The parts of everything as it is now; what changes meanwhile follows as deltas."""
        names = list(manifest(self._records.values()).items())
        bodies = [r for r in self._records.values() if held.get(r.key) != r.digest]
        groups = list(_bounded(bodies)) or [()]
        count = max(len(groups), -(-len(names) // PART_NAMES))
        epoch, seq, loaded = self.epoch, self.seq, self.loaded
        return (
            Snapshot(
                epoch,
                seq,
                dict(names[i * PART_NAMES : (i + 1) * PART_NAMES]),
                tuple(groups[i]) if i < len(groups) else (),
                last=i == count - 1,
                loaded=loaded,
            )
            for i in range(count)
        )

    # ---- beats ----------------------------------------------------------------------------------

    def beat(self, *, load: float, lag_ms: float, draining: bool, wall_ms: int, hashed: bool) -> Beat:
        """What every subscriber is sent each second; `hashed` now and then."""
        digest = self.hash() if hashed else b""
        return Beat(self.seq, load, lag_ms, draining, digest, self.loaded, wall_ms)

    def current(self, beat: Beat) -> Beat:
        """A beat that waited for its stream, brought up to what was sent before it."""
        if beat.seq == self.seq:
            return beat
        return replace(beat, seq=self.seq, view_hash=b"", loaded=self.loaded)

    def hash(self) -> bytes:
        """See `admission.view_hash`; computed once per seq."""
        if self._hash[0] != self.seq:
            self._hash = (self.seq, view_hash(manifest(self._records.values())))
        return self._hash[1]


def _bounded(records: Iterable[Record]) -> Iterator[Sequence[Record]]:
    """In groups of at most `PART_RECORDS` and `PART_BYTES`, at least one each."""
    group: list[Record] = []
    size = 0
    for record in records:
        if group and (len(group) >= PART_RECORDS or size + len(record.body) > PART_BYTES):
            yield group
            group, size = [], 0
        group.append(record)
        size += len(record.body)
    if group:
        yield group
