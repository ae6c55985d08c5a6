"""The pulse of a peer: beats, silence, doubt and the word of witnesses."""

from __future__ import annotations

from federation.events import AskWitnesses, Became, Broken, CallsFailed, Liveness, Probe, Received, Tick, Witnessed
from federation.liveness import PROBE_MS, PROOF_MS, REVIEW_FIRST_MS, REVIEW_MAX_MS, SILENCE_MS, TESTIMONY_MS, Pulse
from proto.frames import Beat, Bye, Farewell

BEAT = Received(Beat(0))


def alive(now_ms: int = 0) -> Pulse:
    pulse = Pulse(now_ms)
    assert pulse.handle(BEAT, now_ms) == [Became(Liveness.ALIVE, "")]
    return pulse


def test_a_broken_stream_is_suspicion_at_once_and_asks_for_one_fresh_dial() -> None:
    assert alive().handle(Broken("reset"), 10) == [Became(Liveness.SUSPECT, "reset"), Probe()]


def test_silence_is_suspicion_after_three_seconds() -> None:
    pulse = alive()
    assert pulse.handle(Tick(), SILENCE_MS - 1) == []
    assert pulse.handle(Tick(), SILENCE_MS) == [Became(Liveness.SUSPECT, "silent for 3000 ms"), Probe()]


def test_a_node_that_was_frozen_itself_suspects_nobody_on_waking() -> None:
    pulse = alive()
    assert pulse.handle(Tick(lag_ms=8_000), 8_250) == []
    assert pulse.hears(8_250)
    assert pulse.handle(Tick(), 11_250) != []


def test_a_probe_that_is_welcomed_ends_the_doubt() -> None:
    pulse = alive()
    pulse.handle(Broken("reset"), 10)
    assert pulse.handle(BEAT, 300) == [Became(Liveness.ALIVE, "")]
    assert pulse.handle(Tick(), 300 + PROBE_MS) == []


def test_a_probe_that_fails_or_hangs_asks_witnesses_once() -> None:
    failed, hung = alive(), alive()
    failed.handle(Broken("reset"), 10)
    assert failed.handle(Broken("refused"), 20) == [AskWitnesses(3, 1)]
    assert failed.handle(Broken("refused"), 30) == []
    hung.handle(Broken("reset"), 10)
    assert hung.handle(Tick(), 10 + PROBE_MS) == [AskWitnesses(3, 1)]


def doubted() -> Pulse:
    pulse = alive()
    pulse.handle(Broken("reset"), 10)
    pulse.handle(Broken("refused"), 20)
    return pulse


def test_a_witness_that_hears_it_makes_it_unreachable_from_here() -> None:
    said = Witnessed(asked=("b", "c"), hearing=("c",), question=1)
    assert doubted().handle(said, 30) == [Became(Liveness.UNREACHABLE, "refused; heard by c")]


def test_witnesses_that_do_not_hear_it_either_make_it_down() -> None:
    said = Witnessed(asked=("b", "c"), question=1)
    assert doubted().handle(said, 30) == [Became(Liveness.DOWN, "refused; not heard by b, c either")]


def test_without_a_witness_it_is_not_called_down() -> None:
    assert doubted().handle(Witnessed(question=1), 30)[0] == Became(
        Liveness.UNREACHABLE, "refused; nobody else could be asked"
    )


def test_witnesses_that_never_answer_decide_nothing_for_ever() -> None:
    pulse = doubted()
    assert pulse.handle(Tick(), 19 + TESTIMONY_MS) == []
    (became,) = pulse.handle(Tick(), 20 + TESTIMONY_MS)
    assert isinstance(became, Became)
    assert pulse.handle(Witnessed(asked=("b",), question=1), 30 + TESTIMONY_MS) == []


def test_whoever_is_heard_again_is_alive_whatever_was_decided() -> None:
    pulse = doubted()
    pulse.handle(Witnessed(asked=("b",), question=1), 30)
    assert pulse.handle(BEAT, 40) == [Became(Liveness.ALIVE, "")]


def test_draining_comes_and_goes_with_the_beats() -> None:
    pulse = alive()
    assert pulse.handle(Received(Beat(0, draining=True)), 1) == [Became(Liveness.DRAINING, "")]
    assert pulse.handle(Received(Beat(0, draining=True)), 2) == []
    assert pulse.handle(BEAT, 3) == [Became(Liveness.ALIVE, "")]


def test_a_goodbye_is_believed() -> None:
    assert alive().handle(Received(Bye(Farewell.LEAVE)), 5) == [Became(Liveness.LEFT, "it said goodbye (leave)")]
    restarting = alive().handle(Received(Bye(Farewell.RESTART)), 5)
    assert restarting == [Became(Liveness.SUSPECT, "it said that it restarts"), Probe()]


def test_one_that_left_is_not_asked_about() -> None:
    pulse = alive()
    pulse.handle(Received(Bye(Farewell.LEAVE)), 5)
    assert [*pulse.handle(Broken("closed"), 6), *pulse.handle(Tick(), 60_000)] == []


def test_calls_that_fail_are_suspicion_unless_it_is_heard_within_a_beat_and_a_half() -> None:
    pulse = alive()
    assert pulse.handle(CallsFailed("reset"), 100) == []
    assert pulse.handle(Tick(), 99 + PROOF_MS) == []
    assert pulse.handle(Tick(), 100 + PROOF_MS) == [
        Became(Liveness.SUSPECT, "calls fail (reset), and silent for 1600 ms"),
        Probe(),
    ]


def test_calls_that_fail_while_beats_arrive_change_nothing() -> None:
    pulse = alive()
    for at in range(0, 60_000, 1_000):
        assert pulse.handle(CallsFailed("reset"), at) == []
        assert [*pulse.handle(BEAT, at + 900), *pulse.handle(Tick(), at + 950)] == []


def test_a_lag_of_its_own_is_credited_to_the_proof_too() -> None:
    pulse = alive()
    pulse.handle(CallsFailed("reset"), 0)
    assert pulse.handle(Tick(lag_ms=2_000), 2_250) == []
    assert pulse.handle(BEAT, 2_260) == []


def test_an_answer_to_an_earlier_question_is_no_word() -> None:
    pulse = doubted()
    pulse.handle(BEAT, 30)
    pulse.handle(Broken("reset"), 40)
    assert pulse.handle(Broken("refused"), 50) == [AskWitnesses(3, 2)]
    assert pulse.handle(Witnessed(asked=("b",), question=1), 60) == []
    (became,) = pulse.handle(Witnessed(asked=("b",), question=2), 70)
    assert became == Became(Liveness.DOWN, "refused; not heard by b either")


def test_a_verdict_is_reviewed_more_and_more_rarely_and_changes_with_the_word() -> None:
    pulse = doubted()
    pulse.handle(Witnessed(("c",), ("c",), 1), 30)
    assert pulse.handle(Tick(), 29 + REVIEW_FIRST_MS) == []
    assert pulse.handle(Tick(), 30 + REVIEW_FIRST_MS) == [AskWitnesses(3, 2)]
    (became,) = pulse.handle(Witnessed(("c",), (), 2), 3_000)
    assert became == Became(Liveness.DOWN, "refused; not heard by c either")
    assert pulse.handle(Tick(), 2_999 + 2 * REVIEW_FIRST_MS) == []
    assert pulse.handle(Tick(), 3_000 + 2 * REVIEW_FIRST_MS) == [AskWitnesses(3, 3)]
    assert pulse.handle(Witnessed(question=3), 8_000) == []
    assert pulse.state is Liveness.DOWN
    asked = sum(AskWitnesses in map(type, pulse.handle(Tick(), at)) for at in range(10_000, 610_000, 250))
    assert asked <= 600_000 / REVIEW_MAX_MS + 10
