"""The vectors that a router keeps: behind its back, by a thread that alone waits for the store.

    Router ──get, bounded──► asks ┐
           ──put, at once──► waiting ─► the keeping thread ──► Shelf (Chroma in a directory or at a server, memory)
           ──sweep, daily──► used ┘

A store that fails is left alone for a while, then tried again; what is to be kept waits in memory meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from proto.errors import Unavailable
from router.digests import DigestSet
from router.ports import Vectors

log = logging.getLogger("toolmesh.router")

BATCH = 500
WAITING_MAX = 50_000
"""Vectors that wait to be written, as float16; beyond it the oldest are dropped, and computed again after a restart."""

GET_S = 20.0
"""Of a look-up, which waits for the store to be opened too: half a second, or ten where the machine is busy."""

WRITE_AFTER_S = 2.0
"""A batch that does not fill is written so long after its first vector."""

REST_AFTER_S = 10.0
"""A store that is asked nothing for so long gives back its memory."""

AWAY_MIN_S = 1.0
AWAY_MAX_S = 60.0
CLOSE_S = 10.0
"""A node that stops writes what waits for so long at most."""


class Shelf(Protocol):
    """Where vectors lie: used by one thread, opened at first need. Calls raise `Unavailable`; the next one may work."""

    def open(self) -> None:
        """Claim it. Raises `Unavailable` for what will not mend itself."""

    def get(self, digests: Sequence[str]) -> dict[str, NDArray[np.float32]]: ...

    def put(self, digests: Sequence[str], vectors: Vectors) -> None: ...

    def sweeping(self, used: DigestSet) -> Iterator[int]:
        """Delete what has not been used for long: how many, slice by slice."""

    def rest(self) -> None:
        """Give back memory and connections until the next call."""

    def close(self) -> None: ...

    def disk_bytes(self) -> int:
        """That this node spends on it."""


class KeptStatus(NamedTuple):
    """For operators. `state` is `ready`, `away` or `closed`; the counts are of vectors, since the start."""

    state: str
    problem: str
    waiting: int
    read: int
    written: int
    dropped: int
    swept: int
    disk_bytes: int


@dataclass(slots=True)
class _Ask:
    digests: list[str]
    done: threading.Event = field(default_factory=threading.Event)
    found: dict[str, NDArray[np.float32]] = field(default_factory=dict)


class _Do(Enum):
    WRITE = auto()
    SWEEP = auto()
    REST = auto()
    END = auto()


class KeptVectors:
    """A `VectorStore` that never raises between `open` and `close`, whatever becomes of the shelf. Thread-safe."""

    def __init__(
        self,
        shelf: Shelf,
        *,
        clock: Callable[[], float] = time.monotonic,
        get_s: float = GET_S,
        write_after_s: float = WRITE_AFTER_S,
        rest_after_s: float = REST_AFTER_S,
        away_min_s: float = AWAY_MIN_S,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self._shelf = shelf
        self._clock = clock
        self._get_s = get_s
        self._write_after_s = write_after_s
        self._rest_after_s = rest_after_s
        self._away_min_s = away_min_s
        self._waiting_max = waiting_max
        self._change = threading.Condition()
        self._asks: deque[_Ask] = deque()
        self._waiting: OrderedDict[str, NDArray[np.float16]] = OrderedDict()
        self._waiting_since_s = 0.0
        self._sweeping: Iterator[int] | None = None
        self._thread: threading.Thread | None = None
        self._end_s: float | None = None
        self._busy_since_s: float | None = None
        self._used_s: float | None = None
        self._failures = 0
        self._away_until_s = 0.0
        self._read = self._written = self._dropped = self._swept = self._disk_bytes = 0
        self.problem = ""
        """Why vectors are not kept now, where they are not."""

    def __repr__(self) -> str:
        s = self.status()
        return f"KeptVectors({self._shelf!r}, {s.state}, {s.waiting} waiting, {s.written} written)"

    def open(self) -> None:
        """Returns at once. Raises `Unavailable` for what will not mend itself, such as another process's directory."""
        if self._thread is None:
            self._shelf.open()
            self._end_s = None
            self._thread = threading.Thread(target=self._run, name="toolmesh-vectors", daemon=True)
            self._thread.start()

    def get(self, digests: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Those that are known: waits twenty seconds for the store, not at all while that is away, stuck or closing."""
        with self._change:
            self._check()
            found = {d: self._waiting[d].astype(np.float32) for d in digests if d in self._waiting}
            ask = _Ask([d for d in digests if d not in found])
            if not ask.digests or self._away or self._stuck or self._end_s is not None:
                return found
            self._asks.append(ask)
            self._change.notify_all()
        if ask.done.wait(self._get_s):
            found.update(ask.found)
        return found

    def put(self, digests: Sequence[str], vectors: Vectors) -> None:
        """Returns at once; written behind."""
        with self._change:
            self._check()
            if not self._waiting:
                self._waiting_since_s = self._clock()
            for digest, vector in zip(digests, vectors, strict=True):
                self._waiting[digest] = vector.astype(np.float16)
                self._waiting.move_to_end(digest)
            excess = len(self._waiting) - self._waiting_max
            for _ in range(excess):
                self._waiting.popitem(last=False)
            self._dropped += max(0, excess)
            self._change.notify_all()

    def sweep(self, used: Iterable[str]) -> None:
        """Begin to delete what has not been used for long; `used` are the digests of every text in use. Returns at
        once, unless `used` is slow; ignored while an earlier sweep is running."""
        with self._change:
            if self._sweeping is not None:
                return
        sweeping = self._shelf.sweeping(DigestSet(used))
        with self._change:
            self._check()
            self._sweeping = sweeping
            self._change.notify_all()

    def close(self) -> None:
        """Writes what waits, ten seconds at most. Idempotent."""
        thread = self._thread
        if thread is None:
            return
        with self._change:
            self._end_s = self._clock() + CLOSE_S
            self._change.notify_all()
        thread.join(CLOSE_S)
        self._thread = None
        if thread.is_alive():
            log.warning("the store of vectors does not answer; %d vectors are not written", len(self._waiting))
        else:
            self._shelf.close()

    def status(self) -> KeptStatus:
        with self._change:
            state = "closed" if self._thread is None else "away" if self._away or self._stuck else "ready"
            return KeptStatus(
                state,
                self.problem,
                len(self._waiting),
                self._read,
                self._written,
                self._dropped,
                self._swept,
                self._disk_bytes,
            )

    def _check(self) -> None:
        if self._thread is None:
            raise Unavailable("the vector store is closed; open it first")

    @property
    def _away(self) -> bool:
        return self._clock() < self._away_until_s

    @property
    def _stuck(self) -> bool:
        return self._busy_since_s is not None and self._clock() - self._busy_since_s > self._get_s

    # ---- the keeping thread ----------------------------------------------------------------------

    def _run(self) -> None:
        self._disk_bytes = self._shelf.disk_bytes()
        while (job := self._next()) is not _Do.END:
            try:
                self._do(job)
            except Unavailable as e:
                self._lose(e)
            except Exception:
                # The edge of this thread: without it nothing is kept, and nobody would know.
                log.exception("keeping vectors failed")
                self._lose(Unavailable("keeping vectors failed; the log says how"))
            else:
                if job is not _Do.REST:
                    self._win()
            finally:
                with self._change:
                    self._busy_since_s = None
                    if isinstance(job, _Ask):
                        job.done.set()

    def _next(self) -> _Ask | _Do:
        with self._change:
            while True:
                job, wait_s = self._due()
                if job is not None:
                    self._busy_since_s = self._clock()
                    return job
                self._change.wait(wait_s)

    def _due(self) -> tuple[_Ask | _Do | None, float | None]:
        """What is to be done now, else for how long there is nothing (None: until something comes)."""
        now_s = self._clock()
        ending = self._end_s is not None
        if ending or self._away:
            # Nobody waits for what is not read any more.
            while self._asks:
                self._asks.popleft().done.set()
        if self._end_s is not None and (not self._waiting or self._away or now_s > self._end_s):
            return _Do.END, 0
        if self._away:
            return None, self._away_until_s - now_s
        if self._asks:
            return self._asks.popleft(), 0
        dues = []
        if self._waiting:
            dues.append((self._waiting_since_s + self._write_after_s, _Do.WRITE))
            if ending or len(self._waiting) >= BATCH:
                return _Do.WRITE, 0
        if self._sweeping is not None:
            return _Do.SWEEP, 0
        if self._used_s is not None:
            dues.append((self._used_s + self._rest_after_s, _Do.REST))
        if not dues:
            return None, None
        at_s, job = min(dues, key=lambda due: due[0])
        return (job, 0) if at_s <= now_s else (None, at_s - now_s)

    def _do(self, job: _Ask | _Do) -> None:
        match job:
            case _Ask():
                job.found = self._shelf.get(job.digests)
                self._read += len(job.found)
            case _Do.WRITE:
                self._write()
            case _Do.SWEEP:
                self._sweep_a_slice()
            case _Do.REST:
                self._used_s = None
                self._shelf.rest()
                self._disk_bytes = self._shelf.disk_bytes()

    def _write(self) -> None:
        with self._change:
            batch = dict(list(self._waiting.items())[:BATCH])
        self._shelf.put(list(batch), np.stack(list(batch.values())).astype(np.float32))
        with self._change:
            for digest, vector in batch.items():
                if self._waiting.get(digest) is vector:
                    del self._waiting[digest]
            self._waiting_since_s = self._clock()
            self._written += len(batch)

    def _sweep_a_slice(self) -> None:
        sweeping = self._sweeping
        assert sweeping is not None  # noqa: S101 - due only then
        try:
            self._swept += next(sweeping)
        except StopIteration:
            self._sweeping = None
        except Unavailable:
            self._sweeping = None  # the next day's sweep does it all
            raise

    def _win(self) -> None:
        with self._change:
            self._used_s = self._clock()
            if self._failures:
                log.info("vectors are kept again")
            self._failures, self.problem = 0, ""

    def _lose(self, error: Unavailable) -> None:
        try:
            self._shelf.rest()
        except Unavailable as e:
            log.debug("a failed store does not rest: %s", e)
        with self._change:
            pause_s = min(AWAY_MAX_S, self._away_min_s * 2 ** min(self._failures, 10))
            self._failures += 1
            self._away_until_s = self._clock() + pause_s
            if self.problem != error.message:
                log.warning("vectors wait in memory until their store is back: %s", error.message)
            self.problem = error.message
