"""What the router is measured against: plain BM25, plain cosine, and the reciprocal ranks of these two.

Text for text what others do: one text a tool, its name and description; no fields, no server, no schema, no steps. They
share no arithmetic with the router's arms, so that the reference stays where it is when those change.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import Stemmer
from numpy.typing import NDArray

from router.evaluation.metrics import DEPTH
from router.evaluation.sets import name_of
from router.ports import ToolEntry, Vectors
from router.tokens import STOPWORDS

K1 = 1.2
B = 0.75
RRF_K = 60
"""Cormack, Clarke and Büttcher 2009."""

Scores = NDArray[np.float32]
Encode = Callable[[str], NDArray[np.float32]]

_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+")
_stemmer = Stemmer.Stemmer("english")


@dataclass(frozen=True, slots=True)
class Ranked:
    """Names, best first. `tokens`: what an agent would read of the first five, where the retriever writes answers."""

    names: tuple[str, ...]
    took_ms: float
    confidence: str = ""
    tokens: int = 0


class Retriever(Protocol):
    async def rank(self, text: str) -> Ranked:
        """The first ten for a query, and how long that took, its encoding included."""


class Bm25:
    """Robertson's BM25 over "name description": names split at case and underscore, stop words dropped, English stems.

    Stop words are the router's: with Lucene's short list this reference would be 2 points of nDCG@10 weaker.
    """

    def __init__(self, tools: Sequence[ToolEntry]) -> None:
        self._names = tuple(name_of(t) for t in tools)
        counts = [Counter(_words(_plain_text(t, " "))) for t in tools]
        lengths = np.array([sum(c.values()) for c in counts], dtype=np.float32)
        norms = K1 * (1 - B + B * lengths / max(1e-6, float(lengths.mean()) if len(lengths) else 1.0))
        where: dict[str, list[int]] = {}
        for row, words in enumerate(counts):
            for word in words:
                where.setdefault(word, []).append(row)
        self._postings: dict[str, tuple[NDArray[np.int64], Scores]] = {}
        for word, listed in where.items():
            rows = np.array(listed)
            times = np.array([counts[r][word] for r in listed], dtype=np.float32)
            idf = np.log1p((len(tools) - len(rows) + 0.5) / (len(rows) + 0.5))
            self._postings[word] = rows, (idf * times * (K1 + 1) / (times + norms[rows])).astype(np.float32)

    async def rank(self, text: str) -> Ranked:
        began = time.perf_counter()
        order = self.order(text)[:DEPTH]
        return Ranked(tuple(self._names[i] for i in order), (time.perf_counter() - began) * 1000)

    def order(self, text: str) -> NDArray[np.int64]:
        """Rows that share a word with the query, best first; the earlier row of two that score alike."""
        scores = np.zeros(len(self._names), dtype=np.float32)
        for word in _words(text):
            if word in self._postings:
                rows, gains = self._postings[word]
                scores[rows] += gains
        return _best_first(scores)[: int(np.count_nonzero(scores))]


class Dense:
    """Cosine over "name: description", one vector a tool."""

    def __init__(self, tools: Sequence[ToolEntry], embed: Callable[[Sequence[str]], Vectors], encode: Encode) -> None:
        """`embed` makes the tools' vectors, `encode` that of a query: unit vectors both."""
        self._names = tuple(name_of(t) for t in tools)
        self._vectors = embed([_plain_text(t, ": ") for t in tools])
        self._encode = encode

    async def rank(self, text: str) -> Ranked:
        began = time.perf_counter()
        order = self.order(text)[:DEPTH]
        return Ranked(tuple(self._names[i] for i in order), (time.perf_counter() - began) * 1000)

    def order(self, text: str) -> NDArray[np.int64]:
        """All rows, nearest first."""
        return _best_first(self._vectors @ self._encode(text))


class ReciprocalRanks:
    """Each list gives a tool 1 ÷ (60 + its place); a tool that a list does not hold gets nothing from it."""

    def __init__(self, tools: Sequence[ToolEntry], lists: Sequence[Bm25 | Dense]) -> None:
        self._names = tuple(name_of(t) for t in tools)
        self._lists = lists

    async def rank(self, text: str) -> Ranked:
        began = time.perf_counter()
        scores = np.zeros(len(self._names), dtype=np.float64)
        for one in self._lists:
            order = one.order(text)
            scores[order] += 1 / (RRF_K + 1 + np.arange(len(order)))
        order = _best_first(scores)[:DEPTH]
        return Ranked(tuple(self._names[i] for i in order), (time.perf_counter() - began) * 1000)


def _plain_text(entry: ToolEntry, between: str) -> str:
    description = entry.definition.get("description")
    return f"{entry.key.tool}{between}{description}" if description else entry.key.tool


def _words(text: str) -> Iterator[str]:
    for word in _WORD.findall(_HUMPS.sub(" ", text).lower()):
        if word not in STOPWORDS:
            yield _stemmer.stemWord(word)


def _best_first(scores: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.int64]:
    return np.argsort(-scores, kind="stable")
