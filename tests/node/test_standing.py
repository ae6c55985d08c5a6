"""How a server fares with its callers: by exact times."""

from __future__ import annotations

from node.standing import EJECTION_S, ROW_MAX, WARMING_S, Standing, Standings, left_alone


def fail(standing: Standing, times: int, now_s: float = 0.0) -> bool:
    """Whether the last of so many failures ejected it."""
    ejected = False
    for _ in range(times):
        standing.begin()
        ejected = standing.failed(now_s)
    return ejected


def answer(standing: Standing, times: int = 1, took_ms: float = 1.0) -> None:
    for _ in range(times):
        standing.begin()
        standing.answered(took_ms)


def test_answers_are_averaged_and_what_runs_is_counted() -> None:
    one = Standing()
    one.begin()
    one.begin()
    assert one.in_flight == 2
    one.answered(10.0)
    assert one.average_ms == 10.0
    one.answered(20.0)
    assert (one.in_flight, one.average_ms, one.calls, one.failures) == (0, 12.0, 2, 0)


def test_neither_a_failure_nor_a_callers_mistake_says_anything_about_speed() -> None:
    one = Standing()
    fail(one, 1)
    one.begin()
    one.refused()
    one.begin()
    one.left()
    assert (one.in_flight, one.average_ms, one.calls, one.failures) == (0, 0.0, 3, 1)


def test_five_failures_in_a_row_eject_and_time_readmits() -> None:
    one = Standing()
    assert not fail(one, ROW_MAX - 1, 100.0)
    assert fail(one, 1, 100.0)
    assert one.ejected(100.0 + EJECTION_S - 0.1)
    assert not one.ejected(100.0 + EJECTION_S)
    assert one.ejections == 1


def test_an_answer_ends_the_row_and_so_does_a_refusal_of_a_callers_mistake() -> None:
    one = Standing()
    fail(one, ROW_MAX - 1)
    answer(one)
    assert not fail(one, ROW_MAX - 1)
    one.begin()
    one.refused()
    assert not fail(one, 1)


def test_half_of_the_last_twenty_calls_eject_though_no_row_is_long() -> None:
    one = Standing()
    for _ in range(9):
        assert not fail(one, 1)
        answer(one)
    assert fail(one, 1)


def test_failures_of_long_ago_are_not_counted() -> None:
    one = Standing()
    for _ in range(40):
        assert not fail(one, 1)
        answer(one, 2)


def test_each_ejection_is_longer_until_a_bound_and_forgiven_by_time() -> None:
    one, now_s, lasted = Standing(), 1000.0, []
    for _ in range(12):
        fail(one, ROW_MAX, now_s)
        lasted.append(one.ejected_until_s - now_s)
        now_s = one.ejected_until_s
    assert lasted == [30.0 * n for n in range(1, 11)] + [300.0, 300.0]
    fail(one, ROW_MAX, now_s + 10 * EJECTION_S)
    assert one.ejected_until_s - (now_s + 10 * EJECTION_S) == 30.0 * 3
    fail(one, ROW_MAX, now_s + 100_000)
    assert one.ejected_until_s - (now_s + 100_000) == 30.0


def test_what_was_sent_before_the_ejection_does_not_prolong_it() -> None:
    one = Standing()
    for _ in range(2 * ROW_MAX):
        one.begin()
    assert [one.failed(0.0) for _ in range(2 * ROW_MAX)].count(True) == 1
    assert one.ejected_until_s == EJECTION_S


def test_a_readmitted_server_is_warmed() -> None:
    one = Standing()
    fail(one, ROW_MAX, 0.0)
    assert one.warmth(EJECTION_S) == 0.1
    assert one.warmth(EJECTION_S + WARMING_S / 2) == 0.5
    assert one.warmth(EJECTION_S + WARMING_S) == 1.0


def test_a_server_that_comes_up_or_back_is_warmed_and_one_that_stays_is_not_warmed_again() -> None:
    one = Standing()
    one.seen(1, 0.0)
    assert one.warmth(3.0) == 0.1
    one.seen(1, 20.0)
    assert one.warmth(15.0) == 0.5
    one.seen(None, 40.0)
    assert one.warmth(40.0) == 1.0
    one.seen(1, 50.0)
    assert one.warmth(50.0) == 0.1
    one.seen(2, 90.0)
    assert one.warmth(91.0) == 0.1


def test_a_server_that_was_started_again_has_a_clean_slate_but_its_count_stays() -> None:
    one = Standing()
    one.seen(1, 0.0)
    fail(one, ROW_MAX, 1.0)
    one.seen(None, 2.0)
    assert one.ejected(2.0)
    one.seen(2, 3.0)
    assert not one.ejected(3.0)
    fail(one, ROW_MAX, 4.0)
    assert one.ejected_until_s - 4.0 == 2 * EJECTION_S


def test_never_more_than_half_are_left_alone_and_the_latest_failures_count() -> None:
    group = [Standing() for _ in range(5)]
    for i, one in enumerate(group):
        fail(one, ROW_MAX, float(i))
    assert left_alone(group, 10.0) == [group[4], group[3]]
    assert left_alone(group[:2], 10.0) == [group[1]]
    assert left_alone(group[:1], 10.0) == []
    assert left_alone(group, 1000.0) == []


def test_beyond_the_bound_the_server_known_longest_that_runs_nothing_is_forgotten() -> None:
    standings = Standings(servers_max=2)
    busy, idle = standings.of("busy"), standings.of("idle")
    busy.begin()
    idle.begin()
    idle.answered(5.0)
    standings.of("new")
    assert standings.of("busy") is busy
    assert standings.known.keys() == {"busy", "new"}
