from __future__ import annotations

from node.breaker import FIRST_S, LONGEST_S, Breaker


def test_it_opens_at_the_third_failure_in_a_row() -> None:
    breaker = Breaker()
    for now in (0, 1):
        breaker.failed(now)
        assert breaker.wait_s(now) == 0
    breaker.succeeded()
    for now in (2, 3, 4):
        assert breaker.wait_s(now) == 0
        breaker.failed(now)
    assert breaker.wait_s(4.5) == FIRST_S - 0.5
    assert repr(breaker) == "Breaker(open, 3 failures)"


def test_after_the_pause_one_is_let_through_and_closes_it() -> None:
    breaker = opened()
    assert breaker.wait_s(FIRST_S) == 0
    assert breaker.wait_s(FIRST_S) > 0
    assert repr(breaker) == "Breaker(half open, 3 failures)"
    breaker.succeeded()
    assert breaker.wait_s(FIRST_S) == 0
    assert repr(breaker) == "Breaker(closed, 0 failures)"


def test_the_pause_doubles_with_each_failure_up_to_a_minute() -> None:
    breaker, now, pauses = opened(), 0.0, []
    for _ in range(8):
        pause = breaker.wait_s(now)
        pauses.append(pause)
        now += pause
        assert breaker.wait_s(now) == 0
        breaker.failed(now)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]


def test_whoever_gives_up_lets_the_next_one_try() -> None:
    breaker = opened()
    assert breaker.wait_s(FIRST_S) == 0
    breaker.gave_up()
    assert breaker.wait_s(FIRST_S) == 0


def test_a_wait_that_the_other_side_asks_for_opens_it_at_once_but_not_for_longer_than_a_minute() -> None:
    breaker = Breaker()
    breaker.failed(0, pause_s=20)
    assert breaker.wait_s(0) == 20
    breaker = Breaker()
    breaker.failed(0, pause_s=86_400)
    assert breaker.wait_s(0) == LONGEST_S


def opened() -> Breaker:
    breaker = Breaker()
    for _ in range(3):
        breaker.failed(0)
    return breaker
