"""What is remembered of calls, by a clock that the tests turn."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from federation.dedupe import Dropped, Kept, Refused, Repeats, RunKey
from proto.calls import Failed


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def key(call_id: str, peer: str = "p", subject: str = "ann") -> RunKey:
    return RunKey(peer, ("", "", subject), call_id)


def finished(repeats: Repeats[str], name: str, outcome: bytes | Failed = b"{}") -> None:
    repeats.begin(key(name), name)
    repeats.finish(key(name), outcome)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_call_is_running_then_kept(clock: Clock) -> None:
    repeats: Repeats[str] = Repeats(clock)
    assert repeats.running(key("1")) is None
    assert repeats.past(key("1")) is None
    repeats.begin(key("1"), "run")
    assert (repeats.running(key("1")), repeats.past(key("1")), len(repeats)) == ("run", None, 1)
    repeats.finish(key("1"), b"answer")
    assert (repeats.running(key("1")), repeats.past(key("1")), len(repeats)) == (None, Kept(b"answer"), 0)
    assert repr(repeats) == "Repeats(0 running, 1 past, 6 bytes kept)"


def test_another_peer_or_principal_sees_nothing_of_it(clock: Clock) -> None:
    repeats: Repeats[str] = Repeats(clock)
    finished(repeats, "1")
    repeats.begin(key("2"), "run")
    for call_id in "12":
        for other in (key(call_id, peer="q"), key(call_id, subject="bob")):
            assert repeats.running(other) is None
            assert repeats.past(other) is None


def test_what_was_begun_is_never_begun_again(clock: Clock) -> None:
    repeats: Repeats[str] = Repeats(clock)
    repeats.begin(key("1"), "run")
    finished(repeats, "2")
    repeats.refuse(key("3"))
    for name in "123":
        with pytest.raises(ValueError, match="begun before"):
            repeats.begin(key(name), "again")


def test_an_outcome_is_kept_for_its_time_and_no_longer(clock: Clock) -> None:
    repeats: Repeats[str] = Repeats(clock, keep_s=600)
    finished(repeats, "1", Failed("conflict", "changed"))
    clock.now_s += 599
    assert repeats.past(key("1")) == Kept(Failed("conflict", "changed"))
    clock.now_s += 1
    assert repeats.past(key("1")) is None
    assert "0 bytes" in repr(repeats)
    assert not repeats.forgetful


def test_beyond_the_byte_bound_the_oldest_lose_their_text_and_are_still_known_to_have_run(clock: Clock) -> None:
    repeats: Repeats[str] = Repeats(clock, bytes_max=10)
    for name in "123":
        finished(repeats, name, b"x" * 4)
    assert [repeats.past(key(n)) for n in "123"] == [Dropped(), Kept(b"xxxx"), Kept(b"xxxx")]
    finished(repeats, "4", b"x" * 11)
    assert [repeats.past(key(n)) for n in "1234"] == [Dropped()] * 4
    assert not repeats.forgetful


def test_beyond_the_count_bound_the_oldest_are_forgotten_and_that_is_admitted(clock: Clock) -> None:
    repeats: Repeats[str] = Repeats(clock, count_max=2, keep_s=600)
    for name in "123":
        finished(repeats, name)
    assert [repeats.past(key(n)) for n in "123"] == [None, Kept(b"{}"), Kept(b"{}")]
    assert repeats.forgetful
    clock.now_s += 600
    assert not repeats.forgetful


def test_who_was_told_that_it_never_ran_is_not_contradicted(clock: Clock) -> None:
    repeats: Repeats[str] = Repeats(clock)
    repeats.refuse(key("1"))
    assert repeats.past(key("1")) == Refused()


def test_a_promise_outlives_what_room_is_wanted_for(clock: Clock) -> None:
    repeats: Repeats[str] = Repeats(clock, count_max=2, keep_s=600)
    repeats.refuse(key("promised"))
    for name in "123":
        finished(repeats, name)
    assert repeats.past(key("promised")) == Refused()


def test_where_too_many_promises_stand_no_more_are_given_until_some_end(clock: Clock) -> None:
    repeats: Repeats[str] = Repeats(clock, count_max=2, keep_s=600)
    repeats.refuse(key("1"))
    repeats.refuse(key("2"))
    assert repeats.forgetful
    clock.now_s += 600
    assert not repeats.forgetful
    assert repeats.past(key("1")) is None


class Model(RuleBasedStateMachine):
    """Against a plain dictionary: at most once, and the bounds."""

    BYTES_MAX, COUNT_MAX, KEEP_S = 30, 5, 10.0

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.repeats: Repeats[int] = Repeats(
            self.clock, keep_s=self.KEEP_S, bytes_max=self.BYTES_MAX, count_max=self.COUNT_MAX
        )
        self.running: set[RunKey] = set()
        self.ended: dict[RunKey, tuple[float, bytes | None]] = {}

    @rule(name=st.integers(0, 8))
    def open_or_query(self, name: int) -> None:
        k = key(str(name))
        if self.repeats.running(k) is None and self.repeats.past(k) is None:
            self.repeats.begin(k, name)
            self.running.add(k)

    @rule(name=st.integers(0, 8))
    def refuse(self, name: int) -> None:
        k = key(str(name))
        if self.repeats.running(k) is None and self.repeats.past(k) is None and not self.repeats.forgetful:
            self.repeats.refuse(k)
            self.ended[k] = (self.clock.now_s, None)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), text=st.binary(min_size=1, max_size=40))
    def finish(self, data: st.DataObject, text: bytes) -> None:
        k = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(k)
        self.repeats.finish(k, text)
        self.ended[k] = (self.clock.now_s, text)

    @rule(seconds=st.floats(0, 12))
    def wait(self, seconds: float) -> None:
        self.clock.now_s += seconds

    @invariant()
    def what_is_remembered_is_true(self) -> None:
        kept = 0
        for k, (at_s, text) in self.ended.items():
            match self.repeats.past(k):
                case Kept(outcome):
                    assert outcome == text
                    kept += len(text or b"")
                case Refused():
                    assert text is None
                case Dropped():
                    assert text is not None
                case None:
                    young = self.clock.now_s - at_s < self.KEEP_S
                    assert not young or (self.repeats.forgetful and text is not None) or k in self.running
        assert kept <= self.BYTES_MAX
        assert len(self.repeats) == len(self.running)


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestMemoryAgreesWithAPlainDictionary = Model.TestCase


def test_an_error_counts_with_its_data(clock: Clock) -> None:
    repeats: Repeats[str] = Repeats(clock, bytes_max=4_000)
    for name in "12":
        finished(repeats, name, Failed("invalid", "no", {"text": "x" * 3_000}))
    assert isinstance(repeats.past(key("1")), Dropped)
    assert isinstance(repeats.past(key("2")), Kept)
