"""What a node was given at run time and must remember: the servers that agents added from its catalogue."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Protocol

from proto.errors import Exhausted, Unavailable
from proto.names import check_server_name

ADDED_MAX = 10_000
_SCHEMA = 1


class ServerNames(Protocol):
    """A durable set of server names. One writer: the node itself. A call takes milliseconds at most."""

    def open(self) -> None:
        """Before anything else; no-op when open."""

    def names(self) -> tuple[str, ...]:
        """In the order in which they were added."""

    def add(self, name: str) -> None:
        """No-op for a known name. Raises `Invalid` for what is no server name, `Exhausted` beyond `ADDED_MAX`."""

    def remove(self, name: str) -> None:
        """No-op for an unknown name."""

    def close(self) -> None: ...


class AddedServers:
    """`ServerNames` in SQLite; `open` makes the file and its directory. Raises `Unavailable` naming the file.

    Written before `add` returns (synchronous=FULL), a few times in a node's life.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        if self._connection is not None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self._file, isolation_level=None, timeout=5)
        except (OSError, sqlite3.Error) as e:
            raise self._unavailable(e) from None
        try:
            (found,) = db.execute("PRAGMA user_version").fetchone()
            if found > _SCHEMA:
                raise Unavailable(f"{self._file} was written by a newer toolmesh (schema {found}); upgrade this node")
            db.execute(
                "CREATE TABLE IF NOT EXISTS added_servers "
                "(position INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT"
            )
            db.execute(f"PRAGMA user_version = {_SCHEMA}")
        except sqlite3.Error as e:
            db.close()
            raise self._unavailable(e) from None
        except Unavailable:
            db.close()
            raise
        self._connection = db

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise Unavailable(f"{self._file} is not open")
        return self._connection

    def names(self) -> tuple[str, ...]:
        try:
            return tuple(n for (n,) in self._db.execute("SELECT name FROM added_servers ORDER BY position"))
        except sqlite3.Error as e:
            raise self._unavailable(e) from None

    def add(self, name: str) -> None:
        if _may_add(name, self.names()):
            self._write("INSERT OR IGNORE INTO added_servers (name) VALUES (?)", name)

    def remove(self, name: str) -> None:
        self._write("DELETE FROM added_servers WHERE name = ?", name)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(self, statement: str, name: str) -> None:
        try:
            self._db.execute(statement, (name,))
        except sqlite3.Error as e:
            raise self._unavailable(e) from None

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(f"{self._file} cannot be used: {error}; check the directory, its rights and the disk")


class MemoryAddedServers:
    """`ServerNames` for as long as the process lives."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def open(self) -> None:
        return

    def names(self) -> tuple[str, ...]:
        return tuple(self._names)

    def add(self, name: str) -> None:
        if _may_add(name, self.names()):
            self._names[name] = None

    def remove(self, name: str) -> None:
        self._names.pop(name, None)

    def close(self) -> None:
        return


def _may_add(name: str, known: tuple[str, ...]) -> bool:
    check_server_name(name)
    if name not in known and len(known) >= ADDED_MAX:
        raise Exhausted(f"{ADDED_MAX} servers have been added already; remove one first")
    return name not in known
