"""What is kept of a session's streams, for how long, and who gets it."""

import pytest

from node.ingress.resumable import EventStore, Kept
from node.ingress.sessions import Session, Sessions
from node.ingress.settings import IngressSettings
from node.ingress.sse import Outbox
from proto.errors import Invalid
from proto.records import Principal

ANN = Principal("ann")


def store(events_max=10, bytes_max=1_000):
    settings = IngressSettings(session_events_max=events_max, session_events_bytes_max=bytes_max)
    return EventStore(settings, Kept(settings.events_bytes_max))


def read(stream, after):
    """(id, message) of what a client gets that comes back having seen the event `after`."""
    outbox = Outbox(100, 10_000)
    stream.connect(outbox, after)
    return [(frame.event_id, frame.message) for frame in outbox.take_frames()]


def test_a_client_reads_on_after_the_event_that_it_has_seen_and_of_that_stream_only():
    events = store()
    post, other = events.open("p"), events.open("g")
    for message in (b"1", b"2", b"3"):
        post.send(message)
        other.send(b"of another")
    assert read(post, 0) == [("p1.1", b"1"), ("p1.2", b"2"), ("p1.3", b"3")]
    assert events.find("p1.2") == (post, 2)
    assert read(post, 2) == [("p1.3", b"3")]
    assert read(post, 3) == []


def test_what_comes_later_comes_on_the_newest_connection_alone():
    events = store()
    stream = events.open("p")
    lost, back = Outbox(9, 900), Outbox(9, 900)
    stream.connect(lost)
    stream.send(b"1")
    stream.connect(back, 0)
    stream.send(b"2")
    assert (lost.closed, lost.take(), back.take()) == (True, [b"1"], [b"1", b"2"])
    # The one that was lost is noticed late.
    stream.disconnect(lost)
    stream.send(b"3")
    assert back.take() == [b"3"]


def test_an_answer_that_nobody_was_there_for_is_read_later_and_then_the_stream_is_over():
    events = store()
    stream = events.open("p")
    stream.end(b"answer")
    assert not stream.send(b"more")
    late = Outbox(9, 900)
    stream.connect(late, 0)
    assert (late.take(), late.closed) == ([b"answer"], True)


def test_the_oldest_events_of_all_streams_are_forgotten_at_either_bound_and_the_newest_never():
    events = store(events_max=3)
    first, second = events.open("p"), events.open("p")
    first.send(b"1")
    for message in (b"2", b"3", b"4"):
        second.send(message)
    assert repr(events) == "EventStore(2 streams, 3 events, 3 bytes)"
    assert read(first, 0) == []
    assert read(second, 0) == [("p2.1", b"2"), ("p2.2", b"3"), ("p2.3", b"4")]

    tight = store(bytes_max=10)
    stream = tight.open("p")
    stream.send(b"x" * 6)
    stream.send(b"y" * 6)
    assert read(stream, 0) == [("p1.2", b"y" * 6)]
    stream.send(b"z" * 60)
    assert read(stream, 0) == [("p1.3", b"z" * 60)]


def test_an_id_that_was_never_given_and_one_whose_answer_is_lost_are_refused_in_words():
    events = store(events_max=1)
    done = events.open("p")
    done.end(b"answer")
    events.open("g").send(b"pushes it out")
    for event_id in ("7", "p1", "x1.1", "p9.1", "p1.1 ", "g٣.1", ""):
        with pytest.raises(Invalid, match="not the id of an event of this session"):
            events.find(event_id)
    with pytest.raises(Invalid, match="kept no more; send the request anew"):
        events.find("p1.0")


def test_a_forgotten_stream_of_a_get_is_no_error_since_it_can_be_begun_anew():
    events = store()
    stream, connection = events.open("g"), Outbox(9, 900)
    stream.connect(connection)
    stream.disconnect(connection)
    assert events.find("g1.0") == (None, 0)
    assert repr(events) == "EventStore(0 streams, 0 events, 0 bytes)"


def test_events_that_never_left_are_anothers_and_their_ids_are_given_again():
    events = store()
    stream, other = events.open("g"), events.open("p")
    for message in (b"1", b"2", b"3"):
        stream.send(message)
        other.send(message)
    stream.retract("g1.2")
    assert repr(events) == "EventStore(2 streams, 4 events, 4 bytes)"
    stream.send(b"4")
    assert read(stream, 0) == [("g1.1", b"1"), ("g1.2", b"4")]
    assert read(other, 0) == [("p2.1", b"1"), ("p2.2", b"2"), ("p2.3", b"3")]


def test_over_the_bound_of_all_sessions_the_ones_used_the_longest_ago_lose_theirs():
    settings = IngressSettings(events_bytes_max=100)
    sessions = Sessions(settings)
    opened = []
    for at_s in range(3):
        session = Session(None, ANN, "2025-11-25", {}, settings, kept=sessions.kept)
        sessions.open(session, at_s)
        opened.append(session)
    streams = [session.events.open("p") for session in opened]
    for stream in streams[1], streams[0], streams[2]:
        stream.send(b"x" * 40)
    assert [read(stream, 0) != [] for stream in streams] == [False, False, True]
    assert sessions.kept.bytes == 40
    sessions.end(opened[2])
    assert sessions.kept.bytes == 0
