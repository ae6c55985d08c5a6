"""Long texts: cut, taken in turn, put together, within their windows."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.chunks import (
    EVENTS_BYTES_MAX,
    FRAME_BYTES,
    LANE_EVENT_BYTES_MAX,
    LANE_EVENTS_MAX,
    WINDOW_BYTES,
    Assembly,
    Lanes,
)
from proto.calls import CHUNK_BYTES
from proto.errors import Exhausted, Invalid

Frame = tuple[str, bytes | str]


def lanes() -> Lanes[Frame]:
    return Lanes(lambda call_id, data: (call_id, data))


def drain(waiting: Lanes[Frame]) -> list[Frame]:
    frames = []
    while (frame := waiting.next()) is not None:
        frames.append(frame)
    return frames


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3 * WINDOW_BYTES)), max_size=4))
def test_whatever_is_sent_in_turn_arrives_whole_when_grants_come_back(texts: list[tuple[str, int]]) -> None:
    waiting = lanes()
    sent = {f"{name}{n}": (name.encode() * size) for n, (name, size) in enumerate(texts)}
    inboxes = {call_id: Assembly(len(text)) for call_id, text in sent.items()}
    for call_id, text in sent.items():
        if text:
            waiting.put_text(call_id, text)
        waiting.put(call_id, (call_id, "end"), last=True)
    ended = []
    while (frame := waiting.next()) is not None:
        call_id, data = frame
        if isinstance(data, bytes):
            waiting.credit(call_id, inboxes[call_id].add(data))
        else:
            ended.append(call_id)
    assert sorted(ended) == sorted(sent)
    assert {call_id: inbox.text(len(sent[call_id])) for call_id, inbox in inboxes.items()} == sent
    assert len(waiting) == 0


def test_calls_are_served_in_turn_a_chunk_at_a_time() -> None:
    waiting = lanes()
    waiting.put_text("long", b"x" * (3 * CHUNK_BYTES))
    waiting.put("short", ("short", "1"))
    waiting.put("short", ("short", "2"))
    order = [call_id for call_id, _ in drain(waiting)]
    assert order == ["long", "short", "long", "short", "long"]


def test_frames_of_one_call_keep_their_order_around_a_text() -> None:
    waiting = lanes()
    waiting.put("c", ("c", "before"))
    waiting.put_text("c", b"x" * (CHUNK_BYTES + 1))
    waiting.put("c", ("c", "after"), last=True)
    assert [d if isinstance(d, str) else len(d) for _, d in drain(waiting)] == ["before", CHUNK_BYTES, 1, "after"]


def test_without_grants_a_text_stops_at_its_window_and_others_go_on() -> None:
    waiting = lanes()
    waiting.put_text("stalled", b"x" * (2 * WINDOW_BYTES))
    waiting.put("stalled", ("stalled", "end"), last=True)
    assert sum(len(d) for _, d in drain(waiting)) == WINDOW_BYTES
    waiting.put("other", ("other", "1"))
    assert drain(waiting) == [("other", "1")]
    assert not waiting.idle
    waiting.credit("stalled", 10)
    assert drain(waiting) == [("stalled", b"x" * 10)]
    waiting.credit("unheard-of", 10)
    waiting.drop("stalled")
    waiting.credit("stalled", 10)
    assert drain(waiting) == []
    assert waiting.idle


def test_notifications_beyond_the_bound_are_dropped_and_counted_and_nothing_else_is() -> None:
    waiting = lanes()
    taken = [waiting.put_light("c", ("c", str(n)), 1) for n in range(LANE_EVENTS_MAX + 5)]
    waiting.put("c", ("c", "end"), last=True)
    assert taken.count(False) == waiting.dropped == 5
    assert len(drain(waiting)) == LANE_EVENTS_MAX + 1
    assert waiting.put_light("d", ("d", "1"), LANE_EVENT_BYTES_MAX)
    assert not waiting.put_light("d", ("d", "2"), 1)
    drain(waiting)
    assert waiting.put_light("d", ("d", "3"), 1)
    assert repr(waiting) == "Lanes(1 calls, 1 waiting, 6 dropped)"


def test_notifications_of_all_calls_together_are_bounded_too() -> None:
    waiting = lanes()
    most = EVENTS_BYTES_MAX // (LANE_EVENT_BYTES_MAX + FRAME_BYTES)
    assert all(waiting.put_light(str(n), (str(n), ""), LANE_EVENT_BYTES_MAX) for n in range(most))
    assert not waiting.put_light("more", ("more", ""), LANE_EVENT_BYTES_MAX)
    waiting.drop("0")
    assert waiting.put_light("more", ("more", ""), LANE_EVENT_BYTES_MAX)
    drain(waiting)
    assert waiting.light_bytes == 0


def test_a_finished_call_keeps_only_a_last_frame_that_still_waits() -> None:
    waiting = lanes()
    waiting.put("cancelled", ("cancelled", "cancel"), last=True)
    waiting.put("done", ("done", "reply"))
    for call_id in ("cancelled", "done", "unheard-of"):
        waiting.finish(call_id)
    assert drain(waiting) == [("cancelled", "cancel")]


def test_a_grant_put_after_the_last_frame_does_not_cost_it() -> None:
    waiting = lanes()
    waiting.put("a", ("a", "cancel"), last=True)
    waiting.put("a", ("a", "window"))
    waiting.finish("a")
    assert drain(waiting) == [("a", "cancel")]


def test_a_dropped_call_may_begin_anew() -> None:
    waiting = lanes()
    waiting.put("c", ("c", "old"))
    waiting.drop("c")
    waiting.put("c", ("c", "new"), last=True)
    assert drain(waiting) == [("c", "new")]


def test_grants_are_given_as_chunks_are_taken_and_never_more() -> None:
    inbox = Assembly(10 * WINDOW_BYTES)
    granted = sum(inbox.add(b"x" * CHUNK_BYTES) for _ in range(100))
    assert 0 <= inbox.received - granted < WINDOW_BYTES // 2


def test_a_sender_that_ignores_its_window_is_refused() -> None:
    inbox = Assembly(10 * WINDOW_BYTES)
    for _ in range(WINDOW_BYTES // 4 // CHUNK_BYTES - 1):
        inbox.add(b"x" * CHUNK_BYTES)
    # Nothing has been granted so far; whatever would come next in one piece is beyond the first window.
    inbox.received += WINDOW_BYTES
    with pytest.raises(Invalid, match=f"only {WINDOW_BYTES} were granted"):
        inbox.add(b"x")


@pytest.mark.parametrize("size", [0, CHUNK_BYTES + 1])
def test_a_chunk_of_a_wrong_size_is_refused(size: int) -> None:
    with pytest.raises(Invalid, match=f"chunk of {size} bytes"):
        Assembly(WINDOW_BYTES).add(b"x" * size)


def test_a_text_beyond_its_limit_is_refused_before_it_is_whole() -> None:
    inbox = Assembly(10)
    inbox.add(b"x" * 10)
    with pytest.raises(Exhausted, match="longer than 10 bytes"):
        inbox.add(b"x")


def test_a_text_of_another_length_than_announced_is_refused() -> None:
    inbox = Assembly(10)
    inbox.add(b"x" * 9)
    with pytest.raises(Invalid, match="9 bytes came of a text of 10"):
        inbox.text(10)
