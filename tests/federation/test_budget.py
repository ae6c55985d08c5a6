"""A call's time, which stands still while its client is asked something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from federation.budget import LASTING_ABOVE_MS, QUESTION_S_MAX, Budget, lasts
from proto.calls import Call


class Loop:
    """The clock of an event loop that goes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self._timers: dict[int, tuple[float, Callable[[], None]]] = {}

    def time(self) -> float:
        return self.now_s

    def call_at(self, when: float, do: Callable[[], None]) -> Any:
        n = len(self._timers)
        self._timers[n] = (when, do)
        loop = self

        class Handle:
            def cancel(self) -> None:
                loop._timers[n] = (float("inf"), do)

        return Handle()

    def go(self, seconds: float) -> None:
        self.now_s += seconds
        for n, (when, do) in list(self._timers.items()):
            if when <= self.now_s + 1e-9:
                self._timers[n] = (float("inf"), do)
                do()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


def test_a_call_has_its_time_and_no_more(loop: Loop) -> None:
    over: list[float] = []
    Budget(5_000, lambda: over.append(loop.now_s))
    loop.go(4.9)
    assert over == []
    loop.go(0.1)
    assert over == [105.0]


def test_a_question_takes_nothing_of_it(loop: Loop) -> None:
    over: list[float] = []
    budget = Budget(5_000, lambda: over.append(loop.now_s))
    loop.go(4)
    budget.stand_still()
    loop.go(300)
    budget.go_on()
    loop.go(0.9)
    assert over == []
    loop.go(0.1)
    assert over == [405.0]


def test_of_two_questions_the_last_answer_counts(loop: Loop) -> None:
    over: list[float] = []
    budget = Budget(5_000, lambda: over.append(loop.now_s))
    budget.stand_still()
    loop.go(10)
    budget.stand_still()
    budget.go_on()
    loop.go(10)
    assert over == []
    budget.go_on()
    loop.go(5)
    assert over == [125.0]


def test_a_question_that_nobody_answers_does_not_hold_it_for_ever(loop: Loop) -> None:
    over: list[float] = []
    budget = Budget(5_000, lambda: over.append(loop.now_s))
    budget.stand_still()
    loop.go(QUESTION_S_MAX + 4.9)
    assert over == []
    loop.go(0.1)
    assert over == [100.0 + QUESTION_S_MAX + 5]


def test_a_late_answer_gives_back_no_more_than_a_question_may_take(loop: Loop) -> None:
    over: list[float] = []
    budget = Budget(5_000, lambda: over.append(loop.now_s))
    budget.stand_still()
    loop.go(QUESTION_S_MAX + 3)
    budget.go_on()
    loop.go(1.9)
    assert over == []
    loop.go(0.1)
    assert len(over) == 1


def test_after_its_end_nothing_is_over(loop: Loop) -> None:
    over: list[float] = []
    budget = Budget(5_000, lambda: over.append(loop.now_s))
    budget.stand_still()
    budget.stop()
    budget.go_on()
    loop.go(10_000)
    assert over == []


@pytest.mark.parametrize(("budget_ms", "stream"), [(LASTING_ABOVE_MS, False), (LASTING_ABOVE_MS + 1, True)])
def test_a_call_with_more_time_than_any_call_needs_is_a_stream(budget_ms: int, stream: bool) -> None:
    assert lasts(Call("c", "s", "m", {}, budget_ms=budget_ms)) is stream


def test_what_is_over_is_over_though_its_last_question_ends_later(loop: Loop) -> None:
    over: list[float] = []
    budget = Budget(5_000, lambda: over.append(loop.now_s))
    budget.stand_still()
    loop.go(5 + QUESTION_S_MAX)
    budget.go_on()
    loop.go(0)
    assert len(over) == 1
