"""Two processes of one identity, told apart from one that restarts."""

from __future__ import annotations

from federation.bearers import BEARERS_MAX, CONTEST_MS, OVERLAP_MS, Bearers

ONE, TWO, THREE = b"1" * 16, b"2" * 16, b"3" * 16


def test_who_follows_another_is_no_second_one() -> None:
    bearers = Bearers("node")
    assert bearers.heard(ONE, "a:1", 0) == b""
    assert bearers.heard(TWO, "a:1", 1_000) == b""
    # What was on its way when the first one died.
    assert bearers.heard(ONE, "a:1", 1_000 + OVERLAP_MS - 1) == b""
    assert bearers.heard(TWO, "a:1", 10 * OVERLAP_MS) == b""
    assert bearers.refusal(ONE, 10 * OVERLAP_MS) == bearers.refusal(TWO, 10 * OVERLAP_MS) == ""


def test_who_speaks_long_after_another_was_met_lives_beside_it_and_the_later_is_refused() -> None:
    bearers = Bearers("node")
    bearers.heard(ONE, "a:1", 0)
    bearers.heard(TWO, "b:2", 1_000)
    now = 1_000 + OVERLAP_MS
    assert bearers.heard(ONE, "", now) == TWO
    assert bearers.heard(ONE, "", now + 1) == b"", "told once"
    why = bearers.refusal(TWO, now)
    assert "one at a:1, and later one at b:2" in why
    assert "stop one of them, or issue it a certificate" in why
    assert bearers.refusal(ONE, now) == bearers.refusal(THREE, now) == ""


def test_the_later_one_is_taken_once_the_earlier_is_silent_and_refused_again_when_it_speaks() -> None:
    bearers = Bearers("node")
    bearers.heard(ONE, "a:1", 0)
    bearers.heard(TWO, "b:2", 1)
    bearers.heard(ONE, "a:1", OVERLAP_MS + 1)
    silent = OVERLAP_MS + 1 + CONTEST_MS
    assert bearers.refusal(TWO, silent - 1)
    assert bearers.refusal(TWO, silent) == ""
    assert bearers.heard(ONE, "a:1", silent + 1) == TWO


def test_releases_that_name_no_instance_are_never_told_apart_and_memory_is_bounded() -> None:
    bearers = Bearers("node")
    for now in range(0, 5 * OVERLAP_MS, OVERLAP_MS):
        assert bearers.heard(b"", "a:1", now) == b""
    for i in range(3 * BEARERS_MAX):
        bearers.heard(bytes([i]), "a:1", 0)
    assert repr(bearers) == f"Bearers({BEARERS_MAX} met)"
