"""Searching for tools: what a node asks, on its event loop, while threads of the router's own do the work.

One thread searches and owns the index (`desk`); another turns texts into vectors (`background`, `embedding`) and asks
the first to take them in. The loop waits for neither: `apply` leaves changes in an inbox, which is emptied before each
search, so that a search sees every change made before it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from proto.errors import Exhausted, Unavailable
from router import confidence
from router.background import Background
from router.desk import Asked, Desk
from router.documents import document, text_digest
from router.embedding import Embedding, texts_of
from router.feedback import Feedback, Lift
from router.index import Index
from router.keeper import Keeper
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
from router.retrieval import Found

SEARCHES_WAITING_MAX = 128
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
        snapshot: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without an embedder search is lexical for good. `snapshot` is a file from which the index comes back after a
        restart; with one, changes and searches wait until `start` has read it. `clock` counts seconds."""
        self._embedder = embedder
        self._feedback = feedback
        self._clock = clock
        self._index = Index()
        self._encoder = Encoder(embedder) if embedder else None
        self._desk = Desk(self._index, self._encode, self._learned, embedder.model_id if embedder else "")
        self._embedding = (
            Embedding(embedder, store, source, self._index, self._desk.call, clock=clock) if embedder else None
        )
        keeper = Keeper(snapshot, embedder.model_id if embedder else "", clock) if snapshot else None
        self._behind = Background(self._desk, self._index, self._embedding, keeper, clock)
        self._known: set[ToolKey] = set()
        self._stopping = False
        self._searching = 0
        self._remote = ThreadPoolExecutor(REMOTE_QUERIES_AT_ONCE, "toolmesh-ask")
        if keeper is None:
            self._desk.release()

    def __repr__(self) -> str:
        s = self.status()
        return f"Router({s.mode}, {s.tools} tools, {s.embedded} embedded, {s.pending} pending)"

    async def start(self) -> None:
        """Returns at once; the model is loaded and tools are embedded in the background."""
        self._behind.start()

    async def stop(self) -> None:
        """Waits for the step in hand (well under a second), for the snapshot (5 s at most), and for the store to
        close. Idempotent."""
        self._stopping = True
        await self._behind.stop()
        await asyncio.to_thread(self._desk.stop)
        await asyncio.to_thread(self._remote.shutdown)

    def apply(self, puts: Iterable[ToolEntry], deletes: Iterable[ToolKey]) -> None:
        """Any search that begins after this sees it (of a flood, the first thousand changes). Deletes are taken first.

        Costs under a microsecond a tool here: what changed, and what not, is found out on the searching thread.
        """
        gone = [key for key in deletes if key in self._known]
        self._known.difference_update(gone)
        changes: dict[ToolKey, ToolEntry | None] = dict.fromkeys(gone)
        new = {entry.key: entry for entry in puts}
        self._known.update(new)
        changes.update(new)
        if changes:
            self._desk.change(changes)
            self._behind.changed()

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
            if self._behind.ready and self._encoder is not None and self._encoder.remote:
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
            _signals(found) if explain else {},
        )

    def status(self) -> RouterStatus:
        tools = len(self._known)
        searchable = self._behind.ready and self._embedder is not None
        # The inbox may hold tools that need no vector of their own; they count until that is known.
        waiting = min(tools, self._index.pending + self._desk.changes)
        pending = waiting if self._embedding and not self._behind.failed else 0
        embedding = self._embedding
        return RouterStatus(
            tools=tools,
            embedded=tools - waiting if searchable else 0,
            pending=pending,
            embedder=self._embedder.model_id if searchable and self._embedder else "",
            mode="hybrid" if searchable else "lexical",
            problem=self._behind.problem or (embedding.problem if embedding else "no embedder is configured"),
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
        await self._behind.settled()

    # ---- the searching thread --------------------------------------------------------------------

    def _encode(self, texts: Sequence[str]) -> Vectors | None:
        return self._encoder.encode(texts) if self._behind.ready and self._encoder is not None else None

    def _learned(self, vector: NDArray[np.float32], principal: str) -> Sequence[Lift]:
        if self._feedback is None or self._embedder is None:
            return ()
        return self._feedback.lifts(vector, principal, self._embedder.model_id)


def of_kinds(only: Filter, kinds: Sequence[str]) -> Filter:
    """What `only` lets through of these kinds."""
    wanted = frozenset(kinds)
    return Filter((only.key, wanted), lambda entry: entry.key.kind in wanted and only.allows(entry), only.narrowed)


def _signals(found: Found) -> dict[str, float]:
    """By name, those that are known; `named` as 0 or 1."""
    said = asdict(found.signals) if found.signals is not None else {}
    return {name: float(value) for name, value in said.items() if value is not None} | {"likely": found.likely}
