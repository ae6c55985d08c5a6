"""The audit's second thread: rows go to the store and to the files, and what is too old goes away.

Nothing that fails here loses a row: it is tried again, rows wait meanwhile within their bounds, and beyond these
`audit.overflow` decides what happens to calls.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from node.audit.chain import Head
from node.audit.entries import Entry, EventEntry, now_ms
from node.audit.jsonl import JsonlSink
from node.audit.rows import AuditStore, Kept, Row
from node.audit.scribe import Rows
from proto import jsons
from proto.errors import MeshError

log = logging.getLogger("toolmesh.audit")

BATCH_ROWS = 1_000
"""In one transaction."""
RETRY_S = 1.0
TEND_S = 60.0
"""Between two looks at what is too old, and at files that failed."""
REMOVE_ROWS = 5_000
"""In one transaction: the next batch waits some 50 ms for it."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long records stay in the store, in ms, and how many bytes of them."""

    age_ms: int
    bytes_max: int


class Keeper:
    """`tell` puts a record of its own into the log; `trouble(part, why)` says what fails ("": not any more); `written`
    is called after each batch. All three from this thread.
    """

    def __init__(
        self,
        rows: Rows,
        store: AuditStore,
        retention: Retention,
        tell: Callable[[Entry], None],
        trouble: Callable[[str, str], None],
        written: Callable[[], None],
        *,
        retry_s: float = RETRY_S,
        tend_s: float = TEND_S,
        clock: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._rows = rows
        self._store = store
        self.sink: JsonlSink | None = None
        self._retention = retention
        self._tell = tell
        self._trouble = trouble
        self._written = written
        self._retry_s = retry_s
        self._tend_s = tend_s
        self._clock = clock
        self._wall_ms = wall_ms
        self._giving_up = threading.Event()
        self._tend_at = 0.0
        self._behind = True
        self._follow_at = 0.0
        self._announced = 0
        self._remove_to = 0
        self.last_write_ms = 0
        self.head = Head(0, b"")
        self.kept = Kept(0, 0, 0, None)
        """As of the last batch: for who must not wait for a disk."""
        self._thread = threading.Thread(target=self._run, name="audit-keeper", daemon=True)

    def __repr__(self) -> str:
        return f"Keeper(at {self.head.seq}, {self._rows!r})"

    def start(self, head: Head) -> None:
        self.head = head
        self.kept = self._store.kept()
        self._thread.start()

    def finish(self, within_s: float) -> bool:
        """Wait until every row is on the disk; False: some are not, and are given up."""
        self._thread.join(within_s)
        self._giving_up.set()
        self._thread.join(self._retry_s + 1)
        return not len(self._rows)

    def _run(self) -> None:
        while not self._giving_up.is_set():
            rows = self._rows.first(BATCH_ROWS, self._tend_s)
            if not rows and self._rows.closed:
                break
            self._attempt("store", lambda rows=rows: self._keep(rows))  # type: ignore[misc]
            if self.sink is not None:
                self._attempt("jsonl", lambda rows=rows: self._pass_on(rows))  # type: ignore[misc]
            self._attempt("retention", self._tend)
        if self.sink is not None:
            self._attempt("jsonl", lambda: self._pass_on([]))
            self.sink.close()

    def _attempt(self, part: str, work: Callable[[], None]) -> None:
        try:
            work()
        except MeshError as e:
            self._failed(part, e.message)
        except Exception as e:
            # A bug of ours: said, and tried again like a failure of the disk.
            log.exception("a fault in the audit's %s", part)
            self._failed(part, f"{type(e).__name__}: {e}")

    def _failed(self, part: str, why: str) -> None:
        self._trouble(part, why)
        if part == "store":
            self._giving_up.wait(self._retry_s)

    def _keep(self, rows: list[Row]) -> None:
        if not rows:
            return
        self._store.append(rows)
        self._rows.done(rows)
        self.head = Head(rows[-1].seq, rows[-1].hash)
        self.last_write_ms = self._wall_ms()
        # As the store would say, which takes as long as two rows.
        kept, size = self.kept, sum(len(row.line) + 1 for row in rows)
        self.kept = Kept(kept.first or rows[0].seq, self.head.seq, kept.bytes + size, self.head)
        self._trouble("store", "")
        for row in rows:
            if row.kind == "system" and b'"action":"retention"' in row.line:
                self._announcement(row)
        self._written()

    def _pass_on(self, rows: list[Row]) -> None:
        sink = self.sink
        assert sink is not None  # noqa: S101 - asked by the caller
        if self._behind or not rows:
            if not self._behind or self._clock() < self._follow_at:
                return
            self._follow_at = self._clock() + self._retry_s
            self._behind = not sink.follow(self._store, self._wall_ms())
            self._follow_at = 0.0
        else:
            # Until it has worked they are behind, and asked for from the store.
            self._behind = True
            self._behind = not (rows[-1].seq <= self.head.seq and self._written_to(sink, rows))
        self._trouble("jsonl", "")

    def _written_to(self, sink: JsonlSink, rows: list[Row]) -> bool:
        try:
            return sink.write(rows)
        except OSError:
            sink.close()
            # Whoever follows from the store says what is wrong, in one place.
            return False

    # ---- retention -------------------------------------------------------------------------------

    def _tend(self) -> None:
        """First the log says what goes, and only when that is on the disk does it go."""
        if self._remove_to:
            if self._store.remove_to(self._remove_to, REMOVE_ROWS) == 0:
                self._remove_to = 0
            self.kept = self._store.kept()
            self._trouble("retention", "")
            return
        if self._clock() < self._tend_at:
            return
        self._tend_at = self._clock() + self._tend_s
        age, size = (
            self._store.before(self._wall_ms() - self._retention.age_ms),
            self._store.beyond(self._retention.bytes_max),
        )
        cut = max(age, size)
        # The last one stays: what comes next hangs on it.
        cut = min(cut, self.head.seq - 1)
        if cut <= self._announced or (row := self._store.row(cut)) is None:
            return
        self._announced = cut
        self.removing(Head(cut, row.hash), "store", "age" if age >= size else "size")
        self._trouble("retention", "")

    def removing(self, last: Head, of: str, why: str = "size") -> None:
        """Say in the log that what came up to `last` goes from the store or from the files."""
        removed = {"seq": last.seq, "hash": last.hash.hex(), "of": of}
        self._tell(EventEntry(self._wall_ms(), "system", "retention", why, {"removed": removed}))

    def _announcement(self, row: Row) -> None:
        removed = jsons.loads_object(row.line, "a record of ours").get("removed")
        if not isinstance(removed, dict):
            return
        if removed.get("of") == "store":
            self._remove_to = int(removed["seq"])
        elif self.sink is not None:
            self.sink.drop(int(removed["seq"]))
