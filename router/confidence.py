"""How sure an answer is: from what is known of the best hit to a likelihood, and from that to a label."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from router.rank import Arm, Fused, Known, Scores


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


def observe(
    words: Arm,  # noqa: ARG001
    meaning: Arm | None,
    fused: Fused,  # noqa: ARG001
    final: Scores,
    embedded: Known,
    *,
    coverage: float,
    count: int,  # noqa: ARG001
    query: str,  # noqa: ARG001
    named: bool,
) -> Signals:
    """`final` (n,) is what hits are ranked by, `coverage` the best hit's for the whole task, `count` how many
    documents the caller may see. At least one candidate."""
    top = int(final.argmax())
    cosine = float(meaning.scores[0, top]) if meaning is not None and embedded[top] else None
    return Signals(cosine=cosine, coverage=coverage, lead=lead(final), named=named)


def lead(scores: Scores) -> float:
    """How far the best of `scores` (n,) is ahead of the tenth, in z-scores.

    Among fewer than ten there is no crowd to be ahead of: a usual lead stands in, or the label of a right hit would
    fall for no better reason than that the node has few tools.
    """
    if len(scores) < LEAD_OVER:
        return max(LEAD_USUAL, float(scores.max() - scores.min()))
    tenth = np.partition(scores, len(scores) - LEAD_OVER)[len(scores) - LEAD_OVER]
    return float(scores.max() - tenth)


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


def label(likely: float) -> str:
    """`high`, `medium`, `low`, or `none`: nothing seems to fit (the nearest are shown all the same)."""
    return "high" if likely >= HIGH else "medium" if likely >= MEDIUM else "low" if likely >= LOW else "none"
