"""The audit's first thread: entries become rows of the chain. It never waits for a disk.

Entries hold live objects (params, answers), so they are digested within `LINGER_S` and let go; rows that a slow disk
keeps waiting hold their own bytes only, and those are counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from node.audit.chain import CHECKPOINT_RECORDS, Head, linked
from node.audit.entries import Bodies, Entry, EventEntry, facts_of, now_ms
from node.audit.rows import Row
from node.audit.signing import Signer
from proto import jsons
from proto.names import NodeId

log = logging.getLogger("toolmesh.audit")

LINGER_S = 0.05
"""What comes within so long goes to the disk together."""

CHECKPOINT_S = 60.0
"""A checkpoint follows at the latest so long after the first record that none covers."""

_CHECKPOINT_ROWS = CHECKPOINT_RECORDS * 9 // 10
"""The rest is room for the records of lives that ended before their first checkpoint."""

_BREATH_ROWS = 25
"""After so many, a millisecond or so, the interpreter's lock is offered to the loop, which may wait for it."""


_PUT_ROWS = 500
"""Handed on together: a transaction costs as much as twenty rows of it."""


class Rows:
    """What waits for the disk. Filled by the scribe, emptied by the keeper; counts may be read by anyone."""

    def __init__(self) -> None:
        self._waiting: deque[Row] = deque()
        self._changed = threading.Condition()
        self.bytes = 0
        self.closed = False

    def __repr__(self) -> str:
        return f"Rows({len(self)}, {self.bytes} bytes)"

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, rows: list[Row]) -> None:
        with self._changed:
            self._waiting.extend(rows)
            self.bytes += sum(len(r.line) for r in rows)
            self._changed.notify_all()

    def first(self, most: int, timeout_s: float) -> list[Row]:
        """The oldest, left where they are; waits for one until the time is over or the last has come."""
        with self._changed:
            if not self._waiting and not self.closed:
                self._changed.wait(timeout_s)
            return [self._waiting[i] for i in range(min(most, len(self._waiting)))]

    def done(self, rows: list[Row]) -> None:
        """They are on the disk."""
        with self._changed:
            for row in rows:
                self._waiting.popleft()
                self.bytes -= len(row.line)

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()


class Scribe:
    """Writes the log of the node `me` from `head` on; each record tells the `epoch`, which is one life of it."""

    def __init__(
        self,
        me: NodeId,
        epoch: int,
        head: Head,
        at_ms: int,
        signer: Signer,
        bodies: Bodies | None,
        *,
        linger_s: float = LINGER_S,
        checkpoint_s: float = CHECKPOINT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._me = me
        self._epoch = epoch
        self._head = head
        self._at_ms = at_ms
        self._signer = signer
        self._bodies = bodies
        self._linger_s = linger_s
        self._checkpoint_s = checkpoint_s
        self._clock = clock
        self.waiting: deque[Entry] = deque()
        self.rows = Rows()
        self._unsigned = 0
        self._unsigned_since = 0.0
        self.signed_to = 0
        self._told = threading.Event()
        self._ending = threading.Event()
        self._awake = False
        self._thread = threading.Thread(target=self._run, name="audit-scribe", daemon=True)

    def __repr__(self) -> str:
        return f"Scribe(at {self._head.seq}, {len(self.waiting)} waiting, {self.rows!r})"

    def start(self) -> None:
        self._thread.start()

    def tell(self, entry: Entry) -> None:
        """From any thread; the order is that of the calls. Whether there is room is the caller's affair."""
        self.waiting.append(entry)
        if not self._awake:
            self._awake = True
            self._told.set()

    def finish(self, within_s: float) -> None:
        """Write what waits, seal it, and let nothing follow."""
        self._ending.set()
        self._told.set()
        self._thread.join(within_s)

    def _run(self) -> None:
        while True:
            self._told.wait(self._pause_s())
            self._ending.wait(self._linger_s)
            # In this order: whatever is told, or begins to end, after its flag was looked at wakes the thread again.
            self._awake = False
            self._told.clear()
            ending = self._ending.is_set()
            try:
                self._write(ending)
            except Exception:
                # A bug of ours. What was in hand is lost, and its absence is in the log of the process at least.
                log.exception("a fault in the audit")
            if ending and not self.waiting:
                self.rows.close()
                return

    def _pause_s(self) -> float | None:
        if not self._unsigned:
            return None
        return max(0.0, self._unsigned_since + self._checkpoint_s - self._clock())

    def _write(self, ending: bool) -> None:
        rows: list[Row] = []
        while self.waiting:
            rows.append(self._row(self.waiting.popleft()))
            if self._unsigned >= _CHECKPOINT_ROWS:
                rows.append(self._checkpoint())
            if len(rows) % _BREATH_ROWS == 0:
                time.sleep(0)
            if len(rows) >= _PUT_ROWS:
                self.rows.put(rows)
                rows = []
        if self._unsigned and (ending or self._pause_s() == 0.0):
            rows.append(self._checkpoint())
        if rows:
            self.rows.put(rows)

    def _row(self, entry: Entry) -> Row:
        facts = facts_of(entry, self._bodies)
        facts["node"] = self._me.name
        facts["epoch"] = self._epoch
        line, self._head = linked(facts, self._head)
        if not self._unsigned:
            self._unsigned_since = self._clock()
        self._unsigned += 1
        self._at_ms = max(self._at_ms, now_ms())
        return Row.of(facts, self._at_ms, self._head, jsons.compact(line))

    def _checkpoint(self) -> Row:
        covered = self._head
        made = self._signer.checkpoint(self._me.trust_domain, self._me.name, covered)
        row = self._row(EventEntry(now_ms(), "system", "checkpoint", "", {"checkpoint": made}))
        self._unsigned = 0
        self.signed_to = covered.seq
        return row
