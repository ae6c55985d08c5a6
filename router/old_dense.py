"""Vectors of documents in memory: exact similarity of a query to every document, and to its sentences for a few.

A row holds one distinct document, however many owners offer it. Its main vector mixes the tool's own text with its
name next to its server's; the mix is kept unnormalised, so that one product gives the weighted sum of two cosines.
Sentences are float16: they are read for some hundred candidates only. At 100,000 documents the main vectors take
154 MB, the sentences at most 230 MB and in practice (most tools say one thing) about half of that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from router.documents import SENTENCES_MAX
from router.ports import Vectors

NAMED_WEIGHT = 0.5
PLACED_WEIGHT = 0.2
SENTENCE_WEIGHT = 0.3

Rows = NDArray[np.int64]
_NONE = -1


class Pool:
    """Rows of one matrix, handed out and taken back; grows by half and never shrinks."""

    def __init__(self, dimensions: int, dtype: type[np.float32] | type[np.float16]) -> None:
        self.matrix = np.zeros((0, dimensions), dtype=dtype)
        self._free: list[int] = []
        self.used = 0

    def take(self, vector: NDArray[np.float32]) -> int:
        if self._free:
            row = self._free.pop()
        else:
            row = self.used
            self.used += 1
            if row >= len(self.matrix):
                grown = np.zeros((max(64, row * 3 // 2), self.matrix.shape[1]), dtype=self.matrix.dtype)
                grown[: len(self.matrix)] = self.matrix
                self.matrix = grown
        self.matrix[row] = vector
        return row

    def give_back(self, row: int) -> None:
        self._free.append(row)


class Dense:
    """Rows are this class's own; callers keep the number that `add` returned."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self._main = Pool(dimensions, np.float32)
        self._parts = Pool(dimensions, np.float16)
        self._servers = Pool(dimensions, np.float32)
        self._parts_of = np.full((0, SENTENCES_MAX), _NONE, dtype=np.int32)
        self._server_of = np.full(0, _NONE, dtype=np.int32)
        self._server_rows: dict[str, list[int]] = {}
        self._server_key_of: dict[int, str] = {}

    def __repr__(self) -> str:
        return f"Dense({self._main.used} rows, {self._parts.used} sentences, {len(self._server_rows)} servers)"

    def add(
        self,
        named: NDArray[np.float32],
        placed: NDArray[np.float32],
        sentences: Sequence[NDArray[np.float32]] = (),
        server: tuple[str, NDArray[np.float32]] | None = None,
    ) -> int:
        """Unit vectors in, row number out. `server` is (text digest, vector); equal digests share one."""
        row = self._main.take(NAMED_WEIGHT * named + PLACED_WEIGHT * placed)
        if row >= len(self._server_of):
            grown = max(64, row * 3 // 2)
            self._parts_of = _grown(self._parts_of, grown)
            self._server_of = _grown(self._server_of, grown)
        self._parts_of[row] = _NONE
        for i, vector in enumerate(sentences[:SENTENCES_MAX]):
            self._parts_of[row, i] = self._parts.take(vector)
        self._server_of[row] = _NONE
        if server is not None:
            key, vector = server
            # [row in the pool, how many documents use it]
            held = self._server_rows.setdefault(key, [_NONE, 0])
            if held[0] == _NONE:
                held[0] = self._servers.take(vector)
            held[1] += 1
            self._server_of[row] = held[0]
            self._server_key_of[row] = key
        return row

    def remove(self, row: int) -> None:
        self._main.give_back(row)
        for part in self._parts_of[row]:
            if part != _NONE:
                self._parts.give_back(int(part))
        key = self._server_key_of.pop(row, None)
        if key is not None:
            held = self._server_rows[key]
            held[1] -= 1
            if not held[1]:
                self._servers.give_back(held[0])
                del self._server_rows[key]

    def similarities(self, queries: Vectors) -> Vectors:
        """Weighted cosines by main vector, shape (queries, rows): within ±0.7."""
        # The great matrix first: the other way round OpenBLAS copies all of it for a handful of queries.
        similar: Vectors = self._main.matrix[: self._main.used] @ queries.T
        return similar.T

    def sentence_similarities(self, queries: Vectors, rows: Rows, main: Vectors) -> Vectors:
        """Weighted cosine of the nearest sentence, shape (queries, rows): within ±0.3.

        A document of one sentence is its own nearest; `main` holds `similarities` for these rows.
        """
        parts = self._parts_of[rows]
        whole = main / (NAMED_WEIGHT + PLACED_WEIGHT)
        if not (parts != _NONE).any():
            return np.float32(SENTENCE_WEIGHT) * whole
        vectors = self._parts.matrix[np.maximum(parts, 0)].astype(np.float32)
        # One product over all sentences; einsum would not use BLAS for it.
        products = (queries @ vectors.reshape(-1, self.dimensions).T).reshape(len(queries), *parts.shape)
        similar = np.where(parts == _NONE, np.float32(-1), products)
        nearest: Vectors = np.maximum(similar.max(axis=2), whole)
        return np.float32(SENTENCE_WEIGHT) * nearest

    def server_similarities(self, queries: Vectors) -> Vectors:
        """Cosine to the document's server, shape (queries, rows); NaN where the server says nothing of itself."""
        of = self._server_of[: self._main.used]
        if not self._servers.used:
            return np.full((len(queries), len(of)), np.nan, dtype=np.float32)
        similar: Vectors = queries @ self._servers.matrix[: self._servers.used].T
        spread = np.take(similar, np.maximum(of, 0), axis=1)
        spread[:, of == _NONE] = np.nan
        return spread


def _grown(values: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    grown = np.full((size, *values.shape[1:]), _NONE, dtype=np.int32)
    grown[: len(values)] = values
    return grown
