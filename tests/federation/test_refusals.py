"""What was refused, by whom and why: counted, bounded, and told apart from what was said before."""

from __future__ import annotations

import pytest

from federation.clock import SystemClock
from federation.refusals import MESSAGE_CHARS_MAX, NEWS_MS, Reason, Refusals, reason_named, reason_of, side_of
from proto.codec import error_to_failed, failed_from_wire, failed_to_error, failed_to_wire
from proto.errors import Conflict, Exhausted, Forbidden, Invalid, MeshError, Unauthenticated, Unavailable


class Clock(SystemClock):
    wall = 1_000

    def wall_ms(self) -> int:
        return self.wall


def test_the_same_again_is_counted_and_no_news() -> None:
    clock = Clock()
    refusals = Refusals(clock)
    assert refusals.note("here", "x", Reason.MESH, "of another mesh")
    clock.wall = 90_000
    assert not refusals.note("here", "x", Reason.MESH, "of another mesh")
    assert refusals.note("here", "x", Reason.MESH, "of yet another mesh")
    assert refusals.note("there", "x", Reason.MESH, "of another mesh")
    newest, oldest = refusals.latest()
    assert (newest.side, oldest.count, oldest.first_ms, oldest.last_ms) == ("there", 3, 1_000, 90_000)
    assert oldest.message == "of yet another mesh"
    assert refusals.totals == {("here", Reason.MESH): 3, ("there", Reason.MESH): 1}


def test_one_that_finds_ever_new_words_is_news_now_and_then_only() -> None:
    clock = Clock()
    refusals = Refusals(clock)
    assert sum(refusals.note("there", "x", Reason.OTHER, f"excuse {i}") for i in range(1_000)) == 1
    clock.wall += NEWS_MS
    assert refusals.note("there", "x", Reason.OTHER, "x" * 100_000)
    assert len(refusals.latest()[0].message) == MESSAGE_CHARS_MAX


def test_only_the_latest_are_kept_and_every_one_is_counted() -> None:
    refusals = Refusals(Clock(), refusals_max=3)
    for i in range(10):
        refusals.note("here", f"node {i}", Reason.FULL, "full")
    assert [r.who for r in refusals.latest()] == ["node 9", "node 8", "node 7"]
    assert repr(refusals) == "Refusals(10 in all, 3 kept)"


def test_the_reason_travels_with_the_error() -> None:
    error = Conflict("another mesh", reason=Reason.MESH)
    back = failed_to_error(failed_from_wire(failed_to_wire(error_to_failed(error))))
    assert (type(back), reason_of(back)) == (Conflict, Reason.MESH)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unauthenticated("who?"), Reason.CERTIFICATE),
        (Forbidden("not you"), Reason.IDENTITY),
        (Invalid("what?"), Reason.FRAME),
        (Exhausted("no more"), Reason.FULL),
        (Unavailable("later"), Reason.OTHER),
        (Conflict("differs"), Reason.OTHER),
        (Conflict("of a newer build", reason="moonphase"), Reason.OTHER),
        (Conflict("nonsense", reason=[1]), Reason.OTHER),
    ],
)
def test_an_error_without_a_known_word_is_judged_by_its_kind(error: MeshError, reason: Reason) -> None:
    assert reason_of(error) is reason


def test_words_of_a_peer_that_this_release_does_not_know_are_other() -> None:
    assert (reason_named("clone"), reason_named("moonphase")) == (Reason.CLONE, Reason.OTHER)


def test_an_error_tells_who_refused() -> None:
    assert side_of(Unauthenticated("we do not know you")) == "here"
    assert side_of(Unauthenticated("they do not know us", refused="there")) == "there"
