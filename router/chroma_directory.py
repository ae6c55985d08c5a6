"""Chroma under a directory of this node's own: locked, closed while at rest, moved aside when it is damaged."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from proto import jsons
from proto.errors import MeshError, Unavailable
from router.chroma import Chroma, ask, days, imported
from router.digests import DigestSet
from router.documents import RECIPE
from router.heap import trim
from router.ports import Vectors
from router.seals import Seal, broken, seal

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

log = logging.getLogger("toolmesh.router")

ASIDE_MAX = 3
FAILURES_MAX = 3
"""Calls that fail, one after the other, though the disk has room: then the directory counts as damaged."""

CRASHES_MAX = 2
"""Lives of a process that ended while Chroma was at work here: a damaged file may kill the process that reads it, so
that the next start would die of it too."""

FREE_BYTES_MIN = 64 * 1024 * 1024


class ChromaDirectory(Chroma):
    """What is damaged is moved aside (the newest three are kept) and begun anew: vectors can be computed again.

    Beside the directory `NAME` lie `NAME.lock`, which one process holds, and `NAME.busy` while it is open. `NAME.rest`
    is written when it is let go: the sums of its files, since a damaged one can kill the process that gives it to
    Chroma; and the digests that are in it, so that what is not there is known without opening it (open, it holds 2.2 kB
    a vector in memory).
    """

    keep_days = 1

    def __init__(
        self, directory: Path, model_id: str, *, recipe: str = RECIPE, today: Callable[[], int] = days
    ) -> None:
        super().__init__(model_id, recipe=recipe, today=today)
        self._directory = directory
        self._lock: int | None = None
        self._known: DigestSet | None = None
        self._seal: Seal | None = None
        self._failures = 0

    def __repr__(self) -> str:
        return f"ChromaDirectory({self._directory}, {'at work' if self._client else 'at rest'})"

    def open(self) -> None:
        """Takes the lock; Chroma itself is opened at first need. Raises `Unavailable` if another process has it."""
        if self._lock is not None:
            return
        path = self._beside("lock")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise Unavailable(f"vectors cannot be kept in {self._directory}: {e.strerror or e}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise Unavailable(
                f"vectors cannot be kept in {self._directory}: another process has it; give each its own data_dir"
            ) from None
        self._lock = lock
        self._known = self._load_rest()
        super().open()

    def close(self) -> None:
        super().close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def rest(self) -> None:
        if self._client is None:
            return
        super().rest()
        if self._known is not None and not self._failures:
            self._save_rest(self._known)
        self._beside("busy").unlink(missing_ok=True)
        trim()

    def get(self, digests: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        self._check()
        with self._watching():
            if self._known is None:
                self._used()
            known = self._known or DigestSet()
            there = [d for d, has in zip(digests, known.has(digests), strict=True) if has]
            return super().get(there) if there else {}

    def put(self, digests: Sequence[str], vectors: Vectors) -> None:
        with self._watching():
            super().put(digests, vectors)
        if self._known is not None:
            self._known.add(digests)

    def sweeping(self, used: DigestSet) -> Iterator[int]:
        yield from super().sweeping(used)
        # Of what was deleted it would be said forever that it is there.
        self._known = self._list_known(self._used())

    def disk_bytes(self) -> int:
        found = 0
        for place, _, files in os.walk(self._directory):
            for file in files:
                with suppress(OSError):
                    found += os.path.getsize(os.path.join(place, file))
        return found

    # ---- opening -------------------------------------------------------------------------------

    def _connect(self) -> ClientAPI:
        busy = self._beside("busy")
        crashes = _number_in(busy)
        try:
            if crashes >= CRASHES_MAX:
                self._move_aside(f"the process ended {crashes} times while it was at work")
                crashes = 0
            elif self._failures >= FAILURES_MAX:
                self._move_aside(f"it failed {self._failures} times in a row")
            elif self._seal is not None and (why := broken(self._directory, self._seal)):
                self._move_aside(why)
            with suppress(OSError):
                busy.write_text(str(crashes + 1))
            return self._open_or_begin_anew()
        except Unavailable:
            busy.unlink(missing_ok=True)
            raise

    def _open_or_begin_anew(self) -> ClientAPI:
        try:
            return self._open_and_read()
        except Unavailable as e:
            if not self._has_room():
                raise
            # Chroma's Rust core raises what it likes for a damaged directory.
            self._move_aside(e.message)
        try:
            return self._open_and_read()
        except Unavailable:
            # Chroma 1.5 keeps what failed to start under its path, and lets go of it only in failing once more.
            return self._open_and_read()

    def _open_and_read(self) -> ClientAPI:
        chromadb = imported()
        self._directory.mkdir(parents=True, exist_ok=True)
        settings = ask(chromadb.config.Settings, anonymized_telemetry=False)
        client: ClientAPI = ask(chromadb.PersistentClient, path=str(self._directory), settings=settings)
        self._client = client
        # Reads something, so that a damaged file shows here and not in the middle of work.
        collection = self._find(client)
        ask(collection.peek, limit=1)
        if self._known is None:
            self._known = self._list_known(collection)
        self._beside("rest").unlink(missing_ok=True)
        self._seal = None
        return client

    def _list_known(self, collection: Collection) -> DigestSet:
        return DigestSet(ask(collection.get, include=[])["ids"])

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Count what fails in a row, and is not for want of room."""
        try:
            yield
        except Unavailable:
            self._failures += self._has_room()
            raise
        self._failures = 0

    def _has_room(self) -> bool:
        """Whether a failure may be damage: a full disk is none."""
        try:
            return shutil.disk_usage(self._directory.parent).free >= FREE_BYTES_MIN
        except OSError:
            return False

    def _move_aside(self, why: str) -> None:
        super().rest()
        aside = self._directory.with_name(f"{self._directory.name}.damaged-{time.time_ns()}")
        try:
            self._directory.rename(aside)
        except OSError as e:
            raise Unavailable(f"{self._directory} is damaged ({why}) and cannot be moved: {e.strerror or e}") from None
        log.warning("the vectors in %s are damaged (%s): moved to %s, begun anew", self._directory, why, aside)
        kept = sorted(self._directory.parent.glob(f"{self._directory.name}.damaged-*"))
        for old in kept[:-ASIDE_MAX]:
            shutil.rmtree(old, ignore_errors=True)
        self._known = DigestSet()
        self._failures = 0
        self._seal = None

    # ---- files beside it -----------------------------------------------------------------------

    def _beside(self, what: str) -> Path:
        return self._directory.with_name(f"{self._directory.name}.{what}")

    def _load_rest(self) -> DigestSet | None:
        """None where nothing is saved, or nothing that can be read: it is found out at first need then."""
        self._seal = None
        if not (self._directory / "chroma.sqlite3").exists():
            return DigestSet()
        try:
            head, _, numbers = self._beside("rest").read_bytes().partition(b"\n")
            saved = jsons.loads(head)
            known = DigestSet.of(np.frombuffer(numbers, np.uint64))
            self._seal = {name: (size, crc) for name, (size, crc) in saved["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, MeshError):
            return None
        # Digests are of one collection, the sums of all.
        return known if saved.get("collection") == self._name else None

    def _save_rest(self, known: DigestSet) -> None:
        new = self._beside("rest.new")
        with suppress(OSError):
            self._seal = seal(self._directory)
            head = jsons.dumps({"collection": self._name, "files": self._seal})
            new.write_bytes(head + b"\n" + known.array().tobytes())
            new.replace(self._beside("rest"))


def _number_in(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
