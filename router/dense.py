"""Vectors of documents in memory, by row: which rows are near a query, and how near exactly.

A row's main vector mixes the tool's own text with its name next to its server's; the mix is kept unnormalised, so
that one product gives the weighted sum of two cosines. Vectors arrive in stages: a row counts as embedded from NAMED
on, which stands in for whatever is still to come. Sentences and servers have pools of their own: most tools say one
thing, and all tools of a server share its vector.

Where a caller sees more than EXACT_MAX rows, the nearest are found among a shortlist by their principal directions
(`coarse`) and measured exactly; below that every row is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from router.coarse import Basis, Coarse, Rebuilding
from router.masks import View
from router.pool import Floats, Pool, Rows, Shared, fixed, floats, grown, products

NAMED_WEIGHT = 0.5
PLACED_WEIGHT = 0.2
SENTENCE_WEIGHT = 0.3
WHOLE_WEIGHT = NAMED_WEIGHT + PLACED_WEIGHT

EXACT_MAX = 8_192
SHORTLIST = 1_500
"""Rows that get an exact look; three times as many as are asked for where that is more."""
PUTS_A_SLICE = 64
ROOM = 131_072
"""Rows that there is room for from the start, so that nothing is copied while they come: zeros that nobody has
written to take no memory."""
SAMPLED = 16
"""One value in so many is looked at to see which may be among the highest."""
FORMAT = 1
"""Of what `state` gives."""
_NONE = -1

T = TypeVar("T", bound=np.generic)


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
        self._embedded: NDArray[np.bool_] = np.zeros(ROOM, dtype=np.bool_)
        self._placed: NDArray[np.bool_] = np.zeros(ROOM, dtype=np.bool_)
        self._main = np.zeros((ROOM, dimensions), dtype=np.int16)
        self._sentences = Pool(dimensions, ROOM)
        self._sentences_of = np.full((ROOM, len(SENTENCES)), _NONE, dtype=np.int32)
        self._servers = Shared(dimensions)
        self._server_of = np.full(ROOM, _NONE, dtype=np.int32)
        self._count = 0
        self._extent = 0
        self._coarse: Coarse | None = None
        self._rebuilding: Rebuilding | None = None
        self._puts = 0
        self._sought_at = 0

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"Dense({len(self)} rows, {len(self._sentences)} sentences, {len(self._servers)} servers)"

    @property
    def approximate(self) -> bool:
        """Whether wide views are searched by a shortlist."""
        return self._coarse is not None

    # ---- changes ---------------------------------------------------------------------------------

    def put(self, row: int, part: Part, vector: Floats) -> None:
        """A unit vector of one text of the document; a part that is there already is replaced.

        Raises `ValueError` where NAMED, which every other part builds on, is missing, and for what is no unit vector.
        """
        self._reserve(row + 1)
        self._extent = max(self._extent, row + 1)
        if part is Part.NAMED:
            self._set_main(row, np.float32(WHOLE_WEIGHT) * vector)
            self._count += int(not self._embedded[row])
            self._embedded[row], self._placed[row] = True, False
            self._tend()
            return
        if not self._embedded[row]:
            raise ValueError(f"row {row} has no vector of its name and description, which comes first")
        if part is Part.PLACED:
            if self._placed[row]:
                raise ValueError(f"row {row} has its place already; put NAMED again first")
            named = floats(self._main[row]) / np.float32(WHOLE_WEIGHT)
            self._set_main(row, NAMED_WEIGHT * named + PLACED_WEIGHT * vector)
            self._placed[row] = True
            self._tend()
            return
        sentence = SENTENCES.index(part)
        held = int(self._sentences_of[row, sentence])
        if held != _NONE:
            self._sentences.give_back(held)
        self._sentences_of[row, sentence] = self._sentences.take(vector)

    def serve(self, row: int, digest: str, vector: Floats) -> None:
        """The document's server; equal text digests share one vector, the first that came."""
        self._reserve(row + 1)
        self._extent = max(self._extent, row + 1)
        before, self._server_of[row] = int(self._server_of[row]), self._servers.take(digest, vector)
        if before != _NONE:
            self._servers.give_back(before)

    def remove(self, row: int) -> None:
        """Every vector of the row; one that has none is no error."""
        self._reserve(row + 1)
        self._main[row] = 0
        self._count -= int(self._embedded[row])
        self._embedded[row] = self._placed[row] = False
        for held in self._sentences_of[row]:
            if held != _NONE:
                self._sentences.give_back(int(held))
        self._sentences_of[row] = _NONE
        if self._server_of[row] != _NONE:
            self._servers.give_back(int(self._server_of[row]))
            self._server_of[row] = _NONE

    def _set_main(self, row: int, vector: Floats) -> None:
        self._main[row] = fixed(vector)
        if self._coarse is not None:
            self._coarse.put(slice(row, row + 1), self._main[row : row + 1])
        if self._rebuilding is not None:
            self._rebuilding.changed.add(row)

    def _reserve(self, size: int) -> None:
        if size > len(self._embedded):
            self._embedded = grown(self._embedded, size)
            self._placed = grown(self._placed, size)
            self._main = grown(self._main, size)
            self._sentences_of = grown(self._sentences_of, size, _NONE)
            self._server_of = grown(self._server_of, size, _NONE)

    # ---- kept over restarts ----------------------------------------------------------------------

    def state(self) -> dict[str, NDArray[Any] | bytes]:
        """Some are live and change with what is here."""
        parts: dict[str, NDArray[Any] | bytes] = {
            "made_by": self._made_by(),
            "main": self._main[: self._extent],
            "embedded": self._embedded[: self._extent],
            "placed": self._placed[: self._extent],
            "sentences": self._sentences.matrix[: self._sentences.used],
            "sentences_of": self._sentences_of[: self._extent],
            "servers": self._servers.pool.matrix[: self._servers.pool.used],
            "server_of": self._server_of[: self._extent],
            "digests": "\n".join(self._servers.digests.get(r, "") for r in range(self._servers.pool.used)).encode(),
        }
        if self._coarse is not None:
            basis = self._coarse.basis
            parts |= {"centre": basis.centre, "covariance": basis.covariance, "directions": basis.directions}
        return parts

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """What `state` gave (bytes as arrays of uint8), in place of what is here. Raises
        `ValueError`, `KeyError` for what does not fit together or was mixed otherwise; then nothing has changed."""
        fresh = Dense(self.dimensions)
        size = fresh._extent = len(state["embedded"])
        fresh._reserve(size)
        if state["made_by"].tobytes() != self._made_by():
            raise ValueError("its vectors were mixed in another way")
        fresh._main[:size] = _shaped(state["main"], np.int16, size, self.dimensions)
        fresh._embedded[:size] = _shaped(state["embedded"], np.bool_, size)
        fresh._placed[:size] = _shaped(state["placed"], np.bool_, size)
        fresh._sentences_of[:size] = _shaped(state["sentences_of"], np.int32, size, len(SENTENCES))
        fresh._server_of[:size] = _shaped(state["server_of"], np.int32, size)
        taken = fresh._sentences_of[fresh._sentences_of != _NONE]
        if len(np.unique(taken)) != len(taken):
            raise ValueError("its sentences belong to several documents")
        fresh._sentences.restore(state["sentences"], taken)
        digests = state["digests"].tobytes().decode().split("\n") if len(state["servers"]) else []
        fresh._servers.restore(state["servers"], digests, fresh._server_of[fresh._server_of != _NONE])
        fresh._count = int(np.count_nonzero(fresh._embedded))
        if "centre" in state:
            shapes = {"centre": (), "covariance": (self.dimensions,), "directions": (state["directions"].shape[-1],)}
            basis = Basis(*(_shaped(state[n], np.float32, self.dimensions, *s) for n, s in shapes.items()))
            fresh._coarse = Coarse(basis, fresh._count, ROOM)
            for _ in fresh._coarse.put_all(fresh._main[:size]):
                pass
        self.__dict__.update(fresh.__dict__)

    def _made_by(self) -> bytes:
        return repr((FORMAT, self.dimensions, NAMED_WEIGHT, PLACED_WEIGHT, [p.name for p in Part])).encode()

    # ---- the quick look --------------------------------------------------------------------------

    def _tend(self) -> None:
        """Directions are sought anew after half as many puts as they were made of, a slice for every 64 puts."""
        self._puts += 1
        if self._puts % PUTS_A_SLICE:
            return
        if self._rebuilding is None and self._count > EXACT_MAX:
            if self._coarse is not None and self._puts - self._sought_at < self._coarse.of // 2:
                return
            self._sought_at = self._puts
            rows = np.flatnonzero(self._embedded)
            self._rebuilding = Rebuilding(self._main[: self._extent], rows, len(self._main))
        if self._rebuilding is not None and (coarse := self._rebuilding.advance(self._main)):
            self._coarse, self._rebuilding = coarse, None

    # ---- search ----------------------------------------------------------------------------------

    def candidates(self, queries: Floats, view: View, count: int) -> Candidates:
        """At most `count` visible rows for each query, the nearest by the whole document."""
        rows = self._known_of(view)
        if not len(rows):
            nothing = np.zeros(len(queries), dtype=np.float32)
            return Candidates([rows] * len(queries), nothing, nothing)
        if self._coarse is None or len(rows) <= EXACT_MAX:
            similar = products(queries, self._main, rows)
            nearest = [rows[_highest(s, count)] for s in similar]
            mean, variance = _moments(similar)
        else:
            similar = self._coarse.similar(queries, rows)
            shortlists = (rows[_highest(s, max(SHORTLIST, 3 * count))] for s in similar)
            nearest = [self._nearest(q, rows, count) for q, rows in zip(queries, shortlists, strict=True)]
            mean, variance = _moments(similar)
            variance += self._coarse.basis.missed(queries)
        whole = np.float32(WHOLE_WEIGHT)
        spread = np.asarray(np.sqrt(variance), dtype=np.float32)
        return Candidates(nearest, mean / whole, spread / whole)

    def _known_of(self, view: View) -> Rows:
        """The visible rows that are embedded, in order."""
        if view.everything and len(self) == view.count:
            return view.indices
        known = self.known(view.indices)
        return view.indices if known.all() else view.indices[known]

    def _nearest(self, query: Floats, rows: Rows, count: int) -> Rows:
        return rows[_highest(products(query[None], self._main, rows)[0], count)]

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
            out[:, told] = products(queries, self._servers.pool.matrix, servers)[:, at]
        return out

    def known(self, rows: Rows) -> NDArray[np.bool_]:
        """Which of these rows are embedded."""
        self._reserve(int(rows.max(initial=-1)) + 1)
        return self._embedded[rows]


def _shaped(values: NDArray[Any], dtype: type[T], *shape: int) -> NDArray[T]:
    if values.dtype != dtype or values.shape != shape:
        raise ValueError(f"an array of shape {values.shape} stands where {shape} was written")
    return values


def _moments(values: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of each row of (q, n), read once each."""
    count = np.float32(values.shape[1])
    mean = values.sum(axis=1) / count
    squares = np.array([np.dot(row, row) for row in values], dtype=np.float32) / count
    return mean, np.maximum(squares - mean * mean, 0)


def _highest(values: Floats, count: int) -> NDArray[np.int64]:
    """Positions of the `count` highest of (n,), in no order."""
    if count >= len(values):
        return np.arange(len(values))
    if count * SAMPLED < len(values):
        # Most can be left out by what a part of them shows, before they are put in order: half the time.
        sample = values[::SAMPLED]
        at = len(sample) - min(len(sample), count * 3 // (2 * SAMPLED) + SAMPLED)
        high = np.flatnonzero(values >= np.partition(sample, at)[at])
        if len(high) >= count:
            return high[np.argpartition(values[high], len(high) - count)[len(high) - count :]]
    return np.argpartition(values, -count)[-count:]
