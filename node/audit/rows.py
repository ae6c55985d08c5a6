"""Records as they are kept and found: a row each, and the port of whoever keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from node.audit.chain import Head
from node.audit.query import Query


class Row(NamedTuple):
    """One record and what it is found by. `line` has no line break; `at_ms` is never less than that of the row before,
    even where the clock was set back, so that a span of time is a span of rows."""

    seq: int
    at_ms: int
    kind: str
    who: str
    tenant: str
    server: str
    tool: str
    outcome: str
    call_id: str
    hash: bytes
    line: bytes

    @classmethod
    def of(cls, record: Mapping[str, Any], at_ms: int, head: Head, line: bytes) -> Row:
        """The row of a record's line, `head` being the record itself."""
        who, what = record.get("who") or {}, record.get("what") or {}
        return cls(
            head.seq,
            at_ms,
            str(record.get("kind", "")),
            str(who.get("subject", "")),
            str(who.get("tenant", "")),
            str(what.get("server", "")),
            str(what.get("tool", "")),
            str(record.get("outcome", "")),
            str(record.get("call_id", "")),
            head.hash,
            line,
        )


class Kept(NamedTuple):
    """What is there: records `first` to `last` (0: none), their lines' bytes, the head as it was last written."""

    first: int
    last: int
    bytes: int
    head: Head | None


class AuditStore(Protocol):
    """Raises `Unavailable` for what the disk does; rows are appended in the order of `seq`, without gaps."""

    def open(self) -> None:
        """Raises `Invalid` if a newer release wrote it."""

    def append(self, rows: Sequence[Row]) -> None: ...

    def kept(self) -> Kept: ...

    def find(self, query: Query) -> list[Row]:
        """At most `query.limit`, newest first, or oldest first if the query says so. Raises `Exhausted` where that
        takes too long."""

    def before(self, at_ms: int) -> int:
        """The last record older than that; 0 where there is none."""

    def beyond(self, bytes_max: int) -> int:
        """The last record that does not fit if `bytes_max` of lines are kept; 0 if all do."""

    def row(self, seq: int) -> Row | None: ...

    def remove_to(self, seq: int, most: int) -> int:
        """Remove the oldest records up to `seq`, `most` of them at most; returns how many."""

    def close(self) -> None: ...
