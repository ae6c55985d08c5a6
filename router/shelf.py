"""Entries of evidence by the likeness of their vectors, and what their votes come to for one who asks.

Everything that a search reads lies in arrays, a row for each entry, handed out and taken back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.evidence import VOTES_MAX, Entry, Subject

Floats = NDArray[np.float32]

_UNIT = 0.01
"""How far a vector's length may be from 1: float16 and a peer's rounding are far within."""
_NOBODY = 0


class Shelf:
    """float32, 1.6 KB a row at 384 dimensions; grows by half and never shrinks. The first entry sets the width."""

    def __init__(self) -> None:
        self._matrix = np.zeros((0, 0), dtype=np.float32)
        self._voters = np.zeros((0, VOTES_MAX), dtype=np.int64)
        self._hours = np.zeros((0, VOTES_MAX), dtype=np.int64)
        self._subject_of = np.zeros(0, dtype=np.int64)
        self._row_of: dict[int, int] = {}
        self._free: list[int] = []
        self._rows = 0
        # Subject → [its number, how many rows are about it]; numbers are used again.
        self._subjects: dict[Subject, list[int]] = {}
        self._by_number: dict[int, Subject] = {}
        self._free_numbers: list[int] = []

    def __repr__(self) -> str:
        return f"Shelf({self.used} of {len(self._matrix)} rows, {len(self._subjects)} subjects)"

    @property
    def used(self) -> int:
        return len(self._row_of)

    def put(self, entry: Entry) -> None:
        """A new entry, or one whose votes have changed."""
        row = self._row_of.get(id(entry))
        if row is None:
            row = self._row_of[id(entry)] = self._free.pop() if self._free else self._next(len(entry.vector))
            self._matrix[row] = entry.vector
            self._subject_of[row] = self._number(entry.subject)
        self._voters[row] = _NOBODY
        for at, (voter, hour) in enumerate(entry.votes.items()):
            self._voters[row, at] = number_of(voter)
            self._hours[row, at] = hour

    def remove(self, entry: Entry) -> None:
        row = self._row_of.pop(id(entry))
        # A row of zeros is near to nothing.
        self._matrix[row] = 0
        self._free.append(row)
        held = self._subjects[entry.subject]
        held[1] -= 1
        if not held[1]:
            del self._subjects[entry.subject], self._by_number[held[0]]
            self._free_numbers.append(held[0])

    def agreed(
        self, query: Floats, voter: str, floor: float, span: float, share: float, weight: Callable[[Floats], Floats]
    ) -> list[tuple[Subject, float]]:
        """(subject, gain) of all that has entries nearer to the query than `floor`, in no order.

        A vote gains by how much nearer its entry is, `span` at most, times the `weight` of its hour; a voter counts
        once, by its best. The voter's own gain counts in full, that of others by `share`; together never more than
        the best of all.
        """
        if not self._row_of or len(query) != self._matrix.shape[1]:
            return []
        cosines = self._matrix[: self._rows] @ query
        rows = np.flatnonzero(cosines > floor)
        if not len(rows):
            return []
        near = np.minimum(cosines[rows] - np.float32(floor), np.float32(span))
        gains = (near[:, None] * weight(self._hours[rows].astype(np.float32))).ravel()
        voters = self._voters[rows].ravel()
        subjects = np.repeat(self._subject_of[rows], VOTES_MAX)
        voted = voters != _NOBODY
        gains, voters, subjects = gains[voted], voters[voted], subjects[voted]
        order = np.lexsort((voters, subjects))
        gains, voters, subjects = gains[order], voters[order], subjects[order]
        firsts = np.flatnonzero(_changes(subjects) | _changes(voters))
        gains, voters, subjects = np.maximum.reduceat(gains, firsts), voters[firsts], subjects[firsts]
        counted = np.where(voters == number_of(voter), gains, np.float32(share) * gains) if voter else share * gains
        firsts = np.flatnonzero(_changes(subjects))
        total = np.minimum(np.add.reduceat(counted, firsts), np.maximum.reduceat(gains, firsts))
        return [(self._by_number[n], float(g)) for n, g in zip(subjects[firsts].tolist(), total, strict=True)]

    def subjects(self) -> int:
        return len(self._subjects)

    def _next(self, width: int) -> int:
        row = self._rows
        self._rows += 1
        if row >= len(self._matrix):
            size = max(64, row * 3 // 2)
            matrix = np.zeros((size, width), dtype=np.float32)
            matrix[:row] = self._matrix if self._matrix.size else 0
            self._matrix = matrix
            self._voters, self._hours = (_grown(a, (size, VOTES_MAX)) for a in (self._voters, self._hours))
            self._subject_of = _grown(self._subject_of, (size,))
        return row

    def _number(self, subject: Subject) -> int:
        held = self._subjects.get(subject)
        if held is None:
            number = self._free_numbers.pop() if self._free_numbers else len(self._subjects)
            held = self._subjects[subject] = [number, 0]
            self._by_number[number] = subject
        held[1] += 1
        return held[0]


def sound(vector: NDArray[np.floating[Any]], width: int) -> bool:
    """Whether it is a finite unit vector of this width, as all of a shelf have to be."""
    return vector.shape == (width,) and bool(abs(float(np.linalg.norm(vector.astype(np.float32))) - 1) < _UNIT)


def number_of(voter: str) -> int:
    """A principal's hash, of whatever form a peer's version gives it, as a number that is not 0."""
    return int.from_bytes(hashlib.blake2b(voter.encode(), digest_size=8).digest(), signed=True) or 1


def _changes(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True where a value differs from the one before, and at the beginning."""
    return np.concatenate(([True], values[1:] != values[:-1]))


def _grown(values: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    grown = np.zeros(shape, dtype=np.int64)
    grown[: len(values)] = values
    return grown
