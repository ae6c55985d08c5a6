"""Unit vectors kept as 16-bit fixed point: half of float32's memory, a row number for each.

Components of a unit vector lie within ±1, so an integer of 1/32767 is closer to them than a float16 (an error of
1.5e-5 at most, about 2e-6 in a cosine), and numpy turns whole numbers into float32 seven times as fast.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

SCALE = 32767
BLOCK = 256

Fixed = NDArray[np.int16]
Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
T = TypeVar("T", bound=np.generic)


def fixed(vector: Floats) -> Fixed:
    """Raises `ValueError` unless every component is a number within ±1."""
    if not np.abs(vector).max(initial=0) <= 1:
        raise ValueError("a vector to be kept has components beyond ±1, or that are no numbers")
    rounded: Fixed = np.rint(vector * np.float32(SCALE)).astype(np.int16)
    return rounded


def floats(vectors: Fixed) -> Floats:
    return vectors * np.float32(1 / SCALE)


def products(queries: Floats, matrix: Fixed, rows: NDArray[np.integer[Any]]) -> Floats:
    """Dot products, float32, shape (queries, rows). A block at a time, which stays in the processor's cache."""
    out = np.empty((len(queries), len(rows)), dtype=np.float32)
    scaled = np.ascontiguousarray((queries * np.float32(1 / SCALE)).T)
    room = np.empty((min(BLOCK, len(rows)), matrix.shape[1]), dtype=np.float32)
    for start in range(0, len(rows), BLOCK):
        chosen = rows[start : start + BLOCK]
        block = room[: len(chosen)]
        np.copyto(block, matrix.take(chosen, axis=0))
        out[:, start : start + BLOCK] = (block @ scaled).T
    return out


class Pool:
    """Rows of one matrix, handed out and taken back; grows by half and never shrinks."""

    def __init__(self, dimensions: int, room: int = 0) -> None:
        self.matrix: Fixed = np.zeros((room, dimensions), dtype=np.int16)
        self.free: list[int] = []
        self.used = 0

    def __len__(self) -> int:
        return self.used - len(self.free)

    def take(self, vector: Floats) -> int:
        if self.free:
            row = self.free.pop()
        else:
            row = self.used
            self.used += 1
            if row >= len(self.matrix):
                self.matrix = grown(self.matrix, row + 1)
        self.matrix[row] = fixed(vector)
        return row

    def give_back(self, row: int) -> None:
        self.free.append(row)

    def restore(self, matrix: Fixed, taken: Rows) -> None:
        """Raises `ValueError` where a row that is taken is not there."""
        if matrix.dtype != np.int16 or matrix.shape[1:] != self.matrix.shape[1:]:
            raise ValueError("its vectors are of another width or kind")
        if ((taken < 0) | (taken >= len(matrix))).any():
            raise ValueError("it refers to vectors that are not there")
        if len(matrix) > len(self.matrix):
            self.matrix = grown(self.matrix, len(matrix))
        self.matrix[: len(matrix)] = matrix
        self.used = len(matrix)
        self.free = np.setdiff1d(np.arange(len(matrix)), taken).tolist()


class Shared:
    """One vector for all who say the same: a pool whose vectors are counted by text digest."""

    def __init__(self, dimensions: int) -> None:
        self.pool = Pool(dimensions)
        self.digests: dict[int, str] = {}
        self._rows: dict[str, int] = {}
        self._users: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, digest: str, vector: Floats) -> int:
        """The row of this text, with the vector that came first; one user more."""
        row = self._rows.get(digest)
        if row is None:
            row = self._rows[digest] = self.pool.take(vector)
            self.digests[row] = digest
        self._users[digest] += 1
        return row

    def restore(self, matrix: Fixed, digests: Sequence[str], users: Rows) -> None:
        """`digests` by row of the pool, "" for a free one; `users`: the row of each user. Raises `ValueError`."""
        self.digests = {row: digest for row, digest in enumerate(digests) if digest}
        self._rows = {digest: row for row, digest in self.digests.items()}
        self._users = Counter(self.digests[row] for row in users.tolist() if row in self.digests)
        taken = np.unique(users)
        if taken.tolist() != sorted(self.digests) or len(self._rows) != len(taken):
            raise ValueError("its servers do not fit together")
        self.pool.restore(matrix, taken)

    def give_back(self, row: int) -> None:
        """One user less; with the last the vector goes."""
        digest = self.digests[row]
        self._users[digest] -= 1
        if not self._users[digest]:
            del self._users[digest], self._rows[digest], self.digests[row]
            self.pool.give_back(row)


def grown(values: NDArray[T], size: int, fill: float = 0) -> NDArray[T]:
    """A copy with room for at least `size` rows, half as many again as before."""
    shape = (max(64, size, len(values) * 3 // 2), *values.shape[1:])
    # Zeros cost no memory until they are written to.
    room = np.full(shape, fill, dtype=values.dtype) if fill else np.zeros(shape, dtype=values.dtype)
    room[: len(values)] = values
    return room
