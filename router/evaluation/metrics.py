"""How good a ranking is, as trec_eval counts it, with binary relevance. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import astuple, dataclass, fields

DEPTH = 10
"""How many places of a ranking are looked at."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Each 0 to 1. `recall_k`: relevant among the first k ÷ relevant; `mrr`: 1 ÷ place of the first relevant, 0 beyond
    ten; `complete_10`: 1 if all that is relevant stands in the first ten."""

    recall_1: float
    recall_5: float
    recall_10: float
    ndcg_10: float
    mrr: float
    complete_10: float


NAMES = tuple(f.name for f in fields(Scores))


def score(ranked: Sequence[str], relevant: AbstractSet[str]) -> Scores:
    """Of one ranking, best first, without repeats. `relevant` must not be empty: nothing could be found then."""
    if not relevant:
        raise ValueError("a query without relevant tools has no score")
    found = [name in relevant for name in ranked[:DEPTH]]
    return Scores(
        recall_1=sum(found[:1]) / len(relevant),
        recall_5=sum(found[:5]) / len(relevant),
        recall_10=sum(found) / len(relevant),
        ndcg_10=ndcg(ranked, relevant),
        mrr=next((1 / place for place, hit in enumerate(found, 1) if hit), 0.0),
        complete_10=float(sum(found) == len(relevant)),
    )


def ndcg(ranked: Sequence[str], relevant: AbstractSet[str], depth: int = DEPTH) -> float:
    """Discounted cumulative gain at `depth`, by that of the best ranking there could be (cut at `depth` too)."""
    gain = sum(1 / math.log2(place + 2) for place, name in enumerate(ranked[:depth]) if name in relevant)
    return gain / sum(1 / math.log2(place + 2) for place in range(min(len(relevant), depth)))


def mean(scores: Iterable[Scores]) -> Scores:
    """Unweighted. Raises `ValueError` for none at all."""
    rows = [astuple(s) for s in scores]
    if not rows:
        raise ValueError("no scores to take the mean of")
    return Scores(*(sum(column) / len(rows) for column in zip(*rows, strict=True)))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` (0 to 1) of them do not exceed; 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
