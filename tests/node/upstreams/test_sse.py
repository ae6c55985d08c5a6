from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.upstreams.sse import SseEvent, SseParser
from proto.errors import Invalid

STREAM = (
    b"\xef\xbb\xbf: a comment\r\n"
    b"event: first\ndata: one\ndata:two\ndata\n\n"
    b"id: 7\r\rdata: a\rdata:  b\r\r"
    b"id: bad\0id\nretry: 250\nretry: 1x\ndata:\n\n"
    b"unknown: x\ndata: \xc3\xa9\r\n\r\n"
    b"data: never ended\n"
)
EVENTS = [
    SseEvent("first", b"one\ntwo\n", ""),
    SseEvent("message", b"a\n b", "7"),
    SseEvent("message", b"", "7"),
    SseEvent("message", "é".encode(), "7"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_are_the_same_however_the_stream_is_split(cuts):
    edges = [0, *sorted(cuts), len(STREAM)]
    parser = SseParser(1000)
    events = [e for a, b in itertools.pairwise(edges) for e in parser.feed(STREAM[a:b])]
    assert events == EVENTS
    assert parser.last_event_id == "7"
    assert parser.retry_ms == 250


def test_an_event_is_given_as_soon_as_its_blank_line_came_even_if_a_line_feed_may_follow():
    parser = SseParser(100)
    assert parser.feed(b"data: x\r\n\r") == [SseEvent("message", b"x", "")]
    assert parser.feed(b"\ndata: y\r\n\r\n") == [SseEvent("message", b"y", "")]


def test_a_line_end_that_is_split_between_chunks_ends_one_line_only():
    parser = SseParser(100)
    assert parser.feed(b"data: x\r") == []
    assert parser.feed(b"\ndata: y\r\n\r\n") == [SseEvent("message", b"x\ny", "")]


def test_an_event_of_megabytes_in_small_chunks_is_put_together():
    parser = SseParser(8 * 2**20)
    payload = b"z" * (4 * 2**20)
    stream = b"data: " + payload + b"\n\n"
    events = [e for i in range(0, len(stream), 16384) for e in parser.feed(stream[i : i + 16384])]
    assert [e.data for e in events] == [payload]


@pytest.mark.parametrize("line_end", [b"", b"\n"])
def test_an_event_beyond_the_bound_is_refused_whether_in_one_line_or_in_many(line_end):
    parser = SseParser(1000)
    piece = (b"data: " if line_end else b"x") + b"x" * 50 + line_end
    with pytest.raises(Invalid, match="longer than 1000 bytes"):
        parser.feed(piece * 100)
    parser = SseParser(1000)
    for _ in range(15):
        parser.feed(piece)
    with pytest.raises(Invalid, match="longer than 1000 bytes"):
        parser.feed(piece * 5)
