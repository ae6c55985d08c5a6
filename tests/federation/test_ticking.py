"""This node's own time: when it ticks, when it beats, and what it knows of its own standstills."""

from __future__ import annotations

from itertools import pairwise

from federation.ticking import BEAT_TICKS, TICK_MS, Came, Rhythm

BEAT_MS = TICK_MS * BEAT_TICKS


def test_one_that_is_on_time_beats_once_a_second_from_its_first_tick_on() -> None:
    rhythm = Rhythm(0)
    beats = [at for at in range(TICK_MS, 5_001, TICK_MS) if rhythm.came(at) == Came(0, beats=True)]
    assert beats == list(range(TICK_MS, 5_001, BEAT_MS))
    assert rhythm.planned_ms == 5_000 + TICK_MS


def test_one_that_stood_still_knows_for_how_long_and_beats_at_once() -> None:
    rhythm = Rhythm(0)
    assert rhythm.came(TICK_MS) == Came(0, beats=True)
    assert rhythm.came(2 * TICK_MS) == Came(0, beats=False)
    woken = 3 * TICK_MS + 1_800
    assert rhythm.came(woken) == Came(1_800, beats=True)
    assert [rhythm.came(woken + i * TICK_MS) for i in range(1, BEAT_TICKS)] == [Came(0, beats=False)] * (BEAT_TICKS - 1)
    assert rhythm.came(woken + BEAT_MS) == Came(0, beats=True)


def test_one_that_always_comes_late_beats_no_more_often() -> None:
    rhythm, now, beats = Rhythm(0), 0, []
    while now < 60_000:
        now = rhythm.planned_ms + 300
        came = rhythm.came(now)
        assert came.lag_ms == 300
        if came.beats:
            beats.append(now)
    assert min(b - a for a, b in pairwise(beats)) >= BEAT_MS


def test_a_lateness_that_stays_is_told_once() -> None:
    """Else a node under load would take a dead peer's silence for its own, tick after tick."""
    rhythm = Rhythm(0)
    late = [rhythm.came(i * TICK_MS + 200).lag_ms for i in range(1, 20)]
    assert late == [200] + [0] * 18
    assert rhythm.late_ms == 200
    assert rhythm.came(20 * TICK_MS).lag_ms == 0
    assert rhythm.came(21 * TICK_MS + 200).lag_ms == 200


def test_each_of_several_standstills_counts() -> None:
    rhythm = Rhythm(0)
    assert [rhythm.came(at).lag_ms for at in (1_250, 2_500, 3_750)] == [1_000] * 3
