"""Searching for tools: what a node asks, on its event loop, while threads of the router's own do the work.

One thread searches (encode, mask, score), another embeds what is new; a lock keeps them apart at the index. The loop
never takes that lock: `apply` leaves changes in an inbox, and whoever uses the index next empties it first, so that
a search sees every change made before it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from proto.errors import Exhausted, Invalid, MeshError, Unavailable
from router import confidence
from router.clauses import clauses
from router.embedding import Embedding
from router.index import Index
from router.ports import (
    EVERYTHING,
    Embedder,
    Filter,
    Hit,
    RouterStatus,
    SearchResult,
    ToolEntry,
    ToolKey,
    Vectors,
    VectorStore,
)

log = logging.getLogger("toolmesh.router")

QUERY_MAX = 4_000
KEY_WORDS_MAX = 32
KEY_WORD_MAX = 200
K_MAX = 50
SEARCHES_WAITING_MAX = 128
QUERIES_CACHED = 512
INBOX_SLICE = 64
PROGRESS_EVERY_S = 10.0


class Router:
    def __init__(
        self, embedder: Embedder | None, store: VectorStore | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Without an embedder search is lexical for good. `clock` counts seconds."""
        self._embedder = embedder
        self._embedding = Embedding(embedder, store) if embedder else None
        self._clock = clock
        self._index = Index()
        self._lock = threading.Lock()
        self._known: dict[ToolKey, ToolEntry] = {}
        self._inbox: dict[ToolKey, ToolEntry | None] = {}
        self._inbox_lock = threading.Lock()
        self._ready = False
        self._gave_up = False
        self._stopping = False
        self._problem = "" if embedder else "no embedder is configured"
        self._queries: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._searching = 0
        self._searcher = ThreadPoolExecutor(1, "toolmesh-search")
        self._worker = ThreadPoolExecutor(1, "toolmesh-embed")
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

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
        self._wake.set()
        self._idle.set()
        task, self._task = self._task, None
        if task is not None:
            await task
        await asyncio.to_thread(self._searcher.shutdown)
        await asyncio.to_thread(self._worker.shutdown)

    def apply(self, puts: Iterable[ToolEntry], deletes: Iterable[ToolKey]) -> None:
        """Any search that begins after this sees it. Deletes are taken first; costs microseconds a tool.

        The inbox holds each tool once, so its bound is the number of tools.
        """
        changes: dict[ToolKey, ToolEntry | None] = {}
        for key in deletes:
            if self._known.pop(key, None) is not None:
                changes[key] = None
        for entry in puts:
            if self._known.get(entry.key) != entry:
                self._known[entry.key] = entry
                changes[entry.key] = entry
        if changes:
            self._idle.clear()
            with self._inbox_lock:
                self._inbox.update(changes)
            self._wake.set()

    async def search(
        self, query: str, key_words: Sequence[str] = (), *, k: int = 5, only: Filter = EVERYTHING
    ) -> SearchResult:
        """The best `k` tools that `only` lets through. Raises `Invalid`, `Exhausted` (too many searches waiting)."""
        task, key_words = _checked(query, key_words, k)
        if self._stopping:
            raise Unavailable("this node is shutting down and searches no more")
        if self._searching >= SEARCHES_WAITING_MAX:
            raise Exhausted(f"{SEARCHES_WAITING_MAX} searches are waiting on this node; try again", retry_after_s=1)
        began = self._clock()
        self._searching += 1
        try:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._searcher, self._search, task, key_words, k, only)
        finally:
            self._searching -= 1
        hits, hybrid, confidence = found
        return SearchResult(hits, "hybrid" if hybrid else "lexical", confidence, (self._clock() - began) * 1000)

    def status(self) -> RouterStatus:
        tools = len(self._known)
        searchable = self._ready and self._embedder is not None
        # The inbox may hold tools that need no vector of their own; they count until that is known.
        pending = min(tools, self._index.pending + len(self._inbox)) if self._embedding and not self._gave_up else 0
        return RouterStatus(
            tools=tools,
            embedded=tools - pending if searchable else 0,
            pending=pending,
            embedder=self._embedder.model_id if searchable and self._embedder else "",
            mode="hybrid" if searchable else "lexical",
            problem=self._problem,
        )

    def knows(self, key: ToolKey) -> bool:
        """Whether a search that begins now could find it."""
        return key in self._known

    def waits(self, key: ToolKey) -> bool:
        """Whether its vectors are still to come; as of now, for people: the index may be changing under this look."""
        return key in self._inbox or self._index.waits(key)

    async def settled(self) -> None:
        """Waits until every change is indexed and, where there is a model, embedded. Needs `start`.

        Raises `Unavailable` if the router is stopped meanwhile.
        """
        await self._idle.wait()
        if self._stopping:
            raise Unavailable("the router has been stopped")

    # ---- the searching thread --------------------------------------------------------------------

    def _search(self, task: str, key_words: Sequence[str], k: int, only: Filter) -> tuple[tuple[Hit, ...], bool, str]:
        texts = [task, *clauses(task)]
        if key_words:
            texts.append(" ".join(key_words))
        vectors = self._encode(texts) if self._ready else None
        lexical = [" ".join((task, *key_words)), *texts[1:]]
        with self._lock:
            self._drain()
            found = self._index.search(lexical, vectors, only, k, names=(task, *key_words))
        return found.hits, found.hybrid, confidence.label(found.likely)

    def _encode(self, texts: Sequence[str]) -> Vectors | None:
        assert self._embedder is not None  # noqa: S101 - ready means loaded
        missing = [t for t in texts if t not in self._queries]
        if missing:
            try:
                vectors = self._embedder.embed(missing)
            except MeshError as e:
                log.warning("a query could not be encoded, searching by words alone: %s", e)
                return None
            self._queries.update(zip(missing, vectors, strict=True))
        for text in texts:
            self._queries.move_to_end(text)
        encoded = np.stack([self._queries[t] for t in texts])
        while len(self._queries) > QUERIES_CACHED:
            self._queries.popitem(last=False)
        return encoded

    def _drain(self, limit: int | None = None) -> None:
        """Put the inbox into the index, under the lock; None: all of it."""
        with self._inbox_lock:
            if limit is None or len(self._inbox) <= limit:
                changes, self._inbox = self._inbox, {}
            else:
                changes = {key: self._inbox.pop(key) for key in list(self._inbox)[:limit]}
        for key, entry in changes.items():
            if entry is None:
                self._index.delete(key)
            else:
                self._index.put(entry)

    # ---- the embedding thread --------------------------------------------------------------------

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._worker, self._load)
            progress = Progress(self._clock)
            while not self._stopping:
                self._wake.clear()
                while not self._stopping and await loop.run_in_executor(self._worker, self._step):
                    progress.report(self.status())
                progress.finish(self.status())
                # Not the inbox: a search may have emptied it into the index meanwhile, vectors still to come.
                if not self._wake.is_set() and not self._stopping:
                    self._idle.set()
                    await self._wake.wait()
        finally:
            if self._embedding is not None:
                await loop.run_in_executor(self._worker, self._embedding.close)

    def _load(self) -> None:
        if self._embedding is None:
            log.info("search works by words alone: no embedder is configured")
            return
        began = self._clock()
        try:
            self._embedding.load()
        except MeshError as e:
            self._give_up(e)
            return
        self._ready = True
        self._problem = self._embedding.problem
        log.info("embedder %s ready after %.1f s", self._model, self._clock() - began)

    def _step(self) -> bool:
        """A slice of the inbox, then a step of embedding. True while there may be more to do."""
        while self._inbox and not self._stopping:
            with self._lock:
                self._drain(INBOX_SLICE)
        if self._embedding is None or not self._ready:
            return False
        embedded = 0
        try:
            for count in self._embedding.step(self._index, self._lock):
                embedded += count
                if self._stopping:
                    break
        except Exception as e:
            # The edge of this thread: a model that fails takes meaning away from search, never search itself.
            log.exception("embedding failed with %d tools left", self._index.pending)
            self._give_up(e)
            return False
        self._problem = self._embedding.problem
        return embedded > 0

    def _give_up(self, error: Exception) -> None:
        message = error.message if isinstance(error, MeshError) else f"{type(error).__name__}: {error}"
        self._ready = False
        self._gave_up = True
        self._problem = message
        log.warning("search works by words alone: %s", message)

    @property
    def _model(self) -> str:
        return self._embedder.model_id if self._embedder else ""


class Progress:
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


def _checked(query: str, key_words: Sequence[str], k: int) -> tuple[str, tuple[str, ...]]:
    if len(query) > QUERY_MAX:
        raise Invalid(f"the query is {len(query)} characters long; at most {QUERY_MAX} are searched: name one step")
    if len(key_words) > KEY_WORDS_MAX or any(len(w) > KEY_WORD_MAX for w in key_words):
        raise Invalid(f"key_words holds too much: at most {KEY_WORDS_MAX} of {KEY_WORD_MAX} characters each")
    if not 1 <= k <= K_MAX:
        raise Invalid(f"k is {k}; ask for 1 to {K_MAX} tools")
    words = tuple(w.strip() for w in key_words if w.strip())
    task = query.strip() or " ".join(words)
    if not task:
        raise Invalid("the query is empty; say what the tool should do")
    return task, words
