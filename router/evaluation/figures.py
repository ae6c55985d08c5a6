"""What an evaluation found: dataclasses of plain numbers, and their means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from router.evaluation import metrics
from router.evaluation.metrics import Scores


@dataclass(frozen=True, slots=True)
class Labels:
    """Of `count` answers, the share (0 to 1) labelled *none*, and that labelled *none* or *low*."""

    count: int
    none: float
    doubted: float

    @classmethod
    def of(cls, labels: Sequence[str]) -> Labels | None:
        """None where there were no answers to label."""
        if not labels:
            return None
        none = labels.count("none")
        return cls(len(labels), none / len(labels), (none + labels.count("low")) / len(labels))


@dataclass(frozen=True, slots=True)
class Honesty:
    """`answerable`: queries that something answers; `right_first`: those of them whose first hit was right.

    Unanswerable are: `taken_away`, the same with their right tools hidden; `foreign`, queries of sets with other
    tools; `declared`, those for which the set itself names no relevant tool.
    """

    answerable: Labels | None
    right_first: Labels | None
    taken_away: Labels | None
    foreign: Labels | None
    declared: Labels | None


@dataclass(frozen=True, slots=True)
class Measured:
    """One retriever on one set. `tokens`: mean of an answer of five, 0 where the retriever writes none."""

    scores: Scores
    p50_ms: float
    p95_ms: float
    tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class SetFigures:
    """`queries` counts the answerable ones that were asked, `tools` those that were searched."""

    name: str
    queries: int
    tools: int
    retrievers: dict[str, Measured]
    honesty: Honesty | None = None


@dataclass(frozen=True, slots=True)
class Report:
    sets: tuple[SetFigures, ...]
    embedder: str
    plain_embedder: str
    crowd: bool
    took_s: float
    remarks: tuple[str, ...] = ()
    mean: dict[str, Measured] = field(default_factory=dict)
    """Over the sets, each weighed alike."""
    honesty: Honesty | None = None
    """Likewise."""


def means(sets: Sequence[SetFigures]) -> dict[str, Measured]:
    """By retriever; times are the means of the sets' percentiles."""
    found = {}
    for name in sets[0].retrievers:
        each = [s.retrievers[name] for s in sets]
        found[name] = Measured(
            metrics.mean(m.scores for m in each),
            _mean([m.p50_ms for m in each]),
            _mean([m.p95_ms for m in each]),
            _mean([m.tokens for m in each]),
        )
    return found


def mean_honesty(sets: Sequence[SetFigures]) -> Honesty | None:
    """Of the sets that have such queries at all; None where the router was not asked."""
    each = [s.honesty for s in sets if s.honesty]
    if not each:
        return None
    return Honesty(
        answerable=_mean_labels([h.answerable for h in each]),
        right_first=_mean_labels([h.right_first for h in each]),
        taken_away=_mean_labels([h.taken_away for h in each]),
        foreign=_mean_labels([h.foreign for h in each]),
        declared=_mean_labels([h.declared for h in each]),
    )


def as_json(report: Report) -> dict[str, Any]:
    """Shares as they are, 0 to 1; every number rounded to five places."""
    rounded: dict[str, Any] = _rounded(asdict(report))
    return rounded


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _mean_labels(labels: Sequence[Labels | None]) -> Labels | None:
    known = [one for one in labels if one]
    if not known:
        return None
    return Labels(sum(k.count for k in known), _mean([k.none for k in known]), _mean([k.doubted for k in known]))


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 5)
        case dict():
            return {name: _rounded(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_rounded(inner) for inner in value]
    return value
