"""A quick look at every vector in a few directions, to find the thousand that are worth an exact look.

The directions are those in which the vectors present differ most (principal components, from a sample): 96 of
MiniLM's 384 hold two thirds of the spread, and of the ten nearest of 100,000 more than 99.5 % are among the nearest
1,500 by them. Coordinates are kept as bytes, 96 a row: a scan is bound by memory. It is one matrix product for all
queries at once; a filter is a choice of rows; a row that comes is searchable after one small product. What it is
compared with: docs/decisions/0019.

Directions are found anew when as many vectors have changed as half of those they were made of, in slices of a few
milliseconds, one for every so many that come; the former ones serve until then.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np
from numpy.typing import NDArray

from router.byte_products import QUERY_MAX, products
from router.pool import Fixed, Floats, Rows, floats, grown

DIRECTIONS = 96
SAMPLE = 8_192
ROUNDS = 8
# Power iteration finds the last directions wanted sooner where a few more are carried along.
CARRIED = 16
BLOCK = 1_024
FEW = 0.5
"""Below this share of the rows they are picked out one by one, above it all are scanned."""
# A coordinate is a whole number of steps, up to five standard deviations; beyond that it is cut.
STEPS, REACH = 127, 5.0
STEP_MIN = 1e-6


class Basis:
    """Directions, shape (dimensions, directions), about a centre, with the covariance of the sample they are of."""

    def __init__(self, centre: Floats, covariance: Floats, directions: Floats) -> None:
        self.centre = centre
        self.covariance = covariance
        self.directions = directions
        self._within = np.asarray(directions.T @ covariance @ directions, dtype=np.float32)
        self.step = np.maximum(np.sqrt(np.maximum(np.diag(self._within), 0)), STEP_MIN) * np.float32(REACH / STEPS)
        """What one step of a whole number means in each direction."""

    def project(self, vectors: Floats) -> NDArray[np.uint8]:
        """Steps in each direction, from the lowest: 127 is the centre."""
        steps = ((vectors - self.centre) @ self.directions) / self.step
        return (np.rint(np.clip(steps, -STEPS, STEPS)) + STEPS).astype(np.uint8)

    def missed(self, queries: Floats) -> Floats:
        """Variance of the products with each query that the directions do not see, shape (queries,)."""
        inside = queries @ self.directions
        whole = ((queries @ self.covariance) * queries).sum(axis=1)
        seen = ((inside @ self._within) * inside).sum(axis=1)
        return np.asarray(np.maximum(whole - seen, 0), dtype=np.float32)


class Coarse:
    """Rows of a matrix that belongs to the caller, in a basis."""

    def __init__(self, basis: Basis, of: int, room: int) -> None:
        self.basis = basis
        self.of = of
        """How many rows there were when the basis was made."""
        self._rows = np.zeros((room, basis.directions.shape[1]), dtype=np.uint8)

    def put(self, rows: Rows | slice, vectors: Fixed) -> None:
        most = rows.stop if isinstance(rows, slice) else int(rows.max(initial=-1)) + 1
        if most > len(self._rows):
            self._rows = grown(self._rows, most)
        self._rows[rows] = self.basis.project(floats(vectors))

    def put_all(self, main: Fixed) -> Iterator[None]:
        """Every row of `main`, in slices."""
        for start in range(0, len(main), BLOCK):
            block = main[start : start + BLOCK]
            self.put(slice(start, start + len(block)), block)
            yield

    def similar(self, queries: Floats, rows: Rows) -> Floats:
        """About the dot products of queries with rows, shape (queries, rows); `rows` in order and not empty."""
        inside = (queries @ self.basis.directions) * self.basis.step
        unit = np.maximum(np.abs(inside).max(axis=1), STEP_MIN) / np.float32(QUERY_MAX)
        asked = np.rint(inside / unit[:, None]).astype(np.int8)
        extent = int(rows[-1]) + 1
        few = len(rows) < FEW * extent
        steps = products(self._rows[rows] if few else self._rows[:extent], np.ascontiguousarray(asked.T)).T
        if not few and len(rows) < extent:
            steps = steps[:, rows]
        at_zero = queries @ self.basis.centre - STEPS * unit * asked.sum(axis=1)
        found = steps.astype(np.float32, order="C")
        found *= unit[:, None]
        found += at_zero[:, None].astype(np.float32)
        return found


class Rebuilding:
    """A basis for what stands in `rows` now, and every row of `main` in it, in slices of a few milliseconds."""

    def __init__(self, main: Fixed, rows: Rows, room: int) -> None:
        self.changed: set[int] = set()
        """Rows that have changed since; for the caller to add to."""
        self._slices = _rebuild(main, rows, room)
        self._made: Coarse | None = None

    def advance(self, main: Fixed) -> Coarse | None:
        """A slice; the outcome, once all that has changed meanwhile is in it, as it is in `main`."""
        if self._made is None:
            try:
                next(self._slices)
            except StopIteration as done:
                self._made = done.value
            return None
        some = np.array([self.changed.pop() for _ in range(min(BLOCK, len(self.changed)))], dtype=np.int64)
        self._made.put(some, main[some])
        return None if self.changed else self._made


def _rebuild(main: Fixed, rows: Rows, room: int) -> Generator[None, None, Coarse]:
    made = Coarse((yield from _basis(main, rows)), len(rows), room)
    yield from made.put_all(main)
    return made


def _basis(main: Fixed, rows: Rows) -> Generator[None, None, Basis]:
    sample = main[rows[np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(np.int64)]]
    dimensions = main.shape[1]
    total, squares = np.zeros(dimensions), np.zeros((dimensions, dimensions))
    for start in range(0, len(sample), BLOCK // 2):
        block = floats(sample[start : start + BLOCK // 2])
        total += block.sum(axis=0)
        squares += block.T @ block
        yield
    centre = total / len(sample)
    covariance = squares / len(sample) - np.outer(centre, centre)
    # Any start will do that is not at right angles to what is sought; this one is the same each time.
    found = np.random.default_rng(0).standard_normal((dimensions, min(dimensions, DIRECTIONS + CARRIED)))
    for _ in range(ROUNDS):
        found = np.linalg.qr(covariance @ found)[0]
        yield
    _, turned = np.linalg.eigh(found.T @ covariance @ found)
    directions = (found @ turned)[:, ::-1][:, :DIRECTIONS]
    return Basis(*(np.ascontiguousarray(a, dtype=np.float32) for a in (centre, covariance, directions)))
