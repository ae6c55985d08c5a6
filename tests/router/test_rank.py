from __future__ import annotations

import numpy as np
import pytest

from router import rank


def row(*values: float) -> rank.Scores:
    return np.array([values], dtype=np.float32)


def test_z_scores_have_mean_zero_and_spread_one() -> None:
    np.testing.assert_allclose(rank.standard(row(1, 2, 3)), row(-1.2247449, 0, 1.2247449), rtol=1e-5)


def test_equal_values_standardise_to_zero() -> None:
    assert rank.standard(row(0.3, 0.3)).tolist() == [[0, 0]]
    assert rank.standard(row(5)).tolist() == [[0]]


def test_noise_among_like_values_is_not_blown_up() -> None:
    np.testing.assert_allclose(rank.standard(row(0.301, 0.299), spread_min=0.03), row(1 / 30, -1 / 30), rtol=1e-3)


def test_unknown_values_take_no_part_in_the_scale() -> None:
    known = np.array([True, True, False])
    assert rank.standard(row(1, 3, 1000), known).tolist() == [[-1, 1, 0]]


def test_fusion_weighs_words_and_meaning() -> None:
    fused = rank.fuse(row(0, 2), row(0.9, 0.1), np.array([True, True]), None)
    np.testing.assert_allclose(fused, row(-0.3 + 0.7, 0.3 - 0.7), rtol=1e-5)


def test_a_document_without_a_vector_stands_by_its_words() -> None:
    embedded = np.array([True, True, False])
    fused = rank.fuse(row(0, 1, 5), row(0.2, 0.4, -1), embedded, None)
    assert fused[0, 2] == pytest.approx(rank.standard(row(0, 1, 5))[0, 2], rel=1e-5)
    assert fused.argmax() == 2


def test_a_silent_server_is_neither_helped_nor_harmed() -> None:
    nan = float("nan")
    embedded = np.ones(3, dtype=np.bool_)
    fused = rank.fuse(row(0, 0, 0), row(0.5, 0.5, 0.5), embedded, row(0.8, 0.2, nan))
    np.testing.assert_allclose(fused, row(0.1, -0.1, 0), atol=1e-6)


def test_the_best_clause_adds_a_part_of_its_score() -> None:
    fused = np.array([[1, 0], [0, 2], [-1, 1]], dtype=np.float32)
    np.testing.assert_allclose(rank.with_clauses(fused), [1.0, 0.6], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("read a file", ()),
        (
            "Find the cheapest flight to Lisbon on Friday, then book a hotel near the beach",
            ("Find the cheapest flight to Lisbon on Friday", "book a hotel near the beach"),
        ),
        (
            "Get the weather in Berlin for tomorrow. Send it to my boss by mail.",
            ("Get the weather in Berlin for tomorrow.", "Send it to my boss by mail."),
        ),
        ("查询天气。发送邮件", ("查询天气。", "发送邮件")),
        ("what is the best way to get from the main station to the airport", ()),
    ],
)
def test_a_long_task_comes_apart_into_its_steps(text: str, expected: tuple[str, ...]) -> None:
    assert rank.clauses(text) == expected


def test_a_task_has_at_most_six_clauses() -> None:
    assert len(rank.clauses("Take the next step now. " * 50)) == rank.CLAUSES_MAX


def test_identifiers_are_names_and_what_is_spelled_like_one() -> None:
    found = dict(rank.identifiers("please run github__create_issue or getTime, not search"))
    assert found == {
        "pleaserungithubcreateissueorgettimenotsearch": rank.NAME_BONUS_WHOLE,
        "createissue": rank.NAME_BONUS_WITHIN,
        "gettime": rank.NAME_BONUS_WITHIN,
    }


def test_ties_go_by_order_and_not_by_position() -> None:
    scores = np.array([1, 2, 2, 2, 0], dtype=np.float32)
    assert rank.best(scores, 2, ["e", "d", "c", "b", "a"]) == [3, 2]
    assert rank.best(scores, 9, ["e", "d", "c", "b", "a"]) == [3, 2, 1, 0, 4]


def test_likelihood_rises_with_each_signal() -> None:
    base = rank.Signals(0.4, 0.4, 1.0)
    for better in (rank.Signals(0.6, 0.4, 1.0), rank.Signals(0.4, 0.8, 1.0), rank.Signals(0.4, 0.4, 3.0)):
        assert rank.likelihood(better) > rank.likelihood(base)
    assert rank.likelihood(rank.Signals(None, 1.0, 2)) > rank.likelihood(rank.Signals(None, 0.1, 2))
    assert rank.likelihood(rank.Signals(-0.2, 0.0, 0.0, named=True)) == 1.0


def test_a_shown_score_halves_with_each_z_score_behind_the_first() -> None:
    assert [rank.shown_score(0.8, behind) for behind in (0.0, 1.0, 2.0, 40.0)] == [0.8, 0.4, 0.2, 0.0]


@pytest.mark.parametrize(
    ("likely", "label"),
    [(1.0, "high"), (rank.HIGH, "high"), (rank.MEDIUM, "medium"), (rank.LOW, "low"), (0.0, "none")],
)
def test_confidence_has_four_labels(likely: float, label: str) -> None:
    assert rank.confidence(likely) == label


def test_the_lead_is_over_the_tenth_and_a_usual_one_among_fewer() -> None:
    crowd = np.linspace(5, 0, 11, dtype=np.float32)
    assert rank.lead(crowd) == pytest.approx(4.5)
    assert rank.lead(crowd[:9]) == pytest.approx(4.0)
    assert rank.lead(np.array([1.0, 0.9], dtype=np.float32)) == rank.LEAD_USUAL
    assert rank.lead(np.array([0.0], dtype=np.float32)) == rank.LEAD_USUAL
