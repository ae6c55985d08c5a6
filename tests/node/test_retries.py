"""What a retry may cost, and which ends of a call allow one."""

from __future__ import annotations

import pytest

from node.retries import (
    CALLS_MAX,
    CALLS_PER_RETRY,
    FREE_MAX,
    RetryBudget,
    RetryBudgets,
    may_run_again,
    not_tried_elsewhere,
)
from proto.errors import ERRORS, Conflict, Unavailable


def taken(budget: RetryBudget, now_s: float) -> int:
    n = 0
    while budget.take(now_s):
        n += 1
        assert n < 10_000
    return n


def test_a_fifth_of_the_calls_may_be_retried_beside_a_few_that_are_free() -> None:
    budget = RetryBudget()
    for _ in range(100):
        budget.called()
    assert taken(budget, 0.0) == 20 + FREE_MAX


def test_what_is_earned_has_a_bound() -> None:
    budget = RetryBudget()
    for _ in range(100_000):
        budget.called()
    assert taken(budget, 0.0) == CALLS_MAX / CALLS_PER_RETRY + FREE_MAX


def test_where_every_call_fails_retries_stay_at_a_fifth_and_three_a_second() -> None:
    budget = RetryBudget()
    retries = 0
    for second in range(100):
        for _ in range(100):
            budget.called()
            retries += budget.take(float(second))
    assert retries <= 0.2 * 10_000 + FREE_MAX + 3 * 100


def test_some_are_free_again_after_a_while() -> None:
    budget = RetryBudget()
    taken(budget, 0.0)
    assert not budget.take(0.1)
    assert taken(budget, 1.0) == 3
    assert taken(budget, 1_000.0) == FREE_MAX


def test_one_service_does_not_use_up_what_another_may_retry() -> None:
    budgets = RetryBudgets()
    taken(budgets.of("sick"), 0.0)
    assert budgets.of("well").take(0.0)
    assert not budgets.of("sick").take(0.0)


def test_budgets_are_kept_of_so_many_services_only() -> None:
    budgets = RetryBudgets(services_max=2)
    first = budgets.of("a")
    budgets.of("b")
    assert budgets.of("a") is first
    budgets.of("c")
    assert budgets.of("a") is not first


@pytest.mark.parametrize("kind", ERRORS)
def test_only_what_did_not_run_is_tried_again_and_what_may_have_only_where_that_is_safe(kind: str) -> None:
    error = ERRORS[kind]("no")
    assert may_run_again(error, retry_safe=False) == (kind == "unavailable")
    assert may_run_again(error, retry_safe=True) == (kind in ("unavailable", "outcome_unknown"))


def test_an_owner_that_lists_a_tool_anew_leaves_the_others_open_and_another_conflict_does_not() -> None:
    assert may_run_again(Conflict("changed since you listed it", listed_anew=True), retry_safe=False)
    assert not may_run_again(Conflict("two servers have this name"), retry_safe=True)


def test_a_retry_that_is_refused_leaves_the_first_error_and_says_why() -> None:
    error = not_tried_elsewhere(Unavailable("it is stopping", retry_after_s=2), "units")
    assert isinstance(error, Unavailable)
    assert error.message.startswith("it is stopping (not tried again: retries of 'units'")
    assert error.data == {"retry_after_s": 2}
