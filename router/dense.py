"""Vectors of documents in memory, by row: which rows are near a query, and how near exactly.

A row's main vector mixes the tool's own text with its name next to its server's; the mix is kept unnormalised, so
that one product gives the weighted sum of two cosines. Vectors arrive in stages: a row counts as embedded from NAMED
on, which stands in for whatever is still to come. Sentences and servers have pools of their own: most tools say one
thing, and all tools of a server share its vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from router.masks import View
from router.pool import Floats, Pool, Rows, fixed, floats, grown, products

NAMED_WEIGHT = 0.5
PLACED_WEIGHT = 0.2
SENTENCE_WEIGHT = 0.3
WHOLE_WEIGHT = NAMED_WEIGHT + PLACED_WEIGHT

_NONE = -1


class Part(IntEnum):
    """A document's texts in the order in which their vectors should come."""

    NAMED = 0
    PLACED = 1
    SENTENCE_0 = 2
    SENTENCE_1 = 3


SENTENCES = (Part.SENTENCE_0, Part.SENTENCE_1)


@dataclass(frozen=True, slots=True)
class Candidates:
    """For each query the rows nearest to it, in no order, and mean and spread (standard deviation), shape (queries,),
    of the cosine to the whole document over all visible rows that have one."""

    rows: Sequence[Rows]
    mean: Floats
    spread: Floats


class Dense:
    """Rows are chosen by the caller; queries are unit vectors, float32, (queries, dimensions). Not thread-safe."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self.embedded: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        """Whether a row has NAMED, by row, as long as the highest row asked about."""
        self._placed: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._main = np.zeros((0, dimensions), dtype=np.int16)
        self._sentences = Pool(dimensions)
        self._sentences_of = np.zeros((0, len(SENTENCES)), dtype=np.int64)
        self._servers = Pool(dimensions)
        self._server_of = np.zeros(0, dtype=np.int64)
        # By text digest: its row in the pool, and how many documents use it.
        self._shared: dict[str, list[int]] = {}
        self._digests: dict[int, str] = {}

    def __len__(self) -> int:
        return int(np.count_nonzero(self.embedded))

    def __repr__(self) -> str:
        return f"Dense({len(self)} rows, {len(self._sentences)} sentences, {len(self._servers)} servers)"

    # ---- changes ---------------------------------------------------------------------------------

    def put(self, row: int, part: Part, vector: Floats) -> None:
        """A unit vector of one text of the document; a part that is there already is replaced.

        Raises `ValueError` where NAMED, which every other part builds on, is missing, and for what is no unit vector.
        """
        self._reserve(row + 1)
        if part is Part.NAMED:
            self._main[row] = fixed(np.float32(WHOLE_WEIGHT) * vector)
            self.embedded[row], self._placed[row] = True, False
            return
        if not self.embedded[row]:
            raise ValueError(f"row {row} has no vector of its name and description, which comes first")
        if part is Part.PLACED:
            if self._placed[row]:
                raise ValueError(f"row {row} has its place already; put NAMED again first")
            named = floats(self._main[row]) / np.float32(WHOLE_WEIGHT)
            self._main[row] = fixed(NAMED_WEIGHT * named + PLACED_WEIGHT * vector)
            self._placed[row] = True
            return
        sentence = SENTENCES.index(part)
        held = int(self._sentences_of[row, sentence])
        if held != _NONE:
            self._sentences.give_back(held)
        self._sentences_of[row, sentence] = self._sentences.take(vector)

    def serve(self, row: int, digest: str, vector: Floats) -> None:
        """The document's server; equal text digests share one vector, the first that came."""
        self._reserve(row + 1)
        self._leave_server(row)
        held = self._shared.get(digest)
        if held is None:
            held = self._shared[digest] = [self._servers.take(vector), 0]
        held[1] += 1
        self._server_of[row] = held[0]
        self._digests[row] = digest

    def remove(self, row: int) -> None:
        """Every vector of the row; one that has none is no error."""
        self._reserve(row + 1)
        self._main[row] = 0
        self.embedded[row] = self._placed[row] = False
        for held in self._sentences_of[row]:
            if held != _NONE:
                self._sentences.give_back(int(held))
        self._sentences_of[row] = _NONE
        self._leave_server(row)

    def _leave_server(self, row: int) -> None:
        digest = self._digests.pop(row, None)
        if digest is None:
            return
        held = self._shared[digest]
        held[1] -= 1
        if not held[1]:
            self._servers.give_back(held[0])
            del self._shared[digest]
        self._server_of[row] = _NONE

    def _reserve(self, size: int) -> None:
        if size > len(self.embedded):
            self.embedded = grown(self.embedded, size)
            self._placed = grown(self._placed, size)
            self._main = grown(self._main, size)
            self._sentences_of = grown(self._sentences_of, size, _NONE)
            self._server_of = grown(self._server_of, size, _NONE)

    # ---- search ----------------------------------------------------------------------------------

    def candidates(self, queries: Floats, view: View, count: int) -> Candidates:
        """At most `count` visible rows for each query, the nearest by the whole document."""
        rows = self._of(view)
        similar = products(queries, self._main, rows) / np.float32(WHOLE_WEIGHT)
        if not len(rows):
            nothing = np.zeros(len(queries), dtype=np.float32)
            return Candidates([rows] * len(queries), nothing, nothing)
        nearest = [rows[np.argpartition(s, -count)[-count:]] if count < len(rows) else rows for s in similar]
        return Candidates(nearest, similar.mean(axis=1), similar.std(axis=1))

    def scores(self, queries: Floats, rows: Rows) -> Floats:
        """Weighted cosines to the whole and to the nearest sentence, shape (queries, rows), within ±1; 0 where a row
        is not embedded. A document of one sentence is its own nearest."""
        self._reserve(int(rows.max(initial=-1)) + 1)
        main = products(queries, self._main, rows)
        nearest = main / np.float32(WHOLE_WEIGHT)
        for sentence in self._sentences_of[rows].T:
            told = np.flatnonzero(sentence != _NONE)
            if len(told):
                similar = products(queries, self._sentences.matrix, sentence[told])
                nearest[:, told] = np.maximum(nearest[:, told], similar)
        return main + np.float32(SENTENCE_WEIGHT) * nearest

    def server_scores(self, queries: Floats, rows: Rows) -> Floats:
        """Cosine to the document's server, shape (queries, rows); NaN where the server says nothing of itself."""
        self._reserve(int(rows.max(initial=-1)) + 1)
        of = self._server_of[rows]
        out = np.full((len(queries), len(rows)), np.nan, dtype=np.float32)
        told = np.flatnonzero(of != _NONE)
        if len(told):
            servers, at = np.unique(of[told], return_inverse=True)
            out[:, told] = products(queries, self._servers.matrix, servers)[:, at]
        return out

    def known(self, rows: Rows) -> NDArray[np.bool_]:
        """Which of these rows are embedded."""
        self._reserve(int(rows.max(initial=-1)) + 1)
        return self.embedded[rows]

    def _of(self, view: View) -> Rows:
        known = self.known(view.indices)
        return view.indices if known.all() else view.indices[known]
