"""The receiver's half of an owner stream: what one owner says it owns, as far as it is known here. Pure.

    idle --Opened--> greeted --Welcome(delta)----> live
                             --Welcome(snapshot)-> assembling --last part--> live
    any  --Broken--> idle (stale: kept, listed until the grace is over, deleted after a day)

The rules are numbered in docs/protocol.md: a delta applies on exactly its version (2), a snapshot replaces when it
is complete (1), a lower epoch is refused (3), one epoch with two instances is a clone (4), an owner that has not
started its servers keeps its old records for a while (5), a bad record is rejected alone (6).

What was rejected is not saved: after a restart of this node the first view hash (8) differs for each owner that sends
bad records, and costs one resync, of names only, since every good body is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from enum import StrEnum

from federation.admission import RECORDS_MAX, VIEW_BYTES_MAX, check_record, view_hash
from federation.assembly import Assembly
from federation.events import (
    Alarm,
    Broken,
    Changed,
    Close,
    Effects,
    Event,
    Forget,
    Governs,
    Listed,
    Opened,
    Received,
    Save,
    Send,
    Tick,
)
from federation.holdings import Holdings
from proto.errors import Invalid
from proto.frames import Ack, Beat, Bye, Delta, Down, Farewell, Hello, Mode, Reject, Snapshot, Welcome
from proto.names import NodeId
from proto.records import GOVERNANCE, NOTHING_KNOWN, Kind, Record, RecordKey, Version
from proto.versions import PROTOCOL_MAX, PROTOCOL_MIN, agreed

GRACE_MS = 60_000
"""How long a stale view's tools stay listed: long enough for a restart, short enough not to mislead."""

KEEP_MS = 24 * 3600 * 1000
"""How long a stale view is kept at all, so that its owner's return costs only the difference."""

LOADING_MS = 120_000
"""How long old records outlive their owner's restart while it has not said that its servers are started."""

RESYNC_PAUSE_MS = 60_000
"""Between two resyncs that a view hash asked for: a bug of ours must not become a storm."""

MANIFEST_BYTES_MAX = 6 * 1024 * 1024
"""A longer manifest would not fit one frame, and is not sent: the owner then sends every body. That of 50,000 records
with ids of 60 characters has 5.4 MB."""

INSTANCE_MAX = 64
"""Bytes; ours have 16."""

COUNTER_MAX = (1 << 63) - 1
"""Epochs and seqs beyond this cannot be stored; their owner is out of its mind."""

REJECTS_MAX = 100
"""Reject frames per applied frame; status shows the rest."""
_TELLING = GOVERNANCE | {Kind.NODE}


class Phase(StrEnum):
    IDLE = "idle"
    GREETED = "greeted"
    ASSEMBLING = "assembling"
    LIVE = "live"


class View:
    """One owner's records. `handle(event, now_ms)` is the only way in; everything else is for reading."""

    def __init__(self, owner: NodeId, mesh: str, *, software: str = "", speaker: bytes = b"") -> None:
        """`software` and `speaker` (the instance of this process) are what this node says of itself in its Hello."""
        self.owner = owner
        self.version: Version = NOTHING_KNOWN
        self.instance = b""
        self.loaded = False
        self.phase = Phase.IDLE
        self.listed = True
        self.owner_seq = 0
        self.rejected: dict[RecordKey, tuple[bytes, str]] = {}
        self.hash_matches: bool | None = None
        self.stale_since_ms: int | None = None
        self._grace_from_ms = 0
        self._mesh = mesh
        self._software = software
        self._speaker = speaker
        self.authority = False
        self._governed = False
        self._held = Holdings()
        self._kept_since_ms = 0
        self._exactly = False
        self._afresh = False
        self._assembly: Assembly | None = None
        # It has said what this version cannot read, so that its hash is over more than is held here.
        self._foreign = False
        self._cloned_epoch = 0
        self._resynced_ms: int | None = None

    @classmethod
    def restored(
        cls,
        owner: NodeId,
        mesh: str,
        *,
        version: Version,
        instance: bytes,
        loaded: bool,
        records: Iterable[Record],
        age_ms: int,
        now_ms: int,
        software: str = "",
        speaker: bytes = b"",
    ) -> View:
        """A saved view, stale for `age_ms`. Its tools are listed for a fresh grace: a restart is no absence.

        Governance records are held as they were saved, until the owner's certificate is seen again.
        """
        view = cls(owner, mesh, software=software, speaker=speaker)
        view.version, view.instance, view.loaded = version, instance, loaded
        # Saved before the owner was loaded: which of them it still has, only its next snapshot can tell.
        view._held.restore(records, said=loaded)
        view._kept_since_ms = view._grace_from_ms = now_ms
        view.stale_since_ms = now_ms - max(0, age_ms)
        return view

    def __repr__(self) -> str:
        stale = "" if self.stale_since_ms is None else " stale"
        at = f"{self.version.epoch}.{self.version.seq}"
        return f"View({self.owner} {at} {self.phase} {self._held!r}{stale})"

    @property
    def records(self) -> dict[RecordKey, Record]:
        """What is held of the owner, including what it had before a restart that it has not finished."""
        return dict(self._held.all())

    @property
    def exact(self) -> dict[RecordKey, Record]:
        """What the owner has said under its present epoch, less what was rejected."""
        return dict(self._held.said)

    @property
    def size(self) -> int:
        return len(self._held)

    @property
    def tools(self) -> int:
        return self._held.tools

    @property
    def lag_seq(self) -> int:
        """Changes that the owner has spoken of and that have not arrived."""
        return max(0, self.owner_seq - self.version.seq)

    def handle(self, event: Event, now_ms: int) -> Effects:
        match event:
            case Opened(authority):
                return self._opened(authority)
            case Received(frame):
                return self._frame(frame, now_ms)
            case Broken():
                return self._broken(now_ms)
            case Tick():
                return self._tick(now_ms)
        return []

    # ---- the stream -----------------------------------------------------------------------------

    def _opened(self, authority: bool) -> Effects:
        """Governance stands and falls with the role in the certificate of this very stream.

        With the role comes what was turned away without it: by name, since which it was is not kept on disk.
        """
        self.authority = authority
        if authority:
            self._afresh |= not self._governed
            return self._greet()
        self._governed = False
        gone = {key: record for key, record in self._held.all().items() if key.kind in GOVERNANCE}
        if not gone:
            return self._greet()
        rejects = []
        for key, record in gone.items():
            if key in self._held.said:
                reason = f"{key.kind} record {key.id!r}: {self.owner.name} no longer holds the role 'authority'"
                self.rejected[key] = (record.digest, reason)
                rejects.append(Reject(self.version.seq, key, reason))
            self._held.drop(key)
        return self._changed({}, gone.keys()) + self._greet() + [Send(r) for r in rejects[:REJECTS_MAX]]

    def _greet(self) -> Effects:
        """Say what is held. Afresh, until a snapshot is whole: seq 0 asks for one under whatever epoch."""
        self.phase, self._assembly = Phase.GREETED, None
        self._exactly = self.loaded and not self._afresh
        known = self.version if self._exactly else Version(self.version.epoch, 0)
        return [
            Send(
                Hello(
                    self._mesh,
                    known,
                    self._held.manifest(MANIFEST_BYTES_MAX),
                    software=self._software,
                    instance=self._speaker,
                )
            )
        ]

    def _frame(self, frame: Down, now_ms: int) -> Effects:
        if self.phase is Phase.IDLE:
            return []
        match frame:
            case Welcome():
                return self._welcome(frame, now_ms)
            case Bye(reason):
                return self._bye(reason, now_ms)
        # Whatever was under way when a new Hello went up belongs to the state before it.
        if self.phase is Phase.GREETED:
            return []
        seq = frame.seq if isinstance(frame, Beat) else frame.to_seq
        if seq > COUNTER_MAX:
            return self._refuse("welcome", f"{self.owner} counts up to {seq}, which nobody reaches; restart it")
        match frame:
            case Delta():
                return self._delta(frame, now_ms)
            case Snapshot():
                return self._snapshot(frame, now_ms)
            case Beat():
                return self._beat(frame, now_ms)

    def _welcome(self, w: Welcome, now_ms: int) -> Effects:
        if not (0 < w.epoch <= COUNTER_MAX and 0 <= w.seq <= COUNTER_MAX and 0 < len(w.instance) <= INSTANCE_MAX):
            return self._refuse("welcome", f"{self.owner} names an impossible version {w.epoch}.{w.seq}; restart it")
        if agreed(w.protocol, w.protocol) is None:
            return self._refuse(
                "protocol",
                f"{self.owner} wants to speak protocol {w.protocol}, this node offers {PROTOCOL_MIN} to {PROTOCOL_MAX}",
            )
        if w.epoch < self.version.epoch:
            return self._refuse(
                "old_epoch",
                f"{self.owner} speaks under epoch {w.epoch}, older than the known {self.version.epoch}: "
                "set its clock, or stop the other node that bears its identity",
            )
        if w.epoch <= self._cloned_epoch or (
            w.epoch == self.version.epoch and self.instance and w.instance != self.instance
        ):
            self._cloned_epoch = max(self._cloned_epoch, w.epoch)
            return self._refuse(
                "clone",
                f"two processes speak as {self.owner} under epoch {w.epoch}; both are refused: "
                "stop one, restart the other",
            )
        self.owner_seq = w.seq
        if w.mode is Mode.SNAPSHOT:
            self.phase, self._assembly = Phase.ASSEMBLING, Assembly(w.epoch, w.instance)
            return []
        if self.phase is not Phase.GREETED or w.epoch != self.version.epoch or not self._exactly:
            return self._refuse("welcome", f"{self.owner} offers changes to a version that is not held here")
        self.phase = Phase.LIVE
        return self._fresh()

    def _refuse(self, name: str, message: str) -> Effects:
        self.phase, self._assembly = Phase.IDLE, None
        return [Alarm(name, message), Close(message, name)]

    def _resync(self, why: str, now_ms: int) -> Effects:
        if self._resynced_ms is not None and now_ms - self._resynced_ms < RESYNC_PAUSE_MS:
            return self._refuse("resync", f"{why}, again")
        self._resynced_ms = now_ms
        self._afresh = True
        return [Alarm("resync", f"asking {self.owner} for everything again: {why}"), *self._greet()]

    def _fresh(self) -> Effects:
        self.stale_since_ms = None
        if self.listed:
            return []
        self.listed = True
        return [Listed(True)]

    def _bye(self, reason: Farewell, now_ms: int) -> Effects:
        if reason is Farewell.RESTART:
            return self._broken(now_ms)
        self._broken(now_ms)
        return self._delete_all(left=reason is Farewell.LEAVE)

    def _broken(self, now_ms: int) -> Effects:
        self.phase, self._assembly = Phase.IDLE, None
        if self.stale_since_ms is None:
            self.stale_since_ms = self._grace_from_ms = now_ms
        return []

    def _tick(self, now_ms: int) -> Effects:
        effects: Effects = []
        if self._held.kept and self.phase is Phase.LIVE and now_ms - self._kept_since_ms >= LOADING_MS:
            effects += self._changed({}, self._held.settle())
        if self.stale_since_ms is None:
            return effects
        if self.listed and now_ms - self._grace_from_ms >= GRACE_MS:
            self.listed = False
            effects.append(Listed(False))
        if self.phase is Phase.IDLE and now_ms - self.stale_since_ms >= KEEP_MS and self.version != NOTHING_KNOWN:
            effects += self._delete_all()
            # With the records goes the memory of the epoch: an owner whose clock was mended can come back.
            self.version, self.instance, self._cloned_epoch = NOTHING_KNOWN, b"", 0
        return effects

    def _delete_all(self, *, left: bool = False) -> Effects:
        gone = self._held.clear()
        self.rejected, self.hash_matches, self._assembly = {}, None, None
        self.version, self.loaded = Version(self.version.epoch, 0), False
        return [*([Changed(deletes=gone)] if gone else []), Forget(left)]

    # ---- records --------------------------------------------------------------------------------

    def _delta(self, d: Delta, now_ms: int) -> Effects:
        if self.phase is not Phase.LIVE or Version(d.epoch, d.from_seq) != self.version or d.to_seq < d.from_seq:
            return self._resync(
                f"changes {d.from_seq}..{d.to_seq} of epoch {d.epoch} do not follow {self.version}", now_ms
            )
        if len(self.rejected) + len(d.puts) > 2 * RECORDS_MAX:
            return self._refuse(
                "too_large", f"{self.owner} sends bad records without end: {len(self.rejected)}; mend it"
            )
        self._foreign |= bool(d.foreign)
        puts: dict[RecordKey, Record] = {}
        gone: set[RecordKey] = set()
        rejects: list[Reject] = []
        for key in d.deletes:
            self.rejected.pop(key, None)
            if self._held.drop(key):
                gone.add(key)
        for record in d.puts:
            held = self._held.drop(record.key)
            if (reason := self._admit(record)) is None:
                puts[record.key] = record
            else:
                rejects.append(Reject(d.to_seq, record.key, reason))
                if held:
                    gone.add(record.key)
        self.version = Version(self.version.epoch, d.to_seq)
        self.owner_seq = max(self.owner_seq, d.to_seq)
        about = None if d.loaded and not self.loaded else (*(r.key for r in d.puts), *d.deletes)
        if d.loaded:
            gone |= self._settle()
        return self._changed(puts, gone - puts.keys()) + self._governs(about) + self._answer(rejects)

    def _snapshot(self, s: Snapshot, now_ms: int) -> Effects:
        assembly = self._assembly
        if self.phase is not Phase.ASSEMBLING or assembly is None or s.epoch != assembly.epoch:
            return self._resync(f"a snapshot of epoch {s.epoch} that nothing announced", now_ms)
        assembly.take(s, self._fault)
        if assembly.count > 2 * RECORDS_MAX or assembly.bytes > 2 * VIEW_BYTES_MAX:
            return self._refuse(
                "too_large",
                f"{self.owner} offers more than {2 * RECORDS_MAX} records or {2 * VIEW_BYTES_MAX} bytes; split it",
            )
        if not s.last:
            return []
        return self._complete(assembly, s, now_ms)

    def _complete(self, assembly: Assembly, s: Snapshot, now_ms: int) -> Effects:
        before = self._held.keys()
        said, puts, self.rejected = assembly.whole(self._held, self._fault, self._crowded)
        if not self._held.kept:
            self._kept_since_ms = now_ms
        self._held.replace(said, assembly.all.keys())
        self.loaded, self._afresh, self._governed = False, False, self.authority
        if s.loaded:
            self._settle()
        self.phase, self._assembly, self._foreign = Phase.LIVE, None, assembly.foreign
        self.version, self.instance = Version(assembly.epoch, s.to_seq), assembly.instance
        self.owner_seq = max(self.owner_seq, s.to_seq)
        rejects = [Reject(s.to_seq, key, reason) for key, (_, reason) in self.rejected.items()]
        return self._changed(puts, before - self._held.keys()) + self._governs() + self._answer(rejects) + self._fresh()

    def _beat(self, b: Beat, now_ms: int) -> Effects:
        if self.phase is not Phase.LIVE:
            return []
        if b.seq < self.version.seq:
            return self._resync(f"{self.owner} is at {b.seq}, behind the {self.version.seq} it had sent", now_ms)
        self.owner_seq = b.seq
        if b.seq > self.version.seq:
            return []
        if b.view_hash and not self._foreign:
            self.hash_matches = b.view_hash == self.hash()
            if not self.hash_matches:
                return self._resync(f"the view of {self.owner} at {self.version} differs from its own", now_ms)
        if b.loaded and not self.loaded:
            return self._changed({}, self._settle()) + self._governs()
        return []

    def hash(self) -> bytes:
        """Over what the owner has said, rejected records included."""
        said = {key: record.digest for key, record in self._held.said.items()}
        said.update((key, digest) for key, (digest, _) in self.rejected.items())
        return view_hash(said)

    def _fault(self, record: Record) -> str | None:
        """Why the owner may not say this; None if it may."""
        try:
            check_record(record, self.owner, authority=self.authority)
        except Invalid as e:
            return e.message
        return None

    def _crowded(self, count: int, size: int) -> str | None:
        """Why there is no room beside `count` records, for `size` bytes in all; None if there is."""
        if count < RECORDS_MAX and size <= VIEW_BYTES_MAX:
            return None
        return f"the view of {self.owner} is full: {RECORDS_MAX} records, {VIEW_BYTES_MAX} bytes"

    def _admit(self, record: Record) -> str | None:
        """Among what the owner says: None, or why the record is rejected."""
        full = self._crowded(len(self._held.said), self._held.bytes + len(record.body))
        if (reason := full or self._fault(record)) is not None:
            self.rejected[record.key] = (record.digest, reason)
            return reason
        self.rejected.pop(record.key, None)
        self._held.put(record)
        return None

    def _settle(self) -> set[RecordKey]:
        """The owner has started its servers: what it has not said again is gone."""
        self.loaded = True
        return self._held.settle()

    def _governs(self, about: Iterable[RecordKey] | None = None) -> Effects:
        """What an authority lays down, if something was said about that (None: about everything)."""
        if not self.authority or (about is not None and _TELLING.isdisjoint(k.kind for k in about)):
            return []
        refused = {k: reason for k, (_, reason) in self.rejected.items() if k.kind in GOVERNANCE}
        return [Governs(tuple(r for k, r in self._held.all().items() if k.kind in _TELLING), refused, self.loaded)]

    def _answer(self, rejects: list[Reject]) -> Effects:
        return [Send(Ack(self.version.seq)), *(Send(r) for r in rejects[:REJECTS_MAX])]

    def _changed(self, puts: Mapping[RecordKey, Record], gone: Set[RecordKey]) -> Effects:
        """What was different is told, and saved together with the version it belongs to."""
        told: Effects = [Changed(tuple(puts.values()), tuple(gone))] if puts or gone else []
        return [Save(self.version, self.instance, self.loaded, dict(puts), frozenset(gone)), *told]
