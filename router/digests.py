"""Sets of text digests, as large as a mesh has texts, in eight bytes each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

_PREFIX = 16
"""Hex digits that are looked at: of 400,000 texts two share them once in a hundred million meshes."""


class DigestSet:
    """Digests by their first 64 bits: `in` may say yes of one that is not there, hardly ever, and never no of one
    that is. What is added is merged into one sorted array once it is a tenth of it."""

    def __init__(self, digests: Iterable[str] = ()) -> None:
        self._sorted = np.unique(_numbers(digests))
        self._added: set[int] = set()

    def __len__(self) -> int:
        return len(self._sorted) + len(self._added)

    def __repr__(self) -> str:
        return f"DigestSet({len(self)})"

    def has(self, digests: Sequence[str]) -> NDArray[np.bool_]:
        """Which of them are there, in their order."""
        numbers = _numbers(digests)
        if len(self._sorted):
            at = np.minimum(np.searchsorted(self._sorted, numbers), len(self._sorted) - 1)
            found: NDArray[np.bool_] = self._sorted[at] == numbers
        else:
            found = np.zeros(len(numbers), dtype=np.bool_)
        if self._added:
            found |= np.fromiter((int(n) in self._added for n in numbers), np.bool_, len(numbers))
        return found

    def add(self, digests: Sequence[str]) -> None:
        fresh = _numbers(digests)[~self.has(digests)]
        self._added.update(map(int, fresh))
        if len(self._added) > max(1_000, len(self._sorted) // 10):
            self._sorted, self._added = self.array(), set()

    def array(self) -> NDArray[np.uint64]:
        """Sorted, to be saved and given to `of`."""
        added = np.fromiter(self._added, np.uint64, len(self._added))
        return np.union1d(self._sorted, added)

    @classmethod
    def of(cls, array: NDArray[np.uint64]) -> DigestSet:
        """Raises ValueError for what `array` never gives."""
        if array.ndim != 1 or array.dtype != np.uint64 or np.any(array[1:] <= array[:-1]):
            raise ValueError(f"{array.dtype} of shape {array.shape} is no sorted array of digests")
        made = cls()
        made._sorted = array
        return made


def _numbers(digests: Iterable[str]) -> NDArray[np.uint64]:
    return np.fromiter((int(d[:_PREFIX], 16) for d in digests), np.uint64)
