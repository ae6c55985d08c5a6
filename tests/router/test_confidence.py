from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from router import confidence, rank

MODELS = (confidence.STOCK, f"{confidence.STOCK}+tools-1.0a1b2c3d+int8.1", "another/model@7")


def likely(*, model: str = confidence.STOCK, **values: Any) -> float:
    usual: dict[str, Any] = {"cosine": 0.4, "coverage": 0.4, "lead": 1.0, "agreement": 0.5}
    return confidence.likelihood(confidence.Signals(**usual | values), model)


@pytest.mark.parametrize("model", MODELS)
def test_likelihood_rises_with_signals_and_falls_with_none(model: str) -> None:
    better = [likely(model=model, **{name: 2.0}) for name in ("coverage", "lead", "agreement")]
    assert max(better) > min(better) >= likely(model=model)


def test_a_cosine_counts_for_models_that_are_known() -> None:
    for model in MODELS[:2]:
        assert likely(model=model, cosine=0.7) > 0.5 > likely(model=model, cosine=0.1)
    assert likely(model=MODELS[2], cosine=0.7) == likely(model=MODELS[2], cosine=0.1)


def test_rounding_is_no_other_model_and_an_unknown_adapter_is() -> None:
    assert likely(model=f"{confidence.STOCK}+int8.1") == likely()
    assert likely(model=f"{confidence.STOCK}+mine.0a1b2c3d") == likely(model=MODELS[2])
    assert likely(model=MODELS[1]) not in (likely(), likely(model=MODELS[2]))


def test_by_words_alone_it_is_the_share_of_them_that_counts() -> None:
    assert likely(cosine=None, coverage=1.0) > 0.5 > likely(cosine=None, coverage=0.1)


def test_a_tool_that_is_named_is_meant() -> None:
    assert likely(cosine=-0.2, coverage=0.0, lead=0.0, named=True) == 1.0


def test_what_is_observed_is_that_of_the_best_hit() -> None:
    words = rank.arm(np.array([[0, 3, 1, 0] + [0] * 8], dtype=np.float32))
    meaning = rank.arm(np.array([[0.1, 0.2, 0.6, 0] + [0] * 8], dtype=np.float32))
    final = np.array([0, 1, 2, 0] + [0] * 8, dtype=np.float32)
    seen = confidence.observe(
        words, meaning, final, np.ones(12, np.bool_), coverage=0.5, count=12, query="read a file", named=False
    )
    assert seen.cosine == pytest.approx(0.6)
    # First by meaning, second by words.
    assert seen.agreement == pytest.approx(0.75)
    assert seen.asked == 2.0
    assert seen.outlying > 3
    few = confidence.observe(
        words, meaning, final, np.ones(12, np.bool_), coverage=0.5, count=3, query="read a file", named=False
    )
    assert few.outlying == confidence.OUTLYING_USUAL
    assert (seen.few, few.few) == (0.0, 1.0)


def test_a_near_hit_among_a_few_tools_is_no_low_one_for_their_being_few() -> None:
    usual = {"lead": confidence.LEAD_USUAL, "outlying": confidence.OUTLYING_USUAL, "agreement": 1.0}
    assert likely(model=MODELS[1], cosine=0.35, few=1.0, **usual) >= confidence.MEDIUM
    assert likely(model=MODELS[1], cosine=0.35, **usual) < confidence.MEDIUM
    assert likely(model=MODELS[1], cosine=0.02, few=1.0, **usual) < confidence.LOW


def test_a_hit_without_a_vector_is_judged_by_its_words() -> None:
    words = rank.arm(np.array([[0, 3]], dtype=np.float32))
    meaning = rank.arm(np.array([[0.1, 0.0]], dtype=np.float32))
    embedded = np.array([True, False])
    seen = confidence.observe(words, meaning, words.scores[0], embedded, coverage=1, count=2, query="x", named=False)
    assert seen.cosine is None
    assert seen.agreement == 1.0


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
