"""The view store on disk: one SQLite file, WAL, held by one process.

WAL with synchronous=NORMAL: a crash of the process loses nothing, a power cut may lose the last transactions but
never half of one, so cursor and records agree whatever happens. What is lost is fetched again; the epoch never
needs more, since it is at least the clock. A transaction of a few records takes some 0.1 ms.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from federation import epochs
from federation.events import Save
from federation.ports import SavedView
from proto.errors import Invalid, MeshError, Unavailable
from proto.names import NodeId
from proto.records import Kind, Record, RecordKey, Version

log = logging.getLogger("toolmesh.federation.store")

FILE = "node.db"
SCHEMA = 1
_KINDS = frozenset(Kind)

_TABLES = """
CREATE TABLE own (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL) STRICT;
CREATE TABLE views (
    owner TEXT PRIMARY KEY, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, instance BLOB NOT NULL,
    loaded INTEGER NOT NULL, heard_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE records (
    owner TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL,
    key_id TEXT NOT NULL, signature BLOB NOT NULL, PRIMARY KEY (owner, kind, id)
) STRICT;
"""


class SqliteViewStore:
    """A `ViewStore` in `node.db` under `data_dir`."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE
        self._db: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"SqliteViewStore({self._path.name}, {'open' if self._db else 'closed'})"

    def open(self) -> None:
        """Opens or makes the file. A damaged one is set aside: everything in it can be fetched again."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise Unavailable(f"data_dir {str(self._path.parent)!r} cannot be made: {e.strerror}") from None
        try:
            self._db = self._connect()
        except sqlite3.OperationalError as e:
            raise self._unavailable(e) from None
        except sqlite3.DatabaseError as e:
            aside = self._path.with_suffix(".damaged")
            log.warning("%s is damaged (%s): set aside as %s, views are fetched again", FILE, e, aside.name)
            self._set_aside(aside)
            self._db = self._connect()

    def _connect(self) -> sqlite3.Connection:
        # Writes come from a worker thread, a raised epoch from the loop: `_transaction` holds them apart.
        db = sqlite3.connect(self._path, timeout=1.0, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            # Taking the write lock once makes a second process on the same folder fail here, not later.
            db.execute("BEGIN IMMEDIATE")
            schema = int(db.execute("PRAGMA user_version").fetchone()[0])
            if schema > SCHEMA:
                raise Invalid(
                    f"{FILE} was written by a newer release (schema {schema}, this one knows {SCHEMA}): "
                    "run that release, or move the file away to fetch everything again"
                )
            if schema == 0:
                for statement in _TABLES.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {SCHEMA}")
            db.execute("COMMIT")
        except (sqlite3.Error, MeshError):
            db.close()
            raise
        return db

    def _set_aside(self, aside: Path) -> None:
        try:
            self._path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self._path.with_name(FILE + suffix).unlink(missing_ok=True)
        except OSError as e:
            raise Unavailable(f"{FILE} is damaged and cannot be moved aside: {e.strerror}") from None

    def _unavailable(self, error: sqlite3.Error) -> Unavailable:
        if "locked" in str(error):
            return Unavailable(f"{FILE} in data_dir is held by another process: give each node a data_dir of its own")
        return Unavailable(f"{FILE} in data_dir: {error}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._db is None:
                raise Unavailable(f"{FILE} is not open")
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as e:
                raise self._unavailable(e) from None

    def begin_epoch(self, wall_ms: int, instance: bytes) -> int:
        return self._set_epoch(lambda saved: epochs.first(saved, wall_ms, instance))

    def raise_epoch(self, epoch: int) -> None:
        self._set_epoch(lambda saved: max(saved, epoch))

    def _set_epoch(self, following: Callable[[int], int]) -> int:
        with self._transaction() as db:
            row = db.execute("SELECT epoch FROM own").fetchone()
            epoch = following(int(row[0]) if row else 0)
            db.execute("INSERT OR REPLACE INTO own VALUES (1, ?)", (epoch,))
            return epoch

    def views(self) -> Sequence[SavedView]:
        with self._transaction() as db:
            records: dict[str, dict[RecordKey, Record]] = {}
            strange: Counter[str] = Counter()
            for owner, *row in db.execute("SELECT owner, kind, id, digest, body, key_id, signature FROM records"):
                if row[0] in _KINDS:
                    record = _record(*row)
                    records.setdefault(owner, {})[record.key] = record
                else:
                    strange[row[0]] += 1
            if strange:
                log.warning("left out of the views: records of kinds that a newer release wrote: %s", dict(strange))
            return tuple(
                SavedView(
                    NodeId.parse(owner), Version(epoch, seq), instance, bool(loaded), heard, records.get(owner, {})
                )
                for owner, epoch, seq, instance, loaded, heard in db.execute(
                    "SELECT owner, epoch, seq, instance, loaded, heard_ms FROM views ORDER BY owner"
                )
            )

    def save(self, changes: Mapping[NodeId, Save], heard_ms: int) -> None:
        with self._transaction() as db:
            for owner, change in changes.items():
                db.executemany(
                    "DELETE FROM records WHERE owner = ? AND kind = ? AND id = ?",
                    [(owner.uri, key.kind.value, key.id) for key in change.deletes],
                )
                db.executemany(
                    "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [
                        (owner.uri, r.kind.value, r.id, r.digest, r.body, r.key_id, r.signature)
                        for r in change.puts.values()
                    ],
                )
                db.execute(
                    "INSERT OR REPLACE INTO views VALUES (?, ?, ?, ?, ?, ?)",
                    (owner.uri, *change.version, change.instance, int(change.loaded), heard_ms),
                )

    def heard(self, owners: Sequence[NodeId], heard_ms: int) -> None:
        with self._transaction() as db:
            db.executemany("UPDATE views SET heard_ms = ? WHERE owner = ?", [(heard_ms, o.uri) for o in owners])

    def forget(self, owner: NodeId) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM records WHERE owner = ?", (owner.uri,))
            db.execute("DELETE FROM views WHERE owner = ?", (owner.uri,))

    def close(self) -> None:
        """Waits for a transaction that a worker thread is in."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None


def _record(kind: str, record_id: str, digest: bytes, body: bytes, key_id: str, signature: bytes) -> Record:
    return Record(Kind(kind), record_id, digest, body, key_id=key_id, signature=signature)
