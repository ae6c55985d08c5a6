"""The index over restarts: written to a snapshot when it has settled, read from it before the first tool comes.

It is written from live arrays while searches go on; if a document or vector changes meanwhile the file is thrown away
and written another time. Nothing depends on it: without one, words are indexed anew and vectors come from the store.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from router import snapshot
from router.documents import RECIPE
from router.index import Index

log = logging.getLogger("toolmesh.router")

KEEP_EVERY_S = 60.0
KEEP_LITTLE_EVERY_S = 1_800.0
MUCH_SHARE = 0.02
"""With fewer changes for each document the next snapshot waits for half an hour, or for the end."""
END_MAX_S = 5.0
"""Stopping waits so long at most for the snapshot."""

T = TypeVar("T")


class Ask(Protocol):
    def __call__(self, work: Callable[[], T], /) -> T: ...


class Keeper:
    """In the embedding thread. `model`: whose vectors there may be, "" for none."""

    def __init__(self, path: Path, model: str, clock: Callable[[], float]) -> None:
        self._path = path
        self._meta = {"model": model, "recipe": RECIPE}
        self._clock = clock
        self._version = 0
        self._kept_at: float | None = None

    def restore(self, index: Index, ask: Ask) -> None:
        """From the last snapshot, if there is one that is whole; what is damaged is removed."""
        began = time.perf_counter()
        try:
            meta, parts = snapshot.read(self._path)
            same = {name: meta.get(name) == value for name, value in self._meta.items()}
            ask(lambda: index.restore(parts, words=same["recipe"], vectors=same["model"], stale=not same["recipe"]))
        except FileNotFoundError:
            return
        except Exception as e:
            # Whatever is wrong with it, the store has the vectors and the tools have the words.
            log.warning("the index's snapshot cannot be used and is removed: %s: %s", type(e).__name__, e)
            with contextlib.suppress(OSError):
                self._path.unlink()
            return
        took = time.perf_counter() - began
        log.info("%d documents read from the index's snapshot in %.1f s", index.unclaimed, took)

    def due_at(self, index: Index) -> float | None:
        """When what has changed is to be written; None: nothing has."""
        if index.version == self._version:
            return None
        if self._kept_at is None:
            return self._clock()
        much = index.version - self._version >= MUCH_SHARE * index.slots.rows
        return self._kept_at + (KEEP_EVERY_S if much else KEEP_LITTLE_EVERY_S)

    def keep(self, index: Index, ask: Ask, *, at_the_end: bool = False) -> None:
        """Write what has changed: once a minute at most, a little in half an hour, and at the end."""
        due_at = self.due_at(index)
        if due_at is None or (due_at > self._clock() and not at_the_end):
            return
        self._kept_at = self._clock()
        until = time.monotonic() + (END_MAX_S if at_the_end else 60 * END_MAX_S)
        try:
            version, parts = ask(lambda: (index.version, index.state()))
            size = snapshot.write(
                self._path, self._meta, parts, lambda: index.version == version and time.monotonic() < until
            )
        except snapshot.Interrupted:
            log.debug("the index changed while its snapshot was written, or it took too long")
        except Exception as e:
            log.warning("the index's snapshot cannot be written to %s: %s: %s", self._path, type(e).__name__, e)
        else:
            self._version = version
            log.info("snapshot of the index written: %.0f MB", size / 1e6)
