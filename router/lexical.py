"""BM25F over the fields of a document (Robertson and Zaragoza 2009, §3.6), changed in place, scored with numpy.

What a word weighs in a document depends on that document alone: a field's length is measured against a usual length,
not against the mean of the collection. So the saturated weight is computed once, when the document comes; a search
adds up ready numbers, and no document changes what another scores. The rarity of a word is counted over what the
caller may see (`View`), so that nothing hidden has a say in it.

Postings are sorted by row in arrays that grow in place. A row that is removed leaves every one of its words at once
and may be used again at once: there are no tombstones, nothing to compact. At 100,000 documents of 40 words that is
about 32 MB of postings and 25 MB of words by row.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.documents import FIELDS
from router.masks import View
from router.tokens import TOKENS, words_and_wholes

WEIGHTS = {"name": 2.0, "description": 1.0, "server": 0.6, "server_description": 0.3, "parameters": 0.4}
# Words in a field of a tool that is described with some care. Round numbers, chosen with `B` on eight development sets
# and on one index of all of them, with the adapter: with half as many words, or at B = 0.75, what is described at
# length is found less (the mean falls by 0.2 to 0.6); with the means of each collection by 0.3, in one index by 0.9.
USUAL_LENGTHS = {"name": 3.0, "description": 25.0, "server": 2.0, "server_description": 20.0, "parameters": 25.0}
K1 = 1.2
B = 0.5
VIEWS_MAX = 64
ROW_MAX = 2**31 - 1
FORMAT = 1
"""Of what `state` gives."""

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Query:
    """The words of a query with how often each stands in it; those in no document included."""

    counts: dict[str, int]


class Posting(NamedTuple):
    """A word's number, the rows that have it, in order, and its weight in each of them."""

    number: int
    rows: array[int]
    weights: array[float]


class Lexical:
    """Rows are non-negative and chosen by the caller. Not thread-safe."""

    def __init__(self) -> None:
        self._postings: dict[str, Posting] = {}
        # By word number, "" where it is free.
        self._names: list[str] = []
        self._free: list[int] = []
        self._words_of: dict[int, array[int]] = {}
        self._highest = -1
        self._seen: OrderedDict[tuple[Hashable, int], dict[str, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._words_of)

    def __repr__(self) -> str:
        return f"Lexical({len(self)} documents, {len(self._postings)} words)"

    # ---- changes ---------------------------------------------------------------------------------

    def add(self, row: int, fields: Sequence[str]) -> None:
        """Searchable at once. `fields` in the order of `FIELDS`. Raises `ValueError` for a row that is taken."""
        if row in self._words_of or not 0 <= row <= ROW_MAX:
            raise ValueError(f"row {row} is taken or no row number; remove what it holds first")
        held = array("i")
        last = row > self._highest
        for word, weight in _weights(fields).items():
            number, rows, weights = self._postings.get(word) or self._new(word)
            held.append(number)
            if last:
                rows.append(row)
                weights.append(weight)
            else:
                at = bisect_left(rows, row)
                rows.insert(at, row)
                weights.insert(at, weight)
        self._words_of[row] = held
        self._highest = max(self._highest, row)

    def remove(self, row: int) -> None:
        """Gone at once; the row may be used again. Raises `KeyError` for a row that holds nothing."""
        for number in self._words_of.pop(row):
            _, rows, weights = self._postings[self._names[number]]
            at = bisect_left(rows, row)
            del rows[at]
            del weights[at]
            if not rows:
                del self._postings[self._names[number]]
                self._names[number] = ""
                self._free.append(number)

    def _new(self, word: str) -> Posting:
        if self._free:
            number = self._free.pop()
            self._names[number] = word
        else:
            number = len(self._names)
            self._names.append(word)
        posting = self._postings[word] = Posting(number, array("i"), array("f"))
        return posting

    # ---- kept over restarts ----------------------------------------------------------------------

    def state(self) -> dict[str, NDArray[Any] | bytes]:
        """Copies: later changes do not show in them."""
        postings = self._postings.values()
        return {
            "made_by": _MADE_BY,
            "words": "\n".join(self._postings).encode("utf-8"),
            "ends": np.cumsum([len(p.rows) for p in postings], dtype=np.int64),
            "rows": b"".join(p.rows for p in postings),
            "weights": b"".join(p.weights for p in postings),
            "documents": np.fromiter(self._words_of, dtype=np.int32, count=len(self._words_of)),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """What `state` gave (bytes as arrays of uint8), in place of what is here. Raises `ValueError`, `KeyError` for
        what does not fit together or was made with other weights; then nothing has changed."""
        if state["made_by"].tobytes() != _MADE_BY:
            raise ValueError("its words were weighed in another way")
        names = state["words"].tobytes().decode("utf-8").split("\n") if state["words"].size else []
        raw_rows, raw_weights = state["rows"].tobytes(), state["weights"].tobytes()
        rows, weights = np.frombuffer(raw_rows, np.int32), np.frombuffer(raw_weights, np.float32)
        ends, documents = state["ends"].astype(np.int64), state["documents"].astype(np.int64)
        fresh = Lexical()
        fresh._names = names
        fresh._words_of = {row: array("i") for row in documents.tolist()}
        _check(len(set(names)), len(fresh._words_of), rows, weights, ends, documents)
        starts = [0, *ends.tolist()]
        for number, (name, start, end) in enumerate(zip(names, starts, starts[1:], strict=False)):
            held = slice(4 * start, 4 * end)
            fresh._postings[name] = Posting(number, array("i", raw_rows[held]), array("f", raw_weights[held]))
        # The other way round: the words of each row.
        order = np.argsort(rows, kind="stable")
        words_of = np.repeat(np.arange(len(names), dtype=np.int32), np.diff(starts))[order].tobytes()
        holding, counts = np.unique(rows, return_counts=True)
        lasts = np.cumsum(counts).tolist()
        for row, count, last in zip(holding.tolist(), counts.tolist(), lasts, strict=True):
            fresh._words_of[row] = array("i", words_of[4 * (last - count) : 4 * last])
        fresh._highest = max(holding.tolist(), default=-1)
        self.__dict__.update(fresh.__dict__)

    # ---- search ----------------------------------------------------------------------------------

    def query(self, text: str) -> Query:
        return Query(dict(Counter(words_and_wholes(text))))

    def scores(self, queries: Sequence[Query], view: View) -> Scores:
        """BM25F, float32, shape (queries, len(view.rows)); zero for rows not in view and where no word occurs."""
        out = np.zeros((len(queries), len(view.rows)), dtype=np.float32)
        for scores, query in zip(out, queries, strict=True):
            for word, times in query.counts.items():
                posting = self._postings.get(word)
                if posting is not None:
                    weight = np.float32(times * self.rarity(word, view))
                    # The views of the arrays live for this line only: an array that is looked at cannot grow.
                    np.add.at(scores, _array(posting.rows), weight * _array(posting.weights))
        if not view.everything:
            out *= view.rows
        return out

    def rarity(self, word: str, view: View) -> float:
        """Inverse document frequency among what is visible; always positive. A word that occurs nowhere weighs as
        much as one in a single document."""
        n = max(1, self._occurs(word, view))
        return math.log(1 + (max(view.count, n) - n + 0.5) / (n + 0.5))

    def coverage(self, query: Query, row: int, view: View) -> float:
        """Which share of the query's weight (by rarity) the document's words cover: 0 to 1."""
        weights = {word: self.rarity(word, view) for word in query.counts}
        total = sum(weights.values())
        held = self._words_of.get(row, ())
        met = sum(w for word, w in weights.items() if (p := self._postings.get(word)) and p.number in held)
        return met / total if total else 0.0

    def _occurs(self, word: str, view: View) -> int:
        """In how many visible documents. Counted once a word and version of a view; the last 64 views are kept."""
        posting = self._postings.get(word)
        if posting is None:
            return 0
        if view.everything:
            return len(posting.rows)
        seen = self._seen.get((view.key, view.version))
        if seen is None:
            seen = self._seen[view.key, view.version] = {}
            while len(self._seen) > VIEWS_MAX:
                self._seen.popitem(last=False)
        else:
            self._seen.move_to_end((view.key, view.version))
        if word not in seen:
            seen[word] = int(np.count_nonzero(view.rows[_array(posting.rows)]))
        return seen[word]


def _check(
    words: int, count: int, rows: NDArray[np.int32], weights: Scores, ends: NDArray[np.int64], documents: NDArray[Any]
) -> None:
    lengths = np.diff(ends, prepend=0)
    # Rows rise within a word, and may fall where the next one begins.
    falls = np.flatnonzero(np.diff(rows) <= 0) + 1
    if not (
        len(ends) == words
        and count == len(documents)
        and len(rows) == len(weights) == (ends[-1] if words else 0)
        and (lengths > 0).all()
        and np.isin(falls, ends).all()
        and np.isin(rows, documents).all()
        and (documents >= 0).all()
        and ((weights > 0) & (weights <= K1 + 1)).all()
    ):
        raise ValueError("its words, rows and weights do not fit together")


_MADE_BY = repr((FORMAT, TOKENS, FIELDS, sorted(WEIGHTS.items()), sorted(USUAL_LENGTHS.items()), K1, B)).encode()
_FACTORS = [WEIGHTS[f] for f in FIELDS]
_LENGTHS = [USUAL_LENGTHS[f] for f in FIELDS]


def _weights(fields: Sequence[str]) -> dict[str, float]:
    """What each word weighs in a document, between 0 and K1 + 1."""
    counted: dict[str, float] = {}
    for text, factor, usual in zip(fields, _FACTORS, _LENGTHS, strict=True):
        found = words_and_wholes(text)
        each = factor / (1 - B + B * len(found) / usual)
        for word in found:
            counted[word] = counted.get(word, 0.0) + each
    return {word: (K1 + 1) * c / (K1 + c) for word, c in counted.items()}


def _array(values: array[int] | array[float]) -> NDArray[np.int32]:
    return np.frombuffer(values, dtype=values.typecode)
