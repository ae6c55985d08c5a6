"""Vectors for the documents that wait for them: from memory, from the store, from other nodes, or computed."""

from __future__ import annotations

import enum
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from proto.errors import MeshError, Unavailable
from router.backlog import Stage
from router.dense import SENTENCES, Part
from router.documents import Document, document, text_digest
from router.index import Embedded, Index, Waiting
from router.ports import Embedder, VectorSource, VectorStore

log = logging.getLogger("toolmesh.router")

DOCUMENTS_A_STEP = 256
DOCUMENTS_AT_ONCE = 64
"""Given to the index in one piece, some 5 ms: between pieces it searches."""
TEXTS_A_BATCH = 16
RECENT_MAX = 2_000
ASK_AGAIN_S = 0.5
"""After so long those are asked again who said that they are embedding a text themselves."""
PROBE = "Read a file."

Vector = NDArray[np.float32]
T = TypeVar("T")


class Ask(Protocol):
    """Has work done on another thread, waits for it, and raises what it raises."""

    def __call__(self, work: Callable[[], T], /) -> T: ...


class Progress(enum.Enum):
    WORKED = "there may be more to do"
    WAITS = "all that is left is being embedded by others"
    DONE = "nothing waits"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a document needs for its next stage: texts by digest, and the digests by part; the server's on its own."""

    waiting: Waiting
    texts: Mapping[str, str]
    parts: Mapping[Part, str]
    server: str


class Embedding:
    """Runs in one thread, `ask` does its work on the index's. A text is embedded once, whoever uses it."""

    def __init__(
        self,
        embedder: Embedder,
        store: VectorStore | None,
        source: VectorSource | None,
        index: Index,
        ask: Ask,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._embedder = embedder
        self._store = store
        self._source = source
        self._index = index
        self._ask = ask
        self._clock = clock
        self._asked_again = clock()
        self._opened = False
        self._recent: OrderedDict[str, Vector] = OrderedDict()
        self._store_problem = ""
        self.stopping = False
        self.from_store = 0
        self.from_peers = 0
        self.computed = 0
        """Texts, since the start."""

    @property
    def model_id(self) -> str:
        return self._embedder.model_id

    @property
    def problem(self) -> str:
        """Why vectors are not kept, where they are not."""
        return self._store_problem or (str(getattr(self._store, "problem", "")) if self._opened else "")

    def load(self) -> None:
        """The model, then the store. Raises `Unavailable` for the model; without its store it goes on."""
        self._embedder.load()
        # Behind an endpoint's unchanged name there may be another model.
        self._ask(partial(self._index.expect, self._embedder.dimensions))
        if self._store is not None and not self._opened:
            try:
                self._store.open()
                self._opened, self._store_problem = True, ""
            except Unavailable as e:
                self._store_problem = f"vectors are not kept: {e.message}"
                log.warning("vectors are not kept, and are computed again after a restart: %s", e)

    def close(self) -> None:
        if self._store is not None and self._opened:
            self._store.close()
            self._opened = False

    # ---- a step ----------------------------------------------------------------------------------

    def step(self) -> Progress:
        """Bring the next 256 documents one stage further. Raises what the embedder raises."""
        if self._clock() - self._asked_again >= ASK_AGAIN_S:
            self._asked_again = self._clock()
            self._ask(self._index.backlog.recall)
        stage, waiting = self._ask(lambda: self._index.waiting(DOCUMENTS_A_STEP))
        if not waiting:
            return Progress.WAITS if self._index.backlog.aside else Progress.DONE
        wanted = [_wanted(stage, w) for w in waiting]
        arrived = self._index.backlog.arrived
        known, later = self._fetch(wanted)
        ready: list[_Wanted] = []
        missing: list[_Wanted] = []
        postponed: list[int] = []
        for each in wanted:
            if all(t in known for t in each.texts):
                ready.append(each)
            elif not later.isdisjoint(each.texts):
                postponed.append(each.waiting.row)
            else:
                missing.append(each)
        self._give(stage, ready, known)
        self._ask(lambda: self._index.backlog.put_aside(postponed))
        for batch in _batches(missing, known):
            if self.stopping or self._index.backlog.arrived != arrived:
                # What has only just come is looked at first; the rest keeps its place.
                break
            known |= self._compute({d: t for each in batch for d, t in each.texts.items()}, known)
            self._give(stage, batch, known)
        return Progress.WORKED

    def _give(self, stage: Stage, wanted: Sequence[_Wanted], known: Mapping[str, Vector]) -> None:
        done = []
        for each in wanted:
            parts = {part: known[digest] for part, digest in each.parts.items() if digest in known}
            told = (each.server, known[each.server]) if each.server in known else None
            # Without its first vector a document can have no other.
            reached = Stage.ALL if stage is Stage.NAMED and not parts else stage
            done.append(Embedded(each.waiting.row, each.waiting.key, reached, parts, told))
        for begin in range(0, len(done), DOCUMENTS_AT_ONCE):
            some = done[begin : begin + DOCUMENTS_AT_ONCE]
            self._ask(partial(self._index.embedded, some))

    # ---- where vectors come from -----------------------------------------------------------------

    def _fetch(self, wanted: Sequence[_Wanted]) -> tuple[dict[str, Vector], frozenset[str]]:
        """What is known here or elsewhere, and which texts another node is about to know."""
        owners = _owners(wanted)
        known = {d: self._recent[d] for d in owners if d in self._recent}
        rest = [d for d in owners if d not in known]
        if rest and self._store is not None and self._opened:
            try:
                stored = {d: v for d, v in self._store.get(rest).items() if len(v) == self._embedder.dimensions}
            except Unavailable as e:
                self._lose_store(e)
            else:
                self.from_store += len(stored)
                known.update(stored)
                self._remember(stored)
                rest = [d for d in rest if d not in stored]
        later: frozenset[str] = frozenset()
        if rest and self._source is not None:
            lent = self._source.get({d: owners[d] for d in rest})
            self.from_peers += len(lent.found)
            known.update(lent.found)
            self._keep(lent.found)
            later = lent.later
        return known, later

    def _compute(self, texts: Mapping[str, str], known: Mapping[str, Vector]) -> dict[str, Vector]:
        missing = {digest: text for digest, text in texts.items() if digest not in known}
        if not missing:
            return {}
        try:
            vectors = self._embed(list(missing.values()))
            computed = dict(zip(missing, vectors, strict=True))
        except MeshError:
            raise
        except Exception:
            # One text that trips the model up shall not cost the others theirs. Raises if it is not the text.
            self._embed([PROBE])
            computed = self._one_by_one(missing)
        self.computed += len(computed)
        self._keep(computed)
        return computed

    def _one_by_one(self, texts: Mapping[str, str]) -> dict[str, Vector]:
        computed = {}
        for digest, text in texts.items():
            try:
                computed[digest] = self._embed([text])[0]
            except MeshError:
                raise
            except Exception:
                log.warning("the embedder cannot take the text %s (%.60r…); it has no vector", digest, text)
        return computed

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        vectors = self._embedder.embed(texts)
        if vectors.shape[0] != len(texts) or not np.isfinite(vectors).all():
            raise Unavailable(f"the embedder {self._embedder.model_id} gave no sound vectors for {len(texts)} texts")
        return vectors

    def _keep(self, vectors: Mapping[str, Vector]) -> None:
        self._remember(vectors)
        if vectors and self._store is not None and self._opened:
            try:
                self._store.put(list(vectors), np.stack(list(vectors.values())))
            except Unavailable as e:
                self._lose_store(e)

    def _remember(self, vectors: Mapping[str, Vector]) -> None:
        """A server's own text comes with each of its tools: the last 2,000 texts stay at hand."""
        self._recent.update(vectors)
        while len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)

    def _lose_store(self, error: Unavailable) -> None:
        if not self._store_problem:
            log.warning("vectors are not kept from now on, and are computed again after a restart: %s", error)
        self._store_problem = f"vectors are not kept: {error.message}"
        self._opened = False


def _wanted(stage: Stage, waiting: Waiting) -> _Wanted:
    doc = document(waiting.entry)
    texts = {Part.NAMED: doc.named}
    if stage is Stage.ALL:
        texts = {Part.PLACED: doc.placed, **dict(zip(SENTENCES, doc.sentences, strict=False))}
    parts = {part: text_digest(text) for part, text in texts.items() if text}
    by_digest = {digest: texts[part] for part, digest in parts.items()}
    server = ""
    if stage is Stage.ALL and doc.server:
        server = text_digest(doc.server)
        by_digest[server] = doc.server
    return _Wanted(waiting, by_digest, parts, server)


def _owners(wanted: Iterable[_Wanted]) -> dict[str, str]:
    """By digest the node that is asked for a text, of several owners the first by name: to all nodes it is the same."""
    owners: dict[str, str] = {}
    for each in wanted:
        owner = each.waiting.entry.key.owner
        for digest in each.texts:
            owners[digest] = min(owner, owners.get(digest, owner))
    return owners


def texts_of(doc: Document) -> Iterator[str]:
    """All that are embedded of it, at whichever stage."""
    yield from (text for text in (doc.named, doc.placed, *doc.sentences[: len(SENTENCES)], doc.server) if text)


def _batches(wanted: Iterable[_Wanted], known: Mapping[str, Vector]) -> Iterator[list[_Wanted]]:
    """Documents that together lack 16 texts or a few more."""
    batch: list[_Wanted] = []
    lacking: set[str] = set()
    for each in wanted:
        batch.append(each)
        lacking.update(d for d in each.texts if d not in known)
        if len(lacking) >= TEXTS_A_BATCH:
            yield batch
            batch, lacking = [], set()
    if batch:
        yield batch
