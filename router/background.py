"""What goes on behind the searches: the last snapshot is read, the model loaded, what is new embedded, and kept.

One task on the loop that sends one step after the other to a thread. Whatever fails there takes meaning away from
search for a while, never search itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from proto.errors import MeshError, Unavailable
from router.desk import Desk
from router.embedding import ASK_AGAIN_S, Embedding, Progress
from router.index import Index
from router.keeper import Keeper

log = logging.getLogger("toolmesh.router")

PROGRESS_EVERY_S = 10.0
RETRY_FIRST_S, RETRY_MAX_S = 5.0, 300.0
GRACE_S = 60.0
"""So long after the last change documents of a snapshot may still find their tools; then they are dropped."""
GRACE_MAX_S = 900.0
"""And so long after the start, in a mesh where something changes all the time."""
DROPPED_A_STEP = 256


class Background:
    """Lives on one event loop. `ready`: the model is loaded and has not failed since."""

    def __init__(
        self, desk: Desk, index: Index, embedding: Embedding | None, keeper: Keeper | None, clock: Callable[[], float]
    ) -> None:
        self._desk = desk
        self._index = index
        self._embedding = embedding
        self._keeper = keeper
        self._clock = clock
        self._worker = ThreadPoolExecutor(1, "toolmesh-embed")
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._pause_s = RETRY_FIRST_S
        self._retry_at = 0.0
        self._began_at = self._changed_at = clock()
        self.ready = False
        self.failed = False
        self.problem = ""

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(), name="router")

    async def stop(self) -> None:
        """Waits for the step in hand (well under a second) and for what is kept to be written. Idempotent."""
        self._stopping = True
        if self._embedding is not None:
            self._embedding.stopping = True
        self._wake.set()
        self._idle.set()
        task, self._task = self._task, None
        if task is not None:
            await task
        await asyncio.to_thread(self._worker.shutdown)

    def changed(self) -> None:
        """There are changes at the desk."""
        self._changed_at = self._clock()
        self._idle.clear()
        self._wake.set()

    async def settled(self) -> None:
        """Waits until there is nothing more to do for now. Raises `Unavailable` when stopped meanwhile."""
        await self._idle.wait()
        if self._stopping:
            raise Unavailable("the router has been stopped")

    # ---- the task on the loop --------------------------------------------------------------------

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        report = _Report(self._clock)
        try:
            await loop.run_in_executor(self._worker, self._begin)
            while not self._stopping:
                self._wake.clear()
                done = await loop.run_in_executor(self._worker, self._step)
                if done is Progress.WORKED:
                    report.working(self._index)
                elif done is Progress.WAITS:
                    await self._woken(ASK_AGAIN_S)
                # Not the inbox: a search may have emptied it into the index meanwhile, vectors still to come.
                elif not self._wake.is_set():
                    report.done(self._index)
                    self._idle.set()
                    await loop.run_in_executor(self._worker, self._keep)
                    await self._woken(self._pause())
        finally:
            await loop.run_in_executor(self._worker, self._end)

    async def _woken(self, most_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), most_s)

    def _pause(self) -> float | None:
        """Seconds until something is due though nothing changes; None: nothing is."""
        due = [self._retry_at] if self.failed else []
        if self._index.unclaimed:
            due.append(self._grace_ends_at)
        if self._keeper is not None and self._keeper.due_at(self._index) is not None:
            due.append(self._keeper.due_at(self._index) or 0.0)
        return max(0.01, min(due) - self._clock()) if due else None

    @property
    def _grace_ends_at(self) -> float:
        return min(self._changed_at + GRACE_S, self._began_at + GRACE_MAX_S)

    # ---- on the thread ---------------------------------------------------------------------------

    def _begin(self) -> None:
        try:
            if self._keeper is not None:
                self._keeper.restore(self._index, self._desk.call)
        except Exception:
            log.exception("the index's snapshot was not read")
        finally:
            self._desk.release()

    def _step(self) -> Progress:
        """What has changed into the index, the model if it is not loaded, a step of embedding."""
        embedding = self._embedding
        try:
            self._desk.settle()
            self._drop_unclaimed()
            if embedding is None or (self.failed and self._clock() < self._retry_at):
                return Progress.DONE
            if not self.ready:
                self._load(embedding)
            done = embedding.step()
        except Exception as e:
            # The edge of this thread.
            if not self._stopping:
                self._fail(e)
            return Progress.DONE
        self.failed, self.problem, self._pause_s = False, "", RETRY_FIRST_S
        return done

    def _load(self, embedding: Embedding) -> None:
        began = time.perf_counter()
        embedding.load()
        self.ready = True
        log.info("embedder %s ready after %.1f s", embedding.model_id, time.perf_counter() - began)

    def _fail(self, error: Exception) -> None:
        """Words alone, until the next try: after 5 s, 10 s, and so on up to five minutes."""
        known = isinstance(error, MeshError)
        message = error.message if isinstance(error, MeshError) else f"{type(error).__name__}: {error}"
        if message != self.problem:
            log.warning("search works by words alone for now: %s", message, exc_info=None if known else error)
        self.ready, self.failed, self.problem = False, True, message
        self._retry_at = self._clock() + self._pause_s
        self._pause_s = min(2 * self._pause_s, RETRY_MAX_S)

    def _drop_unclaimed(self) -> None:
        if self._index.unclaimed and self._clock() >= self._grace_ends_at:
            log.info("%d documents of the last run belong to no tool any more", self._index.unclaimed)
            while self._index.unclaimed and not self._stopping:
                self._desk.call(lambda: self._index.drop_unclaimed(DROPPED_A_STEP))

    def _keep(self) -> None:
        if self._keeper is not None:
            self._keeper.keep(self._index, self._desk.call)

    def _end(self) -> None:
        if self._keeper is not None:
            self._keeper.keep(self._index, self._desk.call, at_the_end=True)
        if self._embedding is not None:
            self._embedding.close()


class _Report:
    """A line at most every ten seconds while tools are being embedded, and one at the end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = clock()
        self._working = False

    def working(self, index: Index) -> None:
        self._working = True
        if self._clock() - self._last >= PROGRESS_EVERY_S:
            self._last = self._clock()
            log.info("embedded %d of %d tools", len(index) - index.pending, len(index))

    def done(self, index: Index) -> None:
        if self._working:
            self._working = False
            log.info("all embedded: %d of %d tools are searchable by meaning", len(index) - index.pending, len(index))
