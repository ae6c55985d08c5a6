from __future__ import annotations

import math

import pytest

from router.evaluation import metrics
from router.evaluation.metrics import Scores, mean, percentile, score

RANKED = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"]


def test_a_single_right_tool_in_first_place_scores_full_marks() -> None:
    assert score(RANKED, {"a"}) == Scores(1, 1, 1, 1, 1, 1)


def test_recall_counts_what_is_found_of_what_is_relevant() -> None:
    found = score(RANKED, {"a", "f", "zz"})
    assert (found.recall_1, found.recall_5, found.recall_10) == pytest.approx((1 / 3, 1 / 3, 2 / 3))


def test_ndcg_is_that_of_trec_eval_with_binary_relevance() -> None:
    # Places 2 and 5 of two relevant: (1/log2(3) + 1/log2(6)) ÷ (1/log2(2) + 1/log2(3)).
    expected = (1 / math.log2(3) + 1 / math.log2(6)) / (1 + 1 / math.log2(3))
    assert score(RANKED, {"b", "e"}).ndcg_10 == pytest.approx(expected)


def test_the_ideal_ranking_is_cut_at_ten_like_the_real_one() -> None:
    assert score(RANKED, set(RANKED[:10]) | {"l", "m"}).ndcg_10 == pytest.approx(1)


def test_the_eleventh_place_counts_nowhere() -> None:
    assert score(RANKED, {"k"}) == Scores(0, 0, 0, 0, 0, 0)


def test_the_reciprocal_rank_is_that_of_the_first_relevant() -> None:
    assert score(RANKED, {"d", "g"}).mrr == pytest.approx(1 / 4)


def test_a_query_is_complete_only_if_all_it_needs_is_in_the_first_ten() -> None:
    assert score(RANKED, {"a", "j"}).complete_10 == 1
    assert score(RANKED, {"a", "k"}).complete_10 == 0


def test_an_empty_ranking_scores_nothing() -> None:
    assert score([], {"a"}) == Scores(0, 0, 0, 0, 0, 0)


def test_nothing_relevant_has_no_score() -> None:
    with pytest.raises(ValueError, match="without relevant"):
        score(RANKED, set())


def test_the_mean_is_unweighted() -> None:
    halves = mean([score(RANKED, {"a"}), score(RANKED, {"k"})])
    assert halves == Scores(0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    assert metrics.NAMES == ("recall_1", "recall_5", "recall_10", "ndcg_10", "mrr", "complete_10")


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.95, 4), (0.25, 1), (1.0, 4)])
def test_a_percentile_is_a_value_that_was_seen(share: float, value: float) -> None:
    assert percentile([4, 1, 3, 2], share) == value


def test_no_times_have_no_percentile_but_zero() -> None:
    assert percentile([], 0.5) == 0
