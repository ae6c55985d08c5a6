"""What this node lays down, and what it has heard of authorities, on disk: `governance.db` in data_dir.

It outlives the views of peers, which are let go after a day: neither a restart nor an authority that is away opens
anything. synchronous=FULL: what a verb has answered, and what an authority was told has arrived, survives a power cut.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from proto.errors import Invalid, MeshError, Unavailable
from proto.names import NodeId
from proto.records import Kind, Record, RecordKey

FILE = "governance.db"
SCHEMA = 1
_KINDS = frozenset(Kind)

_TABLES = """
CREATE TABLE this (one INTEGER PRIMARY KEY CHECK (one = 1), store TEXT NOT NULL) STRICT;
CREATE TABLE authorities (
    id TEXT PRIMARY KEY, role INTEGER NOT NULL, heard_ms INTEGER NOT NULL, store TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE records (
    authority TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (authority, kind, id)
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Saved:
    """What is known of one authority. `role`: its certificate had it when it was last met; `heard_ms` in unix ms;
    `store`: which file it had laid this down in."""

    authority: NodeId
    role: bool
    heard_ms: int
    store: str = ""
    records: Mapping[RecordKey, Record] = field(default_factory=dict)


class GovernanceStore(Protocol):
    """Each method is one transaction, of a few milliseconds. All raise `Unavailable` if the disk fails."""

    def open(self) -> None:
        """Raises `Unavailable` if the file cannot be read: it is never set aside, since that would open things."""

    @property
    def identity(self) -> str:
        """Drawn when the file was made; a file that was lost and made anew has another. Once open."""

    def load(self) -> Sequence[Saved]: ...

    def change(self, met: Saved, puts: Collection[Record], deletes: Collection[RecordKey]) -> None:
        """What the authority says anew, and how it was met; the records of `met` are not looked at."""

    def met(self, authority: NodeId, *, role: bool, heard_ms: int) -> None:
        """Nothing changed; ignored of an authority that is not known."""

    def forget(self, authority: NodeId) -> None: ...

    def close(self) -> None: ...


def _drawn() -> str:
    return secrets.token_hex(16)


class SqliteGovernanceStore:
    """`GovernanceStore` in `governance.db` under `data_dir`, held by one process, for one thread at a time."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE
        self._db: sqlite3.Connection | None = None
        self.identity = ""

    def __repr__(self) -> str:
        return f"SqliteGovernanceStore({self._path.name}, {'open' if self._db else 'closed'})"

    def open(self) -> None:
        if self._db is not None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            db = sqlite3.connect(self._path, timeout=1.0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as e:
            raise self._unavailable(e) from None
        try:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            schema = int(db.execute("PRAGMA user_version").fetchone()[0])
            if schema > SCHEMA:
                raise Invalid(f"{FILE} was written by a newer release (schema {schema}): run that release")
            if schema == 0:
                for statement in _TABLES.split(";"):
                    db.execute(statement)
                db.execute("INSERT INTO this VALUES (1, ?)", (_drawn(),))
                db.execute(f"PRAGMA user_version = {SCHEMA}")
            self.identity = db.execute("SELECT store FROM this").fetchone()[0]
            db.execute("COMMIT")
        except sqlite3.Error as e:
            db.close()
            raise self._unavailable(e) from None
        except MeshError:
            db.close()
            raise
        self._db = db

    def load(self) -> Sequence[Saved]:
        with self._transaction() as db:
            found = {
                uri: Saved(NodeId.parse(uri), bool(role), heard_ms, store)
                for uri, role, heard_ms, store in db.execute("SELECT * FROM authorities ORDER BY id")
            }
            held: dict[str, dict[RecordKey, Record]] = {uri: {} for uri in found}
            for uri, kind, record_id, digest, body in db.execute("SELECT * FROM records ORDER BY rowid"):
                if uri in held and kind in _KINDS:
                    record = Record(Kind(kind), record_id, digest, body)
                    held[uri][record.key] = record
            return [replace(saved, records=held[uri]) for uri, saved in found.items()]

    def change(self, met: Saved, puts: Collection[Record], deletes: Collection[RecordKey]) -> None:
        uri = met.authority.uri
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO authorities VALUES (?, ?, ?, ?)", (uri, met.role, met.heard_ms, met.store)
            )
            db.executemany(
                "DELETE FROM records WHERE authority = ? AND kind = ? AND id = ?",
                [(uri, key.kind.value, key.id) for key in deletes],
            )
            db.executemany(
                "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)",
                [(uri, r.kind.value, r.id, r.digest, r.body) for r in puts],
            )

    def met(self, authority: NodeId, *, role: bool, heard_ms: int) -> None:
        with self._transaction() as db:
            db.execute("UPDATE authorities SET role = ?, heard_ms = ? WHERE id = ?", (role, heard_ms, authority.uri))

    def forget(self, authority: NodeId) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM records WHERE authority = ?", (authority.uri,))
            db.execute("DELETE FROM authorities WHERE id = ?", (authority.uri,))

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
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
        except (sqlite3.Error, Invalid) as e:
            raise self._unavailable(e) from None

    def _unavailable(self, error: Exception) -> Unavailable:
        if "locked" in str(error):
            return Unavailable(f"{FILE} in data_dir is held by another process: give each node a data_dir of its own")
        return Unavailable(
            f"{self._path} cannot be used: {error}; mend the disk, or bring the file back from a copy. Moving it away "
            "opens whatever was laid down"
        )


class MemoryGovernanceStore:
    """`GovernanceStore` for as long as the process lives."""

    def __init__(self) -> None:
        self._saved: dict[NodeId, Saved] = {}
        self.identity = _drawn()

    def open(self) -> None:
        return

    def load(self) -> Sequence[Saved]:
        return [self._saved[authority] for authority in sorted(self._saved)]

    def change(self, met: Saved, puts: Collection[Record], deletes: Collection[RecordKey]) -> None:
        before = self._saved[met.authority].records if met.authority in self._saved else {}
        gone = set(deletes)
        records = {key: record for key, record in before.items() if key not in gone}
        records.update((record.key, record) for record in puts)
        self._saved[met.authority] = replace(met, records=records)

    def met(self, authority: NodeId, *, role: bool, heard_ms: int) -> None:
        if authority in self._saved:
            self._saved[authority] = replace(self._saved[authority], role=role, heard_ms=heard_ms)

    def forget(self, authority: NodeId) -> None:
        self._saved.pop(authority, None)

    def close(self) -> None:
        return
