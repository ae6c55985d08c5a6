"""Searching for tools: what a node asks, on its event loop, while threads of the router's own do the work.

One thread searches and owns the index (`desk`); another turns texts into vectors (`embedding`) and asks the first to
take them in. The loop waits for neither: `apply` leaves changes in an inbox, which is emptied before each search, so
that a search sees every change made before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from proto.errors import Exhausted, MeshError, Unavailable
from router import confidence
from router.desk import Asked, Desk
from router.documents import document, text_digest
from router.embedding import ASK_AGAIN_S, Embedding, Progress, texts_of
from router.feedback import Feedback, Lift
from router.index import Index
from router.ports import (
    EVERYTHING,
    Embedder,
    Filter,
    Prefer,
    RouterStatus,
    SearchResult,
    ToolEntry,
    ToolKey,
    Vectors,
    VectorSource,
    VectorStore,
)
from router.queries import Encoder, question

log = logging.getLogger("toolmesh.router")

SEARCHES_WAITING_MAX = 128
PROGRESS_EVERY_S = 10.0
RETRY_FIRST_S, RETRY_MAX_S = 5.0, 300.0
REMOTE_QUERIES_AT_ONCE = 4
TOOLS = ("tool",)


class Router:
    """`start` it, `apply` what is offered, `search`, `stop` it. Everything public belongs to one event loop."""

    def __init__(
        self,
        embedder: Embedder | None,
        store: VectorStore | None,
        *,
        source: VectorSource | None = None,
        feedback: Feedback | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without an embedder search is lexical for good. `clock` counts seconds."""
        self._embedder = embedder
        self._feedback = feedback
        self._clock = clock
        self._index = Index()
        self._encoder = Encoder(embedder) if embedder else None
        self._desk = Desk(self._index, self._encode, self._learned)
        self._embedding = (
            Embedding(embedder, store, source, self._index, self._desk.call, clock=clock) if embedder else None
        )
        self._known: set[ToolKey] = set()
        self._ready = False
        self._failed = False
        self._pause_s = RETRY_FIRST_S
        self._retry_at = 0.0
        self._stopping = False
        self._problem = "" if embedder else "no embedder is configured"
        self._searching = 0
        self._worker = ThreadPoolExecutor(1, "toolmesh-embed")
        self._remote = ThreadPoolExecutor(REMOTE_QUERIES_AT_ONCE, "toolmesh-ask")
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._desk.release()

    def __repr__(self) -> str:
        s = self.status()
        return f"Router({s.mode}, {s.tools} tools, {s.embedded} embedded, {s.pending} pending)"

    async def start(self) -> None:
        """Returns at once; the model is loaded and tools are embedded in the background."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(), name="router")

    async def stop(self) -> None:
        """Waits for the step in hand (well under a second), then for the store to close. Idempotent."""
        self._stopping = True
        if self._embedding is not None:
            self._embedding.stopping = True
        self._wake.set()
        self._idle.set()
        task, self._task = self._task, None
        if task is not None:
            await task
        await asyncio.to_thread(self._desk.stop)
        await asyncio.to_thread(self._worker.shutdown)
        await asyncio.to_thread(self._remote.shutdown)

    def apply(self, puts: Iterable[ToolEntry], deletes: Iterable[ToolKey]) -> None:
        """Any search that begins after this sees it (of a flood, the first thousand changes). Deletes are taken first.

        Costs under a microsecond a tool here: what changed, and what not, is found out on the searching thread.
        """
        changes: dict[ToolKey, ToolEntry | None] = {}
        for key in deletes:
            if key in self._known:
                self._known.remove(key)
                changes[key] = None
        new = {entry.key: entry for entry in puts}
        self._known.update(new)
        changes.update(new)
        if changes:
            self._idle.clear()
            self._desk.change(changes)
            self._wake.set()

    async def search(
        self,
        query: str,
        key_words: Sequence[str] = (),
        *,
        k: int = 5,
        only: Filter = EVERYTHING,
        kinds: Sequence[str] = TOOLS,
        prefer: Prefer | None = None,
        principal: str = "",
        explain: bool = False,
    ) -> SearchResult:
        """The best `k` of these kinds that `only` lets through.

        `prefer` settles what is nearly level; `principal` is an opaque name of who asks: own experience counts more;
        `explain` fills each hit's `why`. Raises `Invalid`, `Exhausted` (too many searches waiting), `Unavailable`.
        """
        asked = question(query, key_words, k)
        if self._stopping:
            raise Unavailable("this node is shutting down and searches no more")
        if self._searching >= SEARCHES_WAITING_MAX:
            raise Exhausted(f"{SEARCHES_WAITING_MAX} searches are waiting on this node; try again", retry_after_s=1)
        began = self._clock()
        self._searching += 1
        try:
            if self._ready and self._encoder is not None and self._encoder.remote:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._remote, self._encoder.warm, asked.meanings)
            waiting = self._desk.search(Asked(asked, k, of_kinds(only, kinds), prefer, principal, explain))
            found, vectors = await asyncio.wrap_future(waiting)
        finally:
            self._searching -= 1
        return SearchResult(
            found.hits,
            "hybrid" if found.hybrid else "lexical",
            confidence.label(found.likely),
            (self._clock() - began) * 1000,
            found.searched,
            None if vectors is None else vectors[0],
        )

    def status(self) -> RouterStatus:
        tools = len(self._known)
        searchable = self._ready and self._embedder is not None
        # The inbox may hold tools that need no vector of their own; they count until that is known.
        waiting = min(tools, self._index.pending + self._desk.changes)
        pending = waiting if self._embedding and not self._failed else 0
        embedding = self._embedding
        return RouterStatus(
            tools=tools,
            embedded=tools - waiting if searchable else 0,
            pending=pending,
            embedder=self._embedder.model_id if searchable and self._embedder else "",
            mode="hybrid" if searchable else "lexical",
            problem=self._problem or (embedding.problem if embedding else ""),
            from_store=embedding.from_store if embedding else 0,
            from_peers=embedding.from_peers if embedding else 0,
            computed=embedding.computed if embedding else 0,
        )

    def knows(self, key: ToolKey) -> bool:
        """Whether a search that begins now could find it."""
        return key in self._known

    def waits(self, key: ToolKey) -> bool:
        """Whether its vectors are still to come; as of now, for people: the index may be changing under this look."""
        return self._desk.holds(key) or self._index.waits(key)

    def texts_in_use(self) -> Iterator[str]:
        """The digests of all texts that have vectors or are to have them, some more than once, made while it is read.
        For a worker thread. Raises `Unavailable` once stopped."""
        for entry in self._desk.call(self._index.slots.entries.copy):
            if entry is not None:
                yield from map(text_digest, texts_of(document(entry)))

    async def settled(self) -> None:
        """Waits until every change is indexed and, where there is a model that works, embedded. Needs `start`.

        Raises `Unavailable` if the router is stopped meanwhile.
        """
        await self._idle.wait()
        if self._stopping:
            raise Unavailable("the router has been stopped")

    # ---- the searching thread --------------------------------------------------------------------

    def _encode(self, texts: Sequence[str]) -> Vectors | None:
        return self._encoder.encode(texts) if self._ready and self._encoder is not None else None

    def _learned(self, vector: NDArray[np.float32], principal: str) -> Sequence[Lift]:
        if self._feedback is None or self._embedder is None:
            return ()
        return self._feedback.lifts(vector, principal, self._embedder.model_id)

    # ---- the embedding thread --------------------------------------------------------------------

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        progress = _Report(self._clock)
        try:
            while not self._stopping:
                self._wake.clear()
                done = await loop.run_in_executor(self._worker, self._step)
                if done is Progress.WORKED:
                    progress.report(self.status())
                    continue
                if done is Progress.WAITS:
                    await self._woken(ASK_AGAIN_S)
                    continue
                progress.finish(self.status())
                # Not the inbox: a search may have emptied it into the index meanwhile, vectors still to come.
                if not self._wake.is_set() and not self._stopping:
                    self._idle.set()
                    await self._woken(self._retry_at - self._clock() if self._failed else None)
        finally:
            if self._embedding is not None:
                await loop.run_in_executor(self._worker, self._embedding.close)

    async def _woken(self, most_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), most_s)

    def _step(self) -> Progress:
        """What has changed into the index, the model if it is not loaded, a step of embedding."""
        embedding = self._embedding
        try:
            self._desk.settle()
            if embedding is None or (self._failed and self._clock() < self._retry_at):
                return Progress.DONE
            if not self._ready:
                self._load(embedding)
            done = embedding.step()
        except Exception as e:
            # The edge of this thread: a model that fails takes meaning away from search, never search itself.
            if not self._stopping:
                self._fail(e)
            return Progress.DONE
        self._failed, self._problem, self._pause_s = False, "", RETRY_FIRST_S
        return done

    def _load(self, embedding: Embedding) -> None:
        began = self._clock()
        embedding.load()
        self._ready = True
        log.info("embedder %s ready after %.1f s", embedding.model_id, self._clock() - began)

    def _fail(self, error: Exception) -> None:
        """Words alone, until the next try: after 5 s, 10 s, and so on up to five minutes."""
        known = isinstance(error, MeshError)
        message = error.message if isinstance(error, MeshError) else f"{type(error).__name__}: {error}"
        if message != self._problem:
            log.warning("search works by words alone for now: %s", message, exc_info=None if known else error)
        self._ready, self._failed, self._problem = False, True, message
        self._retry_at = self._clock() + self._pause_s
        self._pause_s = min(2 * self._pause_s, RETRY_MAX_S)


class _Report:
    """A line at most every ten seconds while tools are being embedded, and one at the end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = clock()
        self._working = False

    def report(self, status: RouterStatus) -> None:
        self._working = True
        if self._clock() - self._last >= PROGRESS_EVERY_S:
            self._last = self._clock()
            log.info("embedded %d of %d tools", status.embedded, status.tools)

    def finish(self, status: RouterStatus) -> None:
        if self._working:
            self._working = False
            log.info("all embedded: %d of %d tools are searchable by meaning", status.embedded, status.tools)


def of_kinds(only: Filter, kinds: Sequence[str]) -> Filter:
    """What `only` lets through of these kinds."""
    wanted = frozenset(kinds)
    return Filter((only.key, wanted), lambda entry: entry.key.kind in wanted and only.allows(entry))
