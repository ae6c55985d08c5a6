"""Entries of evidence by the likeness of their vectors: one matrix, rows handed out and taken back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router.evidence import Entry

_UNIT = 0.01
"""How far a vector's length may be from 1: float16 and a peer's rounding are far within."""


class Shelf:
    """float32, 1.5 KB a row at 384 dimensions; grows by half and never shrinks. The first entry sets the width."""

    def __init__(self) -> None:
        self._matrix = np.zeros((0, 0), dtype=np.float32)
        self._at: list[Entry | None] = []
        self._row_of: dict[int, int] = {}
        self._free: list[int] = []

    def __repr__(self) -> str:
        return f"Shelf({self.used} of {len(self._matrix)} rows)"

    @property
    def used(self) -> int:
        return len(self._row_of)

    def takes(self, entry: Entry) -> bool:
        """Whether it is a finite unit vector, as wide as the others."""
        vector = entry.vector.astype(np.float32)
        right_width = vector.ndim == 1 and (not self._matrix.size or len(vector) == self._matrix.shape[1])
        return right_width and bool(abs(float(np.linalg.norm(vector)) - 1) < _UNIT)

    def add(self, entry: Entry) -> None:
        """Each entry object once."""
        row = self._free.pop() if self._free else len(self._at)
        if row == len(self._at):
            self._at.append(None)
        if row >= len(self._matrix):
            grown = np.zeros((max(64, row * 3 // 2), len(entry.vector)), dtype=np.float32)
            grown[: len(self._matrix)] = self._matrix if self._matrix.size else 0
            self._matrix = grown
        self._matrix[row] = entry.vector
        self._at[row] = entry
        self._row_of[id(entry)] = row

    def remove(self, entry: Entry) -> None:
        row = self._row_of.pop(id(entry))
        # A row of zeros is near to nothing.
        self._matrix[row] = 0
        self._at[row] = None
        self._free.append(row)

    def near(self, query: NDArray[np.float32], floor: float) -> list[tuple[Entry, float]]:
        """(entry, cosine) of those nearer than `floor`, in no order; none where the width is another one."""
        if not self._row_of or len(query) != self._matrix.shape[1]:
            return []
        cosines = self._matrix[: len(self._at)] @ query
        rows = np.flatnonzero(cosines > floor)
        return [(entry, float(c)) for row, c in zip(rows, cosines[rows], strict=True) if (entry := self._at[row])]
