"""`SecretStore` in one SQLite file that its owner alone can read; what is in it is encrypted besides."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from node.secrets.acts import ACTS_MAX, Act, opened_act, sealed_act
from node.secrets.ports import SECRETS_MAX, checked_name, checked_value
from node.secrets.sealed import SALT_BYTES, Cipher
from proto.errors import Exhausted, Unavailable, Unknown

FILE = "secrets.db"
"""In `node.data_dir`."""
BUSY_S = 5.0
"""So long another process may write: the node, or a verb of the operator's."""
_SCHEMA = 1

T = TypeVar("T")


class SqliteSecrets:
    """Opens under `key`, or under `old_key` while keys are being changed: whichever it is, `set` seals under that one
    until `rotate` has put all under `key`. The node and the operator's verbs may have it open at once.

    Made closed; opens, and is made, with its first use.

    With `by`, who sets, removes or rotates, each of these leaves an act in the file, in the same transaction, for the
    node to put on record; at `ACTS_MAX` that wait for it they raise `Exhausted`.
    """

    def __init__(self, file: Path, key: bytes, old_key: bytes | None = None) -> None:
        self.by = ""
        self._file = file
        self._keys = [key] if old_key is None else [key, old_key]
        self._open: sqlite3.Connection | None = None
        self._ciphers: list[Cipher] = []

    def __repr__(self) -> str:
        return f"SqliteSecrets({self._file})"

    def get(self, name: str) -> str:
        checked_name(name)

        def read(db: sqlite3.Connection, cipher: Cipher) -> str:
            row = db.execute("SELECT version, sealed FROM secrets WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise _unknown(name)
            return self._opened(cipher, name, *row)

        if not self._is_there:
            raise _unknown(name)
        return self._do(read)

    def set(self, name: str, value: str) -> None:
        checked_value(checked_name(name), value)

        def write(db: sqlite3.Connection, cipher: Cipher) -> None:
            row = db.execute("SELECT version FROM secrets WHERE name = ?", (name,)).fetchone()
            if row is None and db.execute("SELECT COUNT(*) FROM secrets").fetchone()[0] >= SECRETS_MAX:
                raise Exhausted(f"{SECRETS_MAX} secrets are kept already; remove one first")
            version = row[0] + 1 if row is not None else 1
            db.execute(
                "INSERT OR REPLACE INTO secrets (name, version, sealed) VALUES (?, ?, ?)",
                (name, version, cipher.seal(name, version, value)),
            )
            self._note(db, cipher, "set", name)

        self._do(write, writes=True)

    def remove(self, name: str) -> bool:
        checked_name(name)

        def delete(db: sqlite3.Connection, cipher: Cipher) -> bool:
            there = db.execute("DELETE FROM secrets WHERE name = ?", (name,)).rowcount > 0
            if there:
                self._note(db, cipher, "remove", name)
            return there

        return self._do(delete, writes=True)

    def names(self, prefix: str = "") -> list[str]:
        if not self._is_there:
            return []
        rows = self._do(lambda db, _: db.execute("SELECT name FROM secrets ORDER BY name").fetchall())
        return [name for (name,) in rows if name.startswith(prefix)]

    def verify(self) -> list[str]:
        """The names of those that do not open: changed, swapped, or put back by somebody without the key."""

        def tried(db: sqlite3.Connection, cipher: Cipher) -> list[str]:
            rows = db.execute("SELECT name, version, sealed FROM secrets ORDER BY name")
            return [name for name, version, sealed in rows if cipher.open(name, version, sealed) is None]

        return self._do(tried)

    def rotate(self) -> int:
        """Put every secret under `key`, all or none; how many there are. Raises `Unavailable` naming one that does not
        open."""

        def move(db: sqlite3.Connection, cipher: Cipher) -> int:
            new = self._ciphers[0]
            rows = db.execute("SELECT name, version, sealed FROM secrets").fetchall()
            for name, version, sealed in rows:
                value = self._opened(cipher, name, version, sealed)
                again = (version + 1, new.seal(name, version + 1, value), name)
                db.execute("UPDATE secrets SET version = ?, sealed = ? WHERE name = ?", again)
            for number, sealed in db.execute("SELECT id, sealed FROM acts").fetchall():
                known = opened_act(cipher, number, sealed)
                if known is not None:
                    db.execute("UPDATE acts SET sealed = ? WHERE id = ?", (sealed_act(new, known), number))
            db.execute("UPDATE store SET key_id = ?", (new.id,))
            self._note(db, new, "rotate", "")
            return len(rows)

        return self._do(move, writes=True)

    @property
    def rotated(self) -> bool:
        """Is all of it under `key`?"""
        return self._do(lambda _db, cipher: cipher is self._ciphers[0])

    def acts(self, after: int = 0) -> list[tuple[int, Act | None]]:
        """By number, oldest first; None for one that does not open: somebody without the key wrote it."""
        if not self._is_there:
            return []

        def read(db: sqlite3.Connection, cipher: Cipher) -> list[tuple[int, Act | None]]:
            rows = db.execute("SELECT id, sealed FROM acts WHERE id > ? ORDER BY id LIMIT ?", (after, ACTS_MAX))
            return [(number, opened_act(cipher, number, sealed)) for number, sealed in rows]

        return self._do(read)

    def forget_acts(self, through: int) -> None:
        """They are on record."""
        self._do(lambda db, _: db.execute("DELETE FROM acts WHERE id <= ?", (through,)), writes=True)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    @property
    def _is_there(self) -> bool:
        """Reading makes no file: whoever checks a configuration leaves nothing behind."""
        return self._open is not None or self._file.exists()

    def _note(self, db: sqlite3.Connection, cipher: Cipher, verb: str, name: str) -> None:
        if not self.by:
            return
        if db.execute("SELECT COUNT(*) FROM acts").fetchone()[0] >= ACTS_MAX:
            raise Exhausted(
                f"{ACTS_MAX} changes of {self._file} wait to be put on record; start the node, and try again"
            )
        number = db.execute("INSERT INTO acts (sealed) VALUES (x'')").lastrowid or 0
        act = Act(number, verb, name, self.by, int(time.time() * 1000))
        db.execute("UPDATE acts SET sealed = ? WHERE id = ?", (sealed_act(cipher, act), number))

    # ---- the file --------------------------------------------------------------------------------

    def _do(self, act: Callable[[sqlite3.Connection, Cipher], T], *, writes: bool = False) -> T:
        """One transaction, with the cipher that the store is under now: a rotation may have come between.

        What fails is told to callers and on pages too, so it names the file and not where it lies.
        """
        try:
            with self._transaction("IMMEDIATE" if writes else "DEFERRED") as db:
                row = db.execute("SELECT key_id FROM store").fetchone()
                cipher = next((c for c in self._ciphers if row is not None and c.id == row[0]), None)
                if cipher is None:
                    raise Unavailable(
                        f"{self._file.name} is encrypted under another key than secrets.key; give that one, or name it "
                        "in secrets.old_key and run 'toolmesh secrets rotate'"
                    )
                return act(db, cipher)
        except (OSError, sqlite3.Error) as e:
            raise Unavailable(
                f"{self._file.name} cannot be used: {e}; check node.data_dir, its rights and the disk"
            ) from None

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        db = self._opened_file()
        db.execute(f"BEGIN {kind}")
        try:
            yield db
            # Refused too while somebody still reads: then it is as if nothing had been begun.
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _opened_file(self) -> sqlite3.Connection:
        if self._open is not None:
            return self._open
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # SQLite would make it as the umask says; whoever reads it learns names, and how often each was set.
        os.close(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600))
        self._file.chmod(0o600)
        db = sqlite3.connect(self._file, isolation_level=None, timeout=BUSY_S)
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        self._open = db
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA secure_delete = ON")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")
        try:
            (found,) = db.execute("PRAGMA user_version").fetchone()
            if found > _SCHEMA:
                raise Unavailable(f"{self._file} was written by a newer toolmesh (schema {found}); upgrade this node")
            db.execute("CREATE TABLE IF NOT EXISTS store (salt BLOB NOT NULL, key_id TEXT NOT NULL) STRICT")
            db.execute(
                "CREATE TABLE IF NOT EXISTS secrets "
                "(name TEXT PRIMARY KEY, version INTEGER NOT NULL, sealed BLOB NOT NULL) STRICT"
            )
            db.execute(
                "CREATE TABLE IF NOT EXISTS acts (id INTEGER PRIMARY KEY AUTOINCREMENT, sealed BLOB NOT NULL) STRICT"
            )
            row = db.execute("SELECT salt FROM store").fetchone()
            salt = row[0] if row is not None else os.urandom(SALT_BYTES)
            self._ciphers = [Cipher(key, salt) for key in self._keys]
            if row is None:
                db.execute("INSERT INTO store (salt, key_id) VALUES (?, ?)", (salt, self._ciphers[0].id))
            if found != _SCHEMA:
                db.execute(f"PRAGMA user_version = {_SCHEMA}")
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    def _opened(self, cipher: Cipher, name: str, version: int, sealed: bytes) -> str:
        value = cipher.open(name, version, sealed)
        if value is None:
            raise Unavailable(
                f"secret {name!r} does not open: {self._file.name} was changed without the key; set it anew and find "
                "out who wrote there"
            )
        return value


def _unknown(name: str) -> Unknown:
    return Unknown(f"no secret is named {name!r}; 'toolmesh secrets set {name}' puts one there")
