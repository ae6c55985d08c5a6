"""Records as JSON lines in files, for whoever ships logs: a follower of the store.

What the store has, these files get in the same order, byte for byte. After a failure (a full disk, a directory that is
gone) or a crash they go on where their last whole line stands, from the store; a line that was not written whole is
cut off first. Files are flushed with every batch, and synced with every checkpoint, rotation and stop: what a power
cut takes is written again, for the store is synced before.

A file is `audit-NODE-SERIES-SEQ.jsonl`: SEQ is its first record, SERIES when the series of files began (unix ms). A new
series begins where the last line of the old one is not what the store has: nothing is ever written over.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

from node.audit.chain import Head, unlinked
from node.audit.query import Query
from node.audit.rows import AuditStore, Row
from proto.errors import Invalid, MeshError, Unavailable

log = logging.getLogger("toolmesh.audit")

CATCH_UP_ROWS = 1_000
CATCH_UP_TURNS = 10
"""In one go; then the store has its turn again."""
_TAIL_BYTES = 32 * 1024 * 1024


class LogFile(NamedTuple):
    series: int
    seq: int
    path: Path


class JsonlSink:
    """`rotate_bytes` is when a file is followed by the next, `keep` how many stay. One thread uses it.

    `removed(head)` is told before files go: the log must say so first (see `drop`).
    """

    def __init__(
        self, directory: Path, node: str, rotate_bytes: int, keep: int, removed: Callable[[Head, str], None]
    ) -> None:
        self._directory = directory
        self._node = node
        self._name = re.compile(rf"audit-{re.escape(node)}-([0-9]{{1,15}})-([0-9]{{1,18}})\.jsonl")
        self._rotate_bytes = rotate_bytes
        self._keep = keep
        self._removed = removed
        self._file: BinaryIO | None = None
        self._size = 0
        self._series = 0
        self._last = Head(0, b"")
        self.torn_bytes = 0
        """Cut off from the last file when it was opened."""

    def __repr__(self) -> str:
        return f"JsonlSink({self._directory}, at {self._last.seq})"

    def files(self) -> list[LogFile]:
        """Of this node, oldest first."""
        found = [
            LogFile(int(m[1]), int(m[2]), p) for p in self._directory.iterdir() if (m := self._name.fullmatch(p.name))
        ]
        return sorted(found)

    def follow(self, store: AuditStore, now_ms: int) -> bool:
        """Write what the store has and the files have not; False: there is more. Raises `Unavailable`."""
        try:
            if self._file is None:
                self._open(store, now_ms)
            for _ in range(CATCH_UP_TURNS):
                rows = store.find(Query(after=self._last.seq, oldest_first=True, limit=CATCH_UP_ROWS))
                if not rows:
                    return True
                if not self.write(rows):
                    raise OSError(f"the store has no record {self._last.seq + 1}, but later ones")
            return False
        except OSError as e:
            self.close()
            raise Unavailable(
                f"audit.jsonl.directory {self._directory} cannot be written: {e.strerror or e}; the store has every "
                "record, and these files get them once this is mended"
            ) from None

    def write(self, rows: list[Row]) -> bool:
        """Rows that follow the last one; False (nothing was written) where they do not, or no file is open.

        Raises `OSError`.
        """
        if self._file is None or rows[0].seq != self._last.seq + 1:
            return False
        sync = False
        for row in rows:
            if self._size and self._size + len(row.line) >= self._rotate_bytes:
                self._rotate(row.seq)
            self._file.write(row.line + b"\n")
            self._size += len(row.line) + 1
            self._last = Head(row.seq, row.hash)
            sync = sync or row.kind == "system"
        self._file.flush()
        if sync:
            os.fsync(self._file.fileno())
        return True

    def drop(self, seq: int) -> None:
        """Remove the files all of whose records are `seq` or older: the log has said so."""
        files = [f for f in self.files() if f.series == self._series]
        for file, following in pairwise(files):
            if following.seq <= seq + 1:
                file.path.unlink(missing_ok=True)

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                with file:
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as e:
                log.warning("the audit's %s may lack its end: %s", self._directory, e.strerror or e)

    # ---- where the files stand ------------------------------------------------------------------

    def _open(self, store: AuditStore, now_ms: int) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        kept = store.kept()
        files = self.files()
        if files and (last := self._mended(files[-1], store)) is not None:
            self._series = files[-1].series
            self._last = last
            self._append_to(files[-1].path)
            if last.seq + 1 >= max(kept.first, 1):
                # What could not be told any more when the node stopped.
                self._tell_excess()
                return
            log.warning("the audit's files lack records %d to %d, which are gone", last.seq + 1, kept.first - 1)
        # A first series begins with what is there; one after another record than the store has, with the end of it.
        self._series = max(now_ms, files[-1].series + 1 if files else 0)
        first = kept.first if not files else kept.last + 1
        before = store.row(first - 1)
        self._last = Head(max(first, 1) - 1, before.hash if before else b"")
        self.close()
        self._append_to(self._path(self._last.seq + 1))
        if files and before:
            self._removed(self._last, "jsonl")

    def _mended(self, file: LogFile, store: AuditStore) -> Head | None:
        """The last whole record of a file, what follows it cut off; None where the store has another one."""
        with file.path.open("r+b") as f:
            size = f.seek(0, os.SEEK_END)
            f.seek(max(0, size - _TAIL_BYTES))
            tail = f.read()
            end = tail.rfind(b"\n") + 1
            if end < len(tail):
                self.torn_bytes += len(tail) - end
                log.warning(
                    "%s: %d bytes of a record that was not written whole are cut off", file.path, len(tail) - end
                )
                f.truncate(size - len(tail) + end)
        if not end:
            before = store.row(file.seq - 1)
            return Head(file.seq - 1, before.hash if before else b"")
        line = tail[tail.rfind(b"\n", 0, end - 1) + 1 : end - 1]
        try:
            found = unlinked(line).head
        except Invalid:
            return None
        row = store.row(found.seq)
        if row is not None:
            return found if row.line == line else None
        # What retention has taken from the store cannot be compared any more; the chain goes on all the same.
        return found if found.seq < store.kept().first else None

    def _append_to(self, path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "ab")
        self._size = path.stat().st_size

    def _path(self, seq: int) -> Path:
        return self._directory / f"audit-{self._node}-{self._series:013d}-{seq:012d}.jsonl"

    def _rotate(self, seq: int) -> None:
        self.close()
        self._append_to(self._path(seq))
        self._tell_excess()

    def _tell_excess(self) -> None:
        files = [f for f in self.files() if f.series == self._series]
        if len(files) > self._keep:
            self._removed(self._head_before(files[-self._keep]), "jsonl")

    def _head_before(self, file: LogFile) -> Head:
        with file.path.open("rb") as f:
            try:
                first = unlinked(f.readline(_TAIL_BYTES).rstrip(b"\n"))
            except MeshError as e:
                raise OSError(f"{file.path} does not begin with a record: {e.message}") from None
        return Head(first.seq - 1, first.prev)
