"""Where a node's records lie: `audit.db` in its data directory.

One writer (the audit's thread) and readers beside it (WAL). Every append is one transaction, synced to the disk before
it returns (synchronous=FULL): what was told to be written survives a power cut. Lines are kept as they were hashed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from node.audit.chain import Head
from node.audit.query import USUAL, Query
from node.audit.rows import Kept, Row
from proto.errors import Exhausted, Invalid, Unavailable

FILE = "audit.db"
SCHEMA = 1
BUSY_S = 1.0
QUERY_S = 10.0
"""A question that takes longer is ended; it can be narrowed."""
IDLE_MAX = 4
"""Connections that are kept for the next questions."""

_TABLES = (
    """
    CREATE TABLE records (
        seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, kind TEXT NOT NULL, who TEXT NOT NULL, tenant TEXT NOT NULL,
        server TEXT NOT NULL, tool TEXT NOT NULL, outcome TEXT NOT NULL, call_id TEXT NOT NULL, hash BLOB NOT NULL,
        total INTEGER NOT NULL, line BLOB NOT NULL
    ) STRICT
    """,
    "CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash BLOB NOT NULL) STRICT",
    *(f"CREATE INDEX by_{column} ON records ({column}) WHERE {column} <> '{usual}'" for column, usual in USUAL.items()),
)
_INSERT = f"INSERT INTO records VALUES ({', '.join('?' * 12)})"  # noqa: S608


_COLUMNS = "seq, at_ms, kind, who, tenant, server, tool, outcome, call_id, hash, line"


class SqliteAuditStore:
    """An `AuditStore` in one file; `file` is made by `open`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._db: sqlite3.Connection | None = None
        self._idle: list[sqlite3.Connection] = []
        self._writing = threading.Lock()
        self._lending = threading.Lock()
        self._total = 0

    def __repr__(self) -> str:
        return f"SqliteAuditStore({self.file.name}, {'open' if self._db else 'closed'})"

    def open(self) -> None:
        """For a file that is damaged it raises `sqlite3.DatabaseError` itself: its opener decides what comes of it."""
        if self._db is not None:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._close_to_others()
            db = sqlite3.connect(self.file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.OperationalError) as e:
            raise self._unavailable(e) from None
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            (schema,) = db.execute("PRAGMA user_version").fetchone()
            if schema > SCHEMA:
                raise Invalid(f"{self.file} was written by a newer release (schema {schema}): run that release")
            if schema == 0:
                for statement in _TABLES:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {SCHEMA}")
            db.execute("COMMIT")
            found = db.execute("SELECT total FROM records ORDER BY seq DESC LIMIT 1").fetchone()
        except sqlite3.OperationalError as e:
            db.close()
            raise self._unavailable(e) from None
        except (sqlite3.Error, Invalid):
            db.close()
            raise
        self._total = int(found[0]) if found else 0
        self._db = db

    def _close_to_others(self) -> None:
        """Before SQLite makes its files beside the first, which get the rights of that; and those of an earlier run."""
        os.close(os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for beside in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self.file.with_name(self.file.name + beside).chmod(0o600)

    def append(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        total, given = self._total, []
        for row in rows:
            total += len(row.line) + 1
            given.append((*row[:-1], total, row.line))
        with self._transaction() as db:
            db.executemany(_INSERT, given)
            db.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?)", (rows[-1].seq, rows[-1].hash))
        self._total = total

    def kept(self) -> Kept:
        with self._read() as db:
            ends = "SELECT seq, total, length(line) FROM records ORDER BY seq"
            first = db.execute(f"{ends} LIMIT 1").fetchone()
            last = db.execute(f"{ends} DESC LIMIT 1").fetchone()
            head = db.execute("SELECT seq, hash FROM head").fetchone()
        noted = Head(int(head[0]), bytes(head[1])) if head else None
        if first is None:
            return Kept(0, 0, 0, noted)
        return Kept(first[0], last[0], last[1] - first[1] + first[2] + 1, noted)

    def find(self, query: Query) -> list[Row]:
        until = time.monotonic() + QUERY_S
        with self._read() as db:
            start = self._first_at(db, query.since_ms) if query.since_ms else 0
            end = self._first_at(db, query.until_ms) if query.until_ms else 0
            where, given = query.sql(start, end)
            order = "ASC" if query.oldest_first else "DESC"
            db.set_progress_handler(lambda: time.monotonic() > until, 10_000)
            try:
                found = db.execute(
                    f"SELECT {_COLUMNS} FROM records WHERE {where} ORDER BY seq {order} LIMIT ?",  # noqa: S608
                    (*given, query.limit),
                ).fetchall()
            except sqlite3.OperationalError as e:
                if "interrupted" in str(e):
                    raise Exhausted(
                        f"the question took longer than {QUERY_S:g} s; ask for a shorter time, or name who or a server"
                    ) from None
                raise
            finally:
                db.set_progress_handler(None, 0)
        return [Row(*r) for r in found]

    def before(self, at_ms: int) -> int:
        with self._read() as db:
            return self._last_before(db, self._first_at(db, at_ms))

    def beyond(self, bytes_max: int) -> int:
        with self._read() as db:
            return self._last_before(db, self._bisect(db, "total > ?", self._total - bytes_max))

    def row(self, seq: int) -> Row | None:
        with self._read() as db:
            found = db.execute(f"SELECT {_COLUMNS} FROM records WHERE seq = ?", (seq,)).fetchone()  # noqa: S608
        return Row(*found) if found else None

    def remove_to(self, seq: int, most: int) -> int:
        with self._transaction() as db:
            first = db.execute("SELECT min(seq) FROM records").fetchone()[0]
            if first is None:
                return 0
            return db.execute("DELETE FROM records WHERE seq <= ?", (min(seq, first + most - 1),)).rowcount

    def close(self) -> None:
        """Waits for what is being written; who reads meanwhile ends as it would have."""
        with self._writing, self._lending:
            for db in (*self._idle, *([self._db] if self._db else [])):
                db.close()
            self._idle.clear()
            self._db = None

    def _last_before(self, db: sqlite3.Connection, seq: int) -> int:
        (found,) = db.execute("SELECT max(seq) FROM records WHERE seq < ?", (seq,)).fetchone()
        return int(found or 0)

    def _first_at(self, db: sqlite3.Connection, at_ms: int) -> int:
        """The first record of that time or later; one more than the last where there is none, 1 where nothing is."""
        return self._bisect(db, "at_ms >= ?", at_ms)

    def _bisect(self, db: sqlite3.Connection, holds: str, value: int) -> int:
        low, last = db.execute("SELECT min(seq), max(seq) FROM records").fetchone()
        if low is None:
            return 1
        high = last + 1
        while low < high:
            middle = (low + high) // 2
            # Numbers have no gaps here, unless somebody has made one: then the next that is there decides.
            found = db.execute(
                f"SELECT {holds} FROM records WHERE seq >= ? ORDER BY seq LIMIT 1",  # noqa: S608
                (value, middle),
            ).fetchone()
            if found is None or found[0]:
                high = middle
            else:
                low = middle + 1
        return int(low)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._writing:
            if self._db is None:
                raise Unavailable(f"{self.file} is not open")
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        # Where the disk is full SQLite has rolled back already.
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as e:
                raise self._unavailable(e) from None

    @contextlib.contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        """A connection of one's own: a long question keeps nobody waiting, neither who asks nor who writes."""
        with self._lending:
            if self._db is None:
                raise Unavailable(f"{self.file} is not open")
            db = self._idle.pop() if self._idle else None
        try:
            db = db or reading(self.file)
            yield db
        except sqlite3.Error as e:
            raise self._unavailable(e) from None
        finally:
            with self._lending:
                keep = db is not None and self._db is not None and len(self._idle) < IDLE_MAX
                if db is not None and keep:
                    self._idle.append(db)
            if db is not None and not keep:
                db.close()

    def _unavailable(self, error: Exception) -> Unavailable:
        why = getattr(error, "strerror", None) or error
        return Unavailable(f"the audit's {self.file} cannot be used: {why}; check the disk and the rights to the file")


def reading(file: Path) -> sqlite3.Connection:
    """A connection that only reads, beside whoever writes. Raises `sqlite3.Error`."""
    db = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S, check_same_thread=False)
    db.execute("PRAGMA query_only = 1")
    return db
