"""What operators are alarmed by: once in the log, bounded, newest first."""

from __future__ import annotations

from federation.alarms import AGAIN_MS, Alarms
from federation.clock import SystemClock


class Stepped(SystemClock):
    wall = 1_000

    def wall_ms(self) -> int:
        return self.wall


def test_the_same_words_are_news_once_an_hour_and_other_words_at_once() -> None:
    clock = Stepped()
    alarms = Alarms(clock)
    assert alarms.note("a", "clone", "two of them")
    clock.wall += AGAIN_MS - 1
    assert not alarms.note("a", "clone", "two of them")
    clock.wall += 1
    assert alarms.note("a", "clone", "two of them")
    assert alarms.note("a", "clone", "three of them")
    (raised,) = alarms.latest()
    assert (raised.count, raised.first_ms, raised.last_ms) == (4, 1_000, 1_000 + AGAIN_MS)
    assert raised.message == "three of them"


def test_the_latest_are_kept_and_come_newest_first() -> None:
    alarms = Alarms(Stepped(), alarms_max=2)
    for about in ("a", "b", "a", "c"):
        alarms.note(about, "clone", "two of them")
    assert [r.about for r in alarms.latest()] == ["c", "a"]
