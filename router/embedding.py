"""Vectors for the documents that wait for them: from memory, from the store, or computed and stored."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from proto.errors import Unavailable
from router.documents import Document, text_digest
from router.index import Index
from router.ports import Embedder, VectorStore

log = logging.getLogger("toolmesh.router")

DOCUMENTS_A_STEP = 128
TEXTS_A_BATCH = 16
RECENT_MAX = 2_000

Texts = dict[str, str]
Known = Mapping[str, NDArray[np.float32]]


class Embedding:
    """Runs in one thread. A text is embedded once, whoever uses it: its address is its digest."""

    def __init__(self, embedder: Embedder, store: VectorStore | None) -> None:
        self._embedder = embedder
        self._store = store
        self._opened = False
        self._recent: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self.problem = ""
        """Why vectors are not kept, where they are not."""

    def load(self) -> None:
        """The model, then the store. Raises `Unavailable` for the model; without its store it goes on."""
        self._embedder.load()
        if self._store is not None:
            try:
                self._store.open()
                self._opened = True
            except Unavailable as e:
                self._lose_store(e)

    def close(self) -> None:
        if self._store is not None and self._opened:
            self._store.close()
            self._opened = False

    def step(self, index: Index, lock: AbstractContextManager[object]) -> Iterator[int]:
        """Embed the next 128 documents; yields how many more are searchable by meaning, batch by batch."""
        with lock:
            waiting = index.unembedded(DOCUMENTS_A_STEP)
        if not waiting:
            return
        texts = {key: _texts(doc) for key, doc in waiting}
        known = self._fetch(t for each in texts.values() for t in each)
        batch: list[tuple[bytes, Document]] = []
        missing: Texts = {}
        for key, doc in waiting:
            batch.append((key, doc))
            missing.update((d, t) for d, t in texts[key].items() if d not in known)
            if len(missing) >= TEXTS_A_BATCH:
                yield self._finish(index, lock, batch, missing, known)
                batch, missing = [], {}
        if batch:
            yield self._finish(index, lock, batch, missing, known)

    def _finish(
        self,
        index: Index,
        lock: AbstractContextManager[object],
        batch: list[tuple[bytes, Document]],
        missing: Texts,
        known: dict[str, NDArray[np.float32]],
    ) -> int:
        if missing:
            vectors = self._embedder.embed(list(missing.values()))
            known.update(zip(missing, vectors, strict=True))
            self._keep(list(missing), vectors)
        with lock:
            for key, doc in batch:
                index.embedded(key, doc, known)
        return len(batch)

    def _fetch(self, digests: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        wanted = dict.fromkeys(digests)
        known = {d: self._recent[d] for d in wanted if d in self._recent}
        rest = [d for d in wanted if d not in known]
        if self._store is not None and self._opened and rest:
            try:
                stored = self._store.get(rest)
            except Unavailable as e:
                self._lose_store(e)
            else:
                known.update(stored)
                self._remember(stored)
        return known

    def _keep(self, digests: list[str], vectors: NDArray[np.float32]) -> None:
        self._remember(dict(zip(digests, vectors, strict=True)))
        if self._store is not None and self._opened:
            try:
                self._store.put(digests, vectors)
            except Unavailable as e:
                self._lose_store(e)

    def _remember(self, vectors: Known) -> None:
        """A server's own text comes with each of its tools: the last 2,000 texts stay at hand."""
        self._recent.update(vectors)
        while len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)

    def _lose_store(self, error: Unavailable) -> None:
        log.warning("vectors are not kept from now on, and are computed again after a restart: %s", error)
        self.problem = f"vectors are not kept: {error.message}"
        self._store = None


def _texts(doc: Document) -> Texts:
    return {text_digest(t): t for t in (doc.named, doc.placed, *doc.sentences, doc.server) if t}
