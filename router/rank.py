"""How hits are ordered and how sure the answer is: pure functions over numpy arrays, no index, no model."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from router.documents import HUMPS

Scores = NDArray[np.float32]

LEXICAL_WEIGHT = 0.3
DENSE_WEIGHT = 0.7
SERVER_WEIGHT = 0.1
CLAUSE_WEIGHT = 0.3
# About a third of what cosines to a query spread over in any real collection.
COSINE_SPREAD_MIN = 0.03
NAME_BONUS_WHOLE = 10.0
NAME_BONUS_WITHIN = 3.0

CLAUSES_MAX = 6
CLAUSE_WORDS_MIN = 3
SPLIT_FROM_WORDS = 10

_CLAUSE_END = re.compile(
    r"(?<=[.!?;])\s+|(?<=[。！？；])|\n+|,?\s+(?:and then|then|and also|after that|afterwards|as well as|finally)\s+"
    r"|,\s+(?:and|but|so|also|plus)\s+|\s+and\s+(?=\w+\s+\w+\s+\w+)",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[\w./:-]+")
_PARTS = re.compile(r"__|[./:]+")
_NOT_ALNUM = re.compile(r"[\W_]+")


def standard(values: Scores, known: NDArray[np.bool_] | None = None, *, spread_min: float = 1e-6) -> Scores:
    """z-scores of the last axis, over the known entries only; zero for the others and where nothing varies.

    A spread below `spread_min` is taken for that: among a few tools that are all alike, dividing by less would blow
    noise up until it outweighs everything else.
    """
    if known is not None and not known.all():
        out = np.zeros(values.shape, dtype=np.float32)
        if known.any():
            out[..., known] = standard(values[..., known], spread_min=spread_min)
        return out
    if not values.shape[-1]:
        return values
    centred: Scores = values - values.mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.maximum(centred.std(axis=-1, keepdims=True), np.float32(spread_min)))


def fuse(lexical: Scores, dense: Scores | None, embedded: NDArray[np.bool_], server: Scores | None) -> Scores:
    """One score for each document, each argument of shape (queries, documents).

    A document without a vector yet stands by its words alone, at full weight. `server` is NaN where unknown.
    """
    words = standard(lexical)
    if dense is None:
        return words
    fused = LEXICAL_WEIGHT * words + DENSE_WEIGHT * np.where(
        embedded, standard(dense, embedded, spread_min=COSINE_SPREAD_MIN), words
    )
    if server is not None:
        told = ~np.isnan(server[0])
        fused = fused + SERVER_WEIGHT * standard(np.nan_to_num(server), told, spread_min=COSINE_SPREAD_MIN)
    return fused.astype(np.float32)


def with_clauses(fused: Scores) -> Scores:
    """Row 0 is the whole task, the rest its clauses: the whole, and a part of the best clause."""
    if len(fused) == 1:
        return np.asarray(fused[0])
    return np.asarray(fused[0] + np.float32(CLAUSE_WEIGHT) * fused[1:].max(axis=0))


def clauses(text: str) -> tuple[str, ...]:
    """The steps of a long task, at most six; empty for a short one or one that does not come apart."""
    if len(text.split()) < SPLIT_FROM_WORDS and not re.search(r"[。！？；]", text):
        return ()
    parts = [p.strip(" ,;") for p in _CLAUSE_END.split(text)]
    # Pieces too short to mean anything alone join what precedes them.
    joined: list[str] = []
    for part in filter(None, parts):
        if joined and (_short(part) or _short(joined[-1])):
            joined[-1] = f"{joined[-1]} {part}"
        else:
            joined.append(part)
    return tuple(joined[:CLAUSES_MAX]) if len(joined) > 1 else ()


def _short(part: str) -> bool:
    return part.isascii() and len(part.split()) < CLAUSE_WORDS_MIN


def squash(name: str) -> str:
    """A name without case and separators: `getTime`, `get_time` and `Get Time` are one."""
    return _NOT_ALNUM.sub("", name).casefold()


def identifiers(text: str) -> Iterator[tuple[str, float]]:
    """(squashed name, bonus): the whole text as a name, and each word in it that is spelled like an identifier."""
    if whole := squash(text):
        yield whole, NAME_BONUS_WHOLE
    for token in _TOKEN.findall(text):
        for part in _PARTS.split(token):
            if "_" in part.strip("_") or "-" in part.strip("-") or HUMPS.search(part):
                yield squash(part), NAME_BONUS_WITHIN


class TieOrder(Protocol):
    """What breaks ties, by position: comparable values."""

    def __getitem__(self, position: int, /) -> Any: ...


def best(scores: Scores, count: int, order: TieOrder) -> list[int]:
    """Positions of the highest scores, best first; equal scores in the order of `order`, whatever came first."""
    if count >= len(scores):
        chosen = list(range(len(scores)))
    else:
        # Everything level with the last place is kept, so that a tie there is broken by `order` too.
        last = np.partition(scores, len(scores) - count)[len(scores) - count]
        chosen = np.flatnonzero(scores >= last).tolist()
    return sorted(chosen, key=lambda i: (-float(scores[i]), order[i]))[:count]


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of the best hit: cosine to the query (None: no vectors), share of the query's words met (0 to 1),
    its lead in z-scores over the tenth hit, and whether the query names it."""

    cosine: float | None
    coverage: float
    lead: float
    named: bool = False


# Constant, cosine, coverage, lead: logistic regression over eight public sets, each weighed alike, on whether the
# first hit is right; each query asked as it is, with its right tools taken away, and of a foreign set.
_HYBRID = (-4.0, 3.7, 1.3, 0.4)
_LEXICAL = (-3.0, 0.0, 2.4, 0.23)
# Of the first hits that are right, 53 % get `high`, 77 % at least `medium`, 94 % at least `low`; of queries whose
# right tools were taken away 13, 31 and 67 %, of queries foreign to the collection 6, 17 and 48 %.
HIGH, MEDIUM, LOW = 0.5, 0.3, 0.15


LEAD_OVER = 10
LEAD_USUAL = 2.5


def lead(ranked: Scores) -> float:
    """How far the first of `ranked` (best first) is ahead of the tenth, in z-scores.

    Among fewer than ten there is no crowd to be ahead of: a usual lead stands in, or the label of a right hit would
    fall for no better reason than that the node has few tools.
    """
    if len(ranked) < LEAD_OVER:
        return max(LEAD_USUAL, float(ranked[0] - ranked[-1]))
    return float(ranked[0] - ranked[LEAD_OVER - 1])


def likelihood(signals: Signals) -> float:
    """How likely the best hit is right, 0 to 1."""
    if signals.named:
        return 1.0
    weights = _LEXICAL if signals.cosine is None else _HYBRID
    values = (1.0, signals.cosine or 0.0, signals.coverage, signals.lead)
    return 1 / (1 + math.exp(-sum(w * v for w, v in zip(weights, values, strict=True))))


def shown_score(likely: float, behind: float) -> float:
    """A hit's score, 0 to 1: how likely the first hit is right, halved for each z-score that this one lies behind."""
    return round(likely * math.pow(0.5, behind), 4)


def confidence(likely: float) -> str:
    """`high`, `medium`, `low`, or `none`: nothing seems to fit (the nearest are shown all the same)."""
    return "high" if likely >= HIGH else "medium" if likely >= MEDIUM else "low" if likely >= LOW else "none"
