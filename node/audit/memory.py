"""The in-memory twin of the audit's store."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from node.audit.chain import Head
from node.audit.query import Query
from node.audit.rows import Kept, Row


class MemoryAuditStore:
    """`AuditStore` for as long as the process lives."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._head: Head | None = None
        self._lock = threading.Lock()

    def open(self) -> None:
        return

    def append(self, rows: Sequence[Row]) -> None:
        with self._lock:
            self._rows.extend(rows)
            if rows:
                self._head = Head(rows[-1].seq, rows[-1].hash)

    def kept(self) -> Kept:
        with self._lock:
            if not self._rows:
                return Kept(0, 0, 0, self._head)
            size = sum(len(r.line) + 1 for r in self._rows)
            return Kept(self._rows[0].seq, self._rows[-1].seq, size, self._head)

    def find(self, query: Query) -> list[Row]:
        with self._lock:
            found = [r for r in self._rows if query.matches(r)]
        return (found if query.oldest_first else found[::-1])[: query.limit]

    def before(self, at_ms: int) -> int:
        return next((r.seq for r in reversed(self._rows) if r.at_ms < at_ms), 0)

    def beyond(self, bytes_max: int) -> int:
        left = bytes_max
        for row in reversed(self._rows):
            left -= len(row.line) + 1
            if left < 0:
                return row.seq
        return 0

    def row(self, seq: int) -> Row | None:
        return next((r for r in self._rows if r.seq == seq), None)

    def remove_to(self, seq: int, most: int) -> int:
        with self._lock:
            going = min(most, sum(r.seq <= seq for r in self._rows))
            del self._rows[:going]
        return going

    def close(self) -> None:
        return
