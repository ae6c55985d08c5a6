"""Lives of one node speak under epochs that rise, and that no two of them share."""

from __future__ import annotations

from federation import epochs

ONE, OTHER = b"\x00\x07" + b"i" * 14, b"\x12\x34" + b"i" * 14


def test_an_epoch_is_the_clock_where_that_is_ahead() -> None:
    assert epochs.first(0, 1_700_000_000_000, ONE) == 1_700_000_000_000
    assert epochs.first(1_000, 1_001, ONE) == 1_001


def test_a_clock_that_went_back_lets_no_epoch_fall() -> None:
    assert epochs.first(1_000, 1_000, ONE) > 1_000
    assert epochs.first(1_000, 500, b"\x00" * 16) == 1_001


def test_two_lives_that_begin_from_one_old_disk_do_not_meet() -> None:
    assert epochs.first(1_000, 500, ONE) != epochs.first(1_000, 500, OTHER)


def test_a_thousand_restarts_with_the_clock_behind_lead_it_by_less_than_a_day() -> None:
    epoch = 1_700_000_000_000
    for _ in range(1_000):
        epoch = epochs.first(epoch, 0, b"\xff" * 16)
    assert epoch - 1_700_000_000_000 < 24 * 3600 * 1000
