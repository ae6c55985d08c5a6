from __future__ import annotations

import numpy as np
import pytest

from router import rank


def row(*values: float) -> rank.Scores:
    return np.array([values], dtype=np.float32)


def of(values: rank.Scores, *, spread_min: float = 1e-6) -> rank.Scores:
    return rank.standard(*rank.arm(values), spread_min=spread_min)


def everything(count: int) -> rank.Known:
    return np.ones(count, dtype=np.bool_)


def test_z_scores_have_mean_zero_and_spread_one() -> None:
    np.testing.assert_allclose(of(row(1, 2, 3)), row(-1.2247449, 0, 1.2247449), rtol=1e-5)


def test_equal_values_standardise_to_zero() -> None:
    assert of(row(0.3, 0.3)).tolist() == [[0, 0]]
    assert of(row(5)).tolist() == [[0]]


def test_noise_among_like_values_is_not_blown_up() -> None:
    np.testing.assert_allclose(of(row(0.301, 0.299), spread_min=0.03), row(1 / 30, -1 / 30), rtol=1e-3)


def test_unknown_values_take_no_part_in_the_scale() -> None:
    known = np.array([True, True, False])
    assert rank.standard(*rank.arm(row(1, 3, 1000), known))[0, :2].tolist() == [-1, 1]
    nobody = rank.arm(row(1, 3, 1000), np.zeros(3, dtype=np.bool_))
    assert (nobody.mean.tolist(), nobody.spread.tolist()) == ([0], [0])


def test_the_spread_of_a_few_cosines_is_held_towards_a_usual_one() -> None:
    spread = np.array([0.0, 0.2], dtype=np.float32)
    assert rank.steady(spread, 1)[0] > 0.08
    assert rank.steady(spread, 1)[1] < 0.15
    np.testing.assert_allclose(rank.steady(spread, 1000), spread, atol=0.006)


def test_some_candidates_score_as_they_do_among_all() -> None:
    words, meaning = rank.arm(row(0, 0, 1, 4)), rank.arm(row(0.1, 0.2, 0.3, 0.5))
    server = row(float("nan"), 0.2, 0.4, 0.1)
    whole = rank.fuse(words, meaning, everything(4), server)
    few = [2, 3]
    part = rank.fuse(
        words._replace(scores=words.scores[:, few]),
        meaning._replace(scores=meaning.scores[:, few]),
        everything(2),
        server[:, few],
    )
    np.testing.assert_allclose(part.total, whole.total[:, few], rtol=1e-6)


def test_fusion_weighs_words_and_meaning() -> None:
    fused = rank.fuse(rank.arm(row(0, 2)), rank.arm(row(0.9, 0.1)), everything(2), None)
    np.testing.assert_allclose(fused.total, row(-0.25 + 0.75, 0.25 - 0.75), rtol=1e-5)


def test_the_parts_of_a_score_add_up_to_it() -> None:
    embedded = np.array([True, True, False])
    fused = rank.fuse(
        rank.arm(row(0, 1, 5)), rank.arm(row(0.2, 0.4, -1), embedded), embedded, row(0.3, 0.1, float("nan"))
    )
    np.testing.assert_allclose(fused.words + fused.meaning + fused.server, fused.total, rtol=1e-6)


def test_a_document_without_a_vector_stands_by_its_words() -> None:
    embedded = np.array([True, True, False])
    words = rank.arm(row(0, 1, 5))
    fused = rank.fuse(words, rank.arm(row(0.2, 0.4, -1), embedded), embedded, None)
    assert fused.total[0, 2] == pytest.approx(rank.standard(*words)[0, 2], rel=1e-5)
    assert fused.total.argmax() == 2


def test_a_silent_server_is_neither_helped_nor_harmed() -> None:
    meaning = rank.Arm(row(0.5, 0.5, 0.5), np.array([0.5], np.float32), np.array([0.1], np.float32))
    fused = rank.fuse(rank.arm(row(0, 0, 0)), meaning, everything(3), row(0.6, 0.4, float("nan")))
    np.testing.assert_allclose(fused.total, row(rank.SERVER_WEIGHT, -rank.SERVER_WEIGHT, 0), atol=1e-6)


def test_a_document_that_answers_one_clause_best_is_lifted_over_one_about_everything() -> None:
    total = np.array([[1, 1], [3, 2], [0, 2], [0, 2]], dtype=np.float32)
    np.testing.assert_allclose(rank.with_clauses(total), [1 + 0.4 * (3 - 1), 1], rtol=1e-6)


def test_a_wish_beside_the_task_adds_a_part_of_its_score() -> None:
    total = np.array([[1, 0], [0, 2]], dtype=np.float32)
    np.testing.assert_allclose(rank.with_clauses(total), [1.0, 0.6], rtol=1e-6)


def test_a_task_without_clauses_scores_as_it_does() -> None:
    assert rank.with_clauses(row(1, 2)).tolist() == [1, 2]


def test_a_name_counts_by_the_share_of_it_that_the_task_has() -> None:
    name = {"get": 1.0, "forecast": 3.0}
    assert rank.called(name, {"forecast"}) == pytest.approx(rank.CALLED_WEIGHT * 0.75)
    assert rank.called(name, {"get", "forecast", "rome"}) == pytest.approx(rank.CALLED_WEIGHT)
    assert rank.called({}, {"get"}) == 0


def test_a_name_stuffed_with_words_counts_less_than_one_to_the_point() -> None:
    stuffed = dict.fromkeys(("get", "forecast", "send", "mail", "buy", "stock", "search"), 1.0)
    assert rank.called(stuffed, {"get", "forecast"}) < rank.called({"get": 1.0, "forecast": 1.0}, {"forecast"})


def test_the_nearest_are_the_highest_few() -> None:
    scores = np.array([3, 1, 2, 5], dtype=np.float32)
    assert sorted(rank.nearest(scores, 2).tolist()) == [0, 3]
    assert rank.nearest(scores, 9).tolist() == [0, 1, 2, 3]


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
