"""Everything that is searched, in memory: entries by slot, their words, their vectors.

Not thread-safe; `Router` holds a lock around each method. Filters are masks over slots, applied before scores are
standardised or ranked: what a caller may not see takes no place from what it may. (Word frequencies and lengths are
counted over all tools, so that they need no counting for each caller.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from router import confidence, rank
from router.documents import Document, document, text_digest
from router.masks import Masks
from router.old_dense import NAMED_WEIGHT, PLACED_WEIGHT, SENTENCE_WEIGHT, Dense
from router.old_lexical import Lexical
from router.ports import Filter, Hit, ToolEntry, ToolKey, Vectors

CANDIDATES = 300
_PENDING = -1

Group = tuple[str, str, bytes]
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Found:
    """`likely`: how likely the best hit fits, 0 to 1."""

    hits: tuple[Hit, ...]
    hybrid: bool
    likely: float


@dataclass(slots=True)
class _Row:
    """One document's vectors (`row` in Dense, or pending) and the slots that share them."""

    row: int
    slots: set[int]


class Index:
    def __init__(self) -> None:
        self._slots: dict[ToolKey, int] = {}
        self._entries: list[ToolEntry | None] = []
        self._free: list[int] = []
        self._groups: dict[Group, set[int]] = {}
        self._names: dict[str, set[int]] = {}
        self._lexical = Lexical()
        self._masks = Masks()
        self._dense: Dense | None = None
        self._row_of = np.full(0, _PENDING, dtype=np.int64)
        self._documents: list[bytes] = []
        self._rows: dict[bytes, _Row] = {}
        # Documents waiting for vectors: insertion order is the order of work.
        self._waiting: dict[bytes, None] = {}
        self.pending = 0
        """Tools without vectors."""

    def __len__(self) -> int:
        return len(self._slots)

    def __repr__(self) -> str:
        return f"Index({len(self)} tools, {len(self._rows)} documents, {self.pending} waiting for vectors)"

    # ---- changes ---------------------------------------------------------------------------------

    def put(self, entry: ToolEntry) -> None:
        """Searchable by its words at once; takes the place of an entry of the same key."""
        before = self._slots.get(entry.key)
        doc = document(entry)
        slot = self._slot()
        self._slots[entry.key] = slot
        self._entries[slot] = entry
        self._lexical.add(slot, doc.fields)
        self._names.setdefault(rank.squash(entry.key.tool), set()).add(slot)
        if group := _group(entry):
            self._groups.setdefault(group, set()).add(slot)
        key = _document_key(doc)
        self._documents[slot] = key
        held = self._rows.get(key)
        if held is None:
            held = self._rows[key] = _Row(_PENDING, set())
            self._waiting[key] = None
        held.slots.add(slot)
        self._row_of[slot] = held.row
        if held.row == _PENDING:
            self.pending += 1
        self._masks.changed(slot)
        if before is not None:
            # After the new one is in: where only its labels changed, the vectors are kept.
            self._remove(before)

    def delete(self, key: ToolKey) -> None:
        """Gone from search at once; unknown keys are no error."""
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._remove(slot)

    def _remove(self, slot: int) -> None:
        entry = self._entry(slot)
        self._entries[slot] = None
        self._lexical.remove(slot, document(entry).fields)
        _discard(self._names, rank.squash(entry.key.tool), slot)
        if group := _group(entry):
            _discard(self._groups, group, slot)
        document_key = self._documents[slot]
        held = self._rows[document_key]
        held.slots.discard(slot)
        if held.row == _PENDING:
            self.pending -= 1
        if not held.slots:
            del self._rows[document_key]
            self._waiting.pop(document_key, None)
            if held.row != _PENDING and self._dense is not None:
                self._dense.remove(held.row)
        self._row_of[slot] = _PENDING
        self._masks.changed(slot)
        self._free.extend(self._lexical.compact())

    def _slot(self) -> int:
        if self._free:
            return self._free.pop()
        slot = len(self._entries)
        self._entries.append(None)
        self._documents.append(b"")
        if slot >= len(self._row_of):
            grown = np.full(max(64, slot * 3 // 2), _PENDING, dtype=np.int64)
            grown[: len(self._row_of)] = self._row_of
            self._row_of = grown
        return slot

    def waits(self, key: ToolKey) -> bool:
        """Whether it has no vectors yet. One look-up, so that it may be asked without the lock."""
        slot = self._slots.get(key)
        return slot is not None and bool(self._row_of[slot] == _PENDING)

    # ---- vectors ---------------------------------------------------------------------------------

    def unembedded(self, count: int) -> list[tuple[bytes, Document]]:
        """The next documents that wait for vectors, at most `count`, oldest first."""
        return list(self._unembedded(count))

    def _unembedded(self, count: int) -> Iterator[tuple[bytes, Document]]:
        for key, _ in zip(self._waiting, range(count), strict=False):
            yield key, document(self._entry(next(iter(self._rows[key].slots))))

    def embedded(self, key: bytes, doc: Document, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Give a document its vectors, by text digest. One that has gone meanwhile is passed over."""
        held = self._rows.get(key)
        if held is None or held.row != _PENDING:
            return
        named = vectors[text_digest(doc.named)]
        if self._dense is None:
            self._dense = Dense(len(named))
        server = text_digest(doc.server)
        held.row = self._dense.add(
            named,
            vectors[text_digest(doc.placed)],
            [vectors[text_digest(s)] for s in doc.sentences],
            (server, vectors[server]) if doc.server else None,
        )
        self._waiting.pop(key, None)
        self.pending -= len(held.slots)
        self._row_of[list(held.slots)] = held.row

    # ---- search ----------------------------------------------------------------------------------

    def search(
        self, texts: Sequence[str], vectors: Vectors | None, only: Filter, k: int, names: Sequence[str] = ()
    ) -> Found:
        """The best `k` for a task and its clauses (`texts[0]` is the whole); `vectors` in the same order.

        `names` is where tools may be named outright.
        """
        slots = np.flatnonzero(self._masks.of(only, self._entries))
        if not len(slots):
            return Found((), vectors is not None and self._dense is not None, 0.0)
        queries = [self._lexical.query(t) for t in texts]
        lexical = np.stack([self._lexical.scores(q)[slots] for q in queries])
        rows = self._row_of[slots]
        embedded = rows != _PENDING
        dense = server = None
        if vectors is not None and self._dense is not None and embedded.any():
            dense, server = self._similar(vectors, rows, embedded)
        words, meaning = rank.arm(lexical), None if dense is None else rank.arm(dense, embedded)
        fused = rank.fuse(words, meaning, embedded, server)
        scores = rank.with_clauses(fused.total)
        named = self._named(names, slots, scores)
        if dense is None:
            # By words alone a tool that shares none has no claim to be near.
            met = (lexical > 0).any(axis=0) | named
            slots, scores, embedded, named = slots[met], scores[met], embedded[met], named[met]
            if not len(slots):
                return Found((), False, 0.0)
        positions, hits = self._hits(slots, scores, k)
        top = positions[0]
        signals = confidence.observe(
            words,
            meaning,
            fused,
            scores,
            embedded,
            coverage=self._lexical.coverage(queries[0], int(slots[top])),
            count=len(embedded),
            query=texts[0],
            named=bool(named[top]),
        )
        likely = confidence.likelihood(signals)
        shown = tuple(replace(h, score=confidence.shown_score(likely, hits[0].score - h.score)) for h in hits)
        return Found(shown, dense is not None, likely)

    def _similar(
        self, vectors: Vectors, rows: NDArray[np.int64], embedded: NDArray[np.bool_]
    ) -> tuple[Vectors, Vectors]:
        """(dense, server) scores, each (queries, slots): dense within ±1, server NaN where unknown."""
        assert self._dense is not None  # noqa: S101 - the caller has looked
        known = np.maximum(rows, 0)
        main = self._dense.similarities(vectors)[:, known]
        main[:, ~embedded] = -1
        # Far from the query the sentences would not change the order; there the whole stands for them.
        dense = main * np.float32(1 + SENTENCE_WEIGHT / (NAMED_WEIGHT + PLACED_WEIGHT))
        near = main.max(axis=0)
        chosen = np.argpartition(near, -CANDIDATES)[-CANDIDATES:] if len(near) > CANDIDATES else np.arange(len(near))
        dense[:, chosen] = main[:, chosen] + self._dense.sentence_similarities(vectors, known[chosen], main[:, chosen])
        server = self._dense.server_similarities(vectors)[:, known]
        server[:, ~embedded] = np.nan
        return dense, server

    def _named(self, names: Sequence[str], slots: NDArray[np.int64], scores: rank.Scores) -> NDArray[np.bool_]:
        """Adds the bonus of tools that the query names, in place; returns which."""
        named = np.zeros(len(slots), dtype=np.bool_)
        for name, bonus in (pair for text in names for pair in rank.identifiers(text)):
            for slot in self._names.get(name, ()):
                at = int(np.searchsorted(slots, slot))
                if at < len(slots) and slots[at] == slot and not named[at]:
                    scores[at] += bonus
                    named[at] = True
        return named

    def _hits(self, slots: NDArray[np.int64], scores: rank.Scores, k: int) -> tuple[list[int], tuple[Hit, ...]]:
        entries = _Keys(slots, self._entry)
        count = 2 * k
        while True:
            positions, hits, seen = [], [], set[Group]()
            ranked = rank.best(scores, count, entries)
            for position in ranked:
                entry = self._entry(int(slots[position]))
                group = _group(entry)
                if group in seen:
                    continue
                replicas: tuple[ToolKey, ...] = ()
                if group:
                    seen.add(group)
                    visible = (s for s in self._groups[group] if _contains(slots, s))
                    replicas = tuple(sorted(self._entry(s).key for s in visible if s != slots[position]))
                positions.append(position)
                hits.append(Hit(entry, float(scores[position]), replicas))
                if len(hits) == k:
                    return positions, tuple(hits)
            if len(ranked) == len(slots):
                return positions, tuple(hits)
            count *= 4

    def _entry(self, slot: int) -> ToolEntry:
        entry = self._entries[slot]
        assert entry is not None  # noqa: S101 - masks hold taken slots only
        return entry


class _Keys:
    """Keys of entries by position, looked up only where a tie or a sort asks."""

    def __init__(self, slots: NDArray[np.int64], entry: Callable[[int], ToolEntry]) -> None:
        self._slots = slots
        self._entry = entry

    def __getitem__(self, position: int) -> ToolKey:
        return self._entry(int(self._slots[position])).key


def _group(entry: ToolEntry) -> Group | None:
    return (entry.service, entry.key.tool, entry.digest) if entry.service else None


def _document_key(doc: Document) -> bytes:
    texts = (doc.named, doc.placed, doc.server, *doc.sentences)
    return hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).digest()


def _discard(sets: dict[K, set[int]], key: K, slot: int) -> None:
    sets[key].discard(slot)
    if not sets[key]:
        del sets[key]


def _contains(slots: NDArray[np.int64], slot: int) -> bool:
    at = int(np.searchsorted(slots, slot))
    return at < len(slots) and int(slots[at]) == slot
