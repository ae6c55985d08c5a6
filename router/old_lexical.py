"""BM25F over the fields of a document (Robertson and Zaragoza 2009, §3.6), changed in place, scored with numpy.

A posting is a slot (the caller's row number for a tool) and the word's count in each field. Removed documents are
tombstones until they outnumber a quarter of the living; then the postings are rebuilt without them.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from router.documents import FIELDS
from router.tokens import words

WEIGHTS = {"name": 2.0, "description": 1.0, "server": 0.6, "server_description": 0.3, "parameters": 0.4}
K1 = 1.2
B = 0.75
COUNT_MAX = 255
COMPACT_AT = 256
COMPACT_SHARE = 0.25

Scores = NDArray[np.float32]
_WIDTH = len(FIELDS)
_WEIGHTS = np.array([WEIGHTS[f] for f in FIELDS], dtype=np.float32)


@dataclass(slots=True)
class _Postings:
    slots: array[int] = field(default_factory=lambda: array("i"))
    counts: array[int] = field(default_factory=lambda: array("B"))
    living: int = 0


class Lexical:
    """Slots are non-negative and chosen by the caller; one that was removed may be used again after `compact`."""

    def __init__(self) -> None:
        self._postings: dict[str, _Postings] = {}
        self._lengths = np.zeros((0, _WIDTH), dtype=np.float32)
        self._alive = np.zeros(0, dtype=np.bool_)
        self._totals = np.zeros(_WIDTH)
        self._count = 0
        self._dead: set[int] = set()
        self._norms: Scores | None = None

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"Lexical({self._count} documents, {len(self._postings)} words, {len(self._dead)} tombstones)"

    def add(self, slot: int, fields: Sequence[str]) -> None:
        """Searchable at once. `fields` in the order of `FIELDS`."""
        counts = _counts(fields)
        self._reserve(slot + 1)
        for word, per_field in counts.items():
            postings = self._postings.setdefault(word, _Postings())
            postings.slots.append(slot)
            postings.counts.extend(per_field)
            postings.living += 1
        lengths = np.array([sum(c[f] for c in counts.values()) for f in range(_WIDTH)], dtype=np.float32)
        self._lengths[slot] = lengths
        self._totals += lengths
        self._alive[slot] = True
        self._count += 1
        self._norms = None

    def remove(self, slot: int, fields: Sequence[str]) -> None:
        """`fields` as they were added. The slot stays taken until `compact` returns it."""
        for word in _counts(fields):
            postings = self._postings[word]
            postings.living -= 1
            if not postings.living:
                del self._postings[word]
        self._totals -= self._lengths[slot]
        self._alive[slot] = False
        self._dead.add(slot)
        self._count -= 1
        self._norms = None

    def compact(self, *, force: bool = False) -> frozenset[int]:
        """Drop tombstones where there are enough of them; returns the slots that are free again."""
        if not self._dead or not (force or len(self._dead) > max(COMPACT_AT, COMPACT_SHARE * self._count)):
            return frozenset()
        for postings in self._postings.values():
            if postings.living == len(postings.slots):
                continue
            slots = np.frombuffer(postings.slots, dtype=np.int32)
            kept = self._alive[slots]
            counts = np.frombuffer(postings.counts, dtype=np.uint8).reshape(-1, _WIDTH)
            postings.slots = array("i", slots[kept].tobytes())
            postings.counts = array("B", counts[kept].tobytes())
        freed = frozenset(self._dead)
        self._dead.clear()
        return freed

    def query(self, text: str) -> dict[str, int]:
        """The words of a query with their counts; those in no document included."""
        return Counter(words(text))

    def scores(self, query: dict[str, int]) -> Scores:
        """BM25F of every slot, float32, shape (highest slot + 1,); zero for free slots and where no word occurs."""
        out = np.zeros(len(self._alive), dtype=np.float32)
        norms = self._weights_over_lengths()
        for word, times in query.items():
            postings = self._postings.get(word)
            if postings is None:
                continue
            slots = np.frombuffer(postings.slots, dtype=np.int32)
            counts = np.frombuffer(postings.counts, dtype=np.uint8).reshape(-1, _WIDTH)
            weighted = np.einsum("ij,ij->i", counts, norms[slots], dtype=np.float32)
            # A slot stands once in a word's postings (reused only after `compact`): indexed addition is enough.
            out[slots] += np.float32(times * self.idf(word) * (K1 + 1)) * weighted / (K1 + weighted)
        out[~self._alive] = 0
        return out

    def idf(self, word: str) -> float:
        """Always positive; a word in no document weighs as much as one in a single document."""
        postings = self._postings.get(word)
        n = postings.living if postings else 1
        return math.log(1 + (max(self._count, n) - n + 0.5) / (n + 0.5))

    def coverage(self, query: dict[str, int], slot: int) -> float:
        """Which share of the query's weight (by idf) the document's words cover: 0 to 1."""
        total = sum(self.idf(w) for w in query)
        met = sum(self.idf(w) for w in query if (p := self._postings.get(w)) is not None and slot in _view(p.slots))
        return met / total if total else 0.0

    def _weights_over_lengths(self) -> Scores:
        if self._norms is None:
            mean = np.maximum(self._totals / max(1, self._count), 1e-6).astype(np.float32)
            self._norms = _WEIGHTS / (1 - B + B * self._lengths / mean)
        return self._norms

    def _reserve(self, size: int) -> None:
        if size > len(self._alive):
            grown = max(size, 64, len(self._alive) * 3 // 2)
            self._lengths = np.concatenate([self._lengths, np.zeros((grown - len(self._lengths), _WIDTH), np.float32)])
            self._alive = np.concatenate([self._alive, np.zeros(grown - len(self._alive), np.bool_)])


def _view(slots: array[int]) -> NDArray[np.int32]:
    return np.frombuffer(slots, dtype=np.int32)


def _counts(fields: Sequence[str]) -> dict[str, list[int]]:
    counts: dict[str, list[int]] = {}
    for index, text in enumerate(fields):
        for word in words(text):
            row = counts.setdefault(word, [0] * _WIDTH)
            row[index] = min(COUNT_MAX, row[index] + 1)
    return counts
