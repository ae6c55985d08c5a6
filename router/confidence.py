"""How sure an answer is: from what is known of the best hit to a likelihood, and from that to a label.

The weights are fitted by `python -m bench.calibrate --data DIR`: logistic regression on whether the first hit is right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from router.rank import COSINE_SPREAD_MIN, Arm, Known, Scores

LEAD_OVER = 10
LEAD_USUAL = 2.5
OUTLYING_USUAL = 3.0
OUTLYING_MAX = 8.0


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of the best hit.

    `cosine` to the task (None: no vectors), `coverage` the share of the task's words met (0 to 1), `lead` in z-scores
    over the tenth hit, `outlying` how many spreads its cosine is above the mean of all, `agreement` of the two arms on
    it (1: first in both), `asked` the number of the task's words, as a logarithm, `few` 1 where the caller sees fewer
    tools than would make a crowd: `lead` and `outlying` are only usual ones then. `named`: the task names it.
    """

    cosine: float | None
    coverage: float
    lead: float
    outlying: float = 0.0
    agreement: float = 0.0
    asked: float = 0.0
    few: float = 0.0
    named: bool = False


def observe(
    words: Arm,
    meaning: Arm | None,
    final: Scores,
    embedded: Known,
    *,
    coverage: float,
    count: int,
    query: str,
    named: bool,
) -> Signals:
    """`final` (n,) is what hits are ranked by, `coverage` the best hit's for the whole task, `count` how many
    documents the caller may see. At least one candidate."""
    top = int(final.argmax())
    cosine, outlying, agreement = None, 0.0, _first(words.scores[0], top)
    if meaning is not None and embedded[top]:
        cosine = float(meaning.scores[0, top])
        above = (cosine - float(meaning.mean[0])) / max(float(meaning.spread[0]), COSINE_SPREAD_MIN)
        outlying = min(above, OUTLYING_MAX) if count >= LEAD_OVER else OUTLYING_USUAL
        agreement = (agreement + _first(meaning.scores[0], top)) / 2
    return Signals(
        cosine=cosine,
        coverage=coverage,
        lead=lead(final),
        outlying=outlying,
        agreement=agreement,
        asked=math.log2(1 + len(query.split())),
        few=float(count < LEAD_OVER),
        named=named,
    )


def lead(scores: Scores) -> float:
    """How far the best of `scores` (n,) is ahead of the tenth, in z-scores.

    Among fewer than ten there is no crowd to be ahead of: a usual lead stands in, or the label of a right hit would
    fall for no better reason than that the node has few tools.
    """
    if len(scores) < LEAD_OVER:
        return max(LEAD_USUAL, float(scores.max() - scores.min()))
    tenth = np.partition(scores, len(scores) - LEAD_OVER)[len(scores) - LEAD_OVER]
    return float(scores.max() - tenth)


def _first(scores: Scores, position: int) -> float:
    """1 where nothing scores higher, 1/2 where one does, and so on; 0 where the arm does not have it at all."""
    return 1 / (1 + int(np.count_nonzero(scores > scores[position]))) if scores[position] > 0 else 0.0


# A cosine means something else to each model: those of one that is not known here are only compared with each other.
STOCK = "all-MiniLM-L6-v2@53aa51172d14"
ADAPTER = "tools-1."
ROUNDING = "int8."

# `bench.calibrate` on the development sets, six corpora for stock weights, five for the adapter as it ships, each
# weighed alike; shares are of each corpus under weights fitted to the others. Area under the curve 0.886 and 0.893
# (0.845 by the first three signals). With the adapter, of right first hits 65 % get `high`, 80 % at least `medium`,
# 94 % at least `low`; of queries whose right tools were taken away 13, 34 and 67 %, of foreign ones 4, 12 and 34 %, of
# those to a few other tools 5, 26 and 60 %. Where `low` and `medium` begin was chosen with an eye on the set of this
# repository, too.
BY_STOCK: Mapping[str, float] = {
    "constant": -4.8, "cosine": 8.9, "coverage": 0.6, "lead": 0.58, "outlying": -0.85, "agreement": 2.0
}  # fmt: skip
BY_ADAPTED: Mapping[str, float] = {
    "constant": -5.4, "cosine": 9.7, "lead": 0.5, "outlying": -0.65, "agreement": 1.1, "few": 1.5
}  # fmt: skip
BY_OTHERS: Mapping[str, float] = {
    "constant": -4.5, "coverage": 2.6, "lead": 0.48, "outlying": -0.35, "agreement": 3.4
}  # fmt: skip
BY_WORDS: Mapping[str, float] = {"constant": -5.4, "coverage": 6.0, "asked": 0.7}

HIGH, MEDIUM, LOW = 0.5, 0.25, 0.08


def likelihood(signals: Signals, model: str = "") -> float:
    """How likely the best hit is right, 0 to 1. `model` is the id of what the cosines come from."""
    if signals.named:
        return 1.0
    weights = BY_WORDS if signals.cosine is None else _by_meaning(model)
    sum_ = sum(w * (1.0 if name == "constant" else getattr(signals, name)) for name, w in weights.items())
    return 1 / (1 + math.exp(-sum_))


def _by_meaning(model: str) -> Mapping[str, float]:
    base, *more = model.split("+")
    # Rounding moves a cosine by less than a hundredth; an adapter moves all of them.
    made = [part for part in more if not part.startswith(ROUNDING)]
    if base != STOCK or len(made) > 1:
        return BY_OTHERS
    if not made:
        return BY_STOCK
    return BY_ADAPTED if made[0].startswith(ADAPTER) else BY_OTHERS


def shown_score(likely: float, behind: float) -> float:
    """A hit's score, 0 to 1: how likely the first hit is right, halved for each z-score that this one lies behind."""
    return round(likely * math.pow(0.5, behind), 4)


def label(likely: float) -> str:
    """`high`, `medium`, `low`, or `none`: nothing seems to fit (the nearest are shown all the same)."""
    return "high" if likely >= HIGH else "medium" if likely >= MEDIUM else "low" if likely >= LOW else "none"
