"""Where a log to be checked comes from: the store, or files of JSON lines. Nothing is changed, nobody need be asked."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from node.audit.chain import Head
from node.audit.rows import Row
from node.audit.signing import Trust
from node.audit.store import FILE, reading
from node.audit.verifying import LINE_BYTES_MAX, Flaw, Line, Verdict, verify
from proto import jsons
from proto.errors import Invalid, Unavailable

_PART = re.compile(r"audit-.+-([0-9]{1,15})-([0-9]{1,18})\.jsonl")
_COLUMNS = "seq, at_ms, kind, who, tenant, server, tool, outcome, call_id, hash, line"


def check(
    paths: Sequence[Path], trust: Trust, *, node: str = "", after: Head | None = None, heads: Sequence[Head] = ()
) -> Verdict:
    """One log: a store (`.db`, or a data directory that holds one), or files of lines, in the order given.

    A directory of files that a node has written is read in their order. Raises `Invalid` for what cannot be read.
    """
    stores = [p for p in map(_store_in, paths) if p is not None]
    if stores:
        if len(paths) > 1:
            raise Invalid(f"{stores[0]} is a whole log: check it by itself")
        return _check_store(stores[0], trust, node, after, heads)
    files = [file for path in paths for file in _files_in(path)]
    return verify(_lines_of(files), trust=trust, node=node, after=after, heads=heads)


def _store_in(path: Path) -> Path | None:
    if path.is_dir():
        return path / FILE if (path / FILE).is_file() else None
    return path if path.suffix == ".db" else None


# ---- files ------------------------------------------------------------------------------------------


def _files_in(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    parts = sorted((int(m[1]), int(m[2]), p) for p in path.iterdir() if (m := _PART.fullmatch(p.name)))
    if not parts:
        raise Invalid(f"{path} holds neither {FILE} nor files of an audit (audit-NODE-….jsonl)")
    latest = parts[-1][0]
    # Of an earlier series, which may be a log that was lost since, each file can be checked by its name.
    return [p for series, _, p in parts if series == latest]


def _lines_of(files: Sequence[Path]) -> Iterator[Line]:
    for file in files:
        try:
            with file.open("rb") as f:
                n = 0
                while line := f.readline(LINE_BYTES_MAX + 2):
                    n += 1
                    yield Line(f"{file} line {n}", line)
        except OSError as e:
            raise Invalid(f"{file} cannot be read: {e.strerror or e}") from None


# ---- the store --------------------------------------------------------------------------------------


def _check_store(file: Path, trust: Trust, node: str, after: Head | None, heads: Sequence[Head]) -> Verdict:
    if not file.is_file():
        raise Invalid(f"{file} is not there: name the store, or a file of lines")
    try:
        db = reading(file)
    except sqlite3.Error as e:
        raise Invalid(f"{file} cannot be read: {e}") from None
    rows = _Rows(file, db)
    try:
        known = [*heads, *rows.noted()]
        verdict = verify(rows.lines(), trust=trust, node=node, after=after, heads=known, of="store")
    except sqlite3.DatabaseError as e:
        raise Unavailable(f"{file} cannot be read to its end: {e}") from None
    finally:
        db.close()
    if rows.flaw is not None and (verdict.flaw is None or rows.flaw.seq < verdict.flaw.seq):
        verdict.flaw = rows.flaw
    return verdict


class _Rows:
    def __init__(self, file: Path, db: sqlite3.Connection) -> None:
        self._file = file
        self._db = db
        self.flaw: Flaw | None = None
        # Read in one transaction: the node may be writing meanwhile.
        db.execute("BEGIN")

    def noted(self) -> list[Head]:
        """How far the store itself says that it came: what was written last, and whether it is still there."""
        return [Head(int(seq), bytes(digest)) for seq, digest in self._db.execute("SELECT seq, hash FROM head")]

    def lines(self) -> Iterator[Line]:
        for found in self._db.execute(f"SELECT {_COLUMNS} FROM records ORDER BY seq"):  # noqa: S608
            row = Row(*found)
            where = f"{self._file} record {row.seq}"
            if self.flaw is None and not _is_found_by_its_words(row):
                self.flaw = Flaw(
                    row.seq, where, "columns", f"record {row.seq} is not found by what it says, or as another"
                )
            yield Line(where, bytes(row.line) + b"\n")


def _is_found_by_its_words(row: Row) -> bool:
    """The line is chained, the columns beside it are not: somebody may have hidden a record from questions."""
    try:
        record = jsons.loads_object(bytes(row.line), "the record")
    except Invalid:
        return True
    return Row.of(record, row.at_ms, Head(int(record.get("seq") or 0), bytes(row.hash)), row.line) == row and (
        record.get("hash") == bytes(row.hash).hex()
    )
