from __future__ import annotations

import numpy as np
import pytest

from router import confidence


def test_likelihood_rises_with_each_signal() -> None:
    base = confidence.Signals(0.4, 0.4, 1.0)
    for better in (
        confidence.Signals(0.6, 0.4, 1.0),
        confidence.Signals(0.4, 0.8, 1.0),
        confidence.Signals(0.4, 0.4, 3.0),
    ):
        assert confidence.likelihood(better) > confidence.likelihood(base)
    assert confidence.likelihood(confidence.Signals(None, 1.0, 2)) > confidence.likelihood(
        confidence.Signals(None, 0.1, 2)
    )
    assert confidence.likelihood(confidence.Signals(-0.2, 0.0, 0.0, named=True)) == 1.0


def test_a_shown_score_halves_with_each_z_score_behind_the_first() -> None:
    assert [confidence.shown_score(0.8, behind) for behind in (0.0, 1.0, 2.0, 40.0)] == [0.8, 0.4, 0.2, 0.0]


@pytest.mark.parametrize(
    ("likely", "label"),
    [(1.0, "high"), (confidence.HIGH, "high"), (confidence.MEDIUM, "medium"), (confidence.LOW, "low"), (0.0, "none")],
)
def test_confidence_has_four_labels(likely: float, label: str) -> None:
    assert confidence.label(likely) == label


def test_the_lead_is_over_the_tenth_and_a_usual_one_among_fewer() -> None:
    crowd = np.linspace(0, 5, 11, dtype=np.float32)
    assert confidence.lead(crowd) == pytest.approx(4.5)
    assert confidence.lead(crowd[:9]) == pytest.approx(4.0)
    assert confidence.lead(np.array([1.0, 0.9], dtype=np.float32)) == confidence.LEAD_USUAL
    assert confidence.lead(np.array([0.0], dtype=np.float32)) == confidence.LEAD_USUAL
