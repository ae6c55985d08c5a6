"""Sessions by a clock that the test holds."""

import asyncio

import pytest

from node.ingress.reply import Outcome
from node.ingress.sessions import Session, Sessions
from node.ingress.settings import IngressSettings
from node.ingress.sse import Outbox
from proto.errors import Unavailable
from proto.records import Principal

ANN = Principal("ann")
WHO = ANN.identity


class Stream:
    """An `Out` that takes all."""

    def __init__(self) -> None:
        self.outbox = Outbox(2, 100)

    def send(self, message, *, keep=False):
        return self.outbox.push(message, keep=keep)


def opened(sessions, settings, now_s, endpoint=None):
    session = Session(endpoint, ANN, "2025-11-25", {}, settings)
    sessions.open(session, now_s)
    return session


def test_an_idle_session_is_forgotten_and_a_used_one_is_not():
    settings = IngressSettings(session_idle_s=10)
    sessions = Sessions(settings)
    old, used = opened(sessions, settings, 0), opened(sessions, settings, 0)
    assert sessions.find(used.id, None, WHO, 6) is used
    assert sessions.sweep(9.9) == 0
    assert sessions.sweep(10) == 1
    assert sessions.find(old.id, None, WHO, 10) is None
    assert sessions.find(used.id, None, WHO, 15) is used


def test_expiry_does_not_wait_for_the_sweep():
    settings = IngressSettings(session_idle_s=10)
    sessions = Sessions(settings)
    session = opened(sessions, settings, 0)
    assert sessions.find(session.id, None, WHO, 10) is None
    assert repr(sessions) == "Sessions(0 of 10000)"


def test_streams_that_come_at_once_are_no_more_than_those_that_come_one_by_one():
    settings = IngressSettings(session_streams_max=2)
    session = opened(Sessions(settings), settings, 0)
    streams = [session.open_stream("g", Outbox(4, 100)) for _ in range(5)]
    for stream in streams:
        session.attach(stream)
    assert session.streams == 2
    assert [stream.ended for stream in streams] == [True, True, True, False, False]


def test_a_session_with_an_open_stream_is_not_idle():
    settings = IngressSettings(session_idle_s=10)
    sessions = Sessions(settings)
    session, stream = opened(sessions, settings, 0), Stream()
    session.attach(stream)
    assert sessions.sweep(100) == 0
    session.detach(stream)
    assert sessions.sweep(109.9) == 0
    assert sessions.sweep(110) == 1


def test_a_sweep_looks_at_each_session_once_though_the_clock_is_beyond_all_bounds():
    settings = IngressSettings(session_idle_s=10)
    sessions = Sessions(settings)
    session, _ = opened(sessions, settings, 0), opened(sessions, settings, 0)
    session.attach(Stream())
    assert sessions.sweep(float("inf")) == 1
    assert sessions.sweep(float("inf")) == 0


async def test_a_running_call_keeps_its_session():
    settings = IngressSettings(session_idle_s=10)
    sessions = Sessions(settings)
    session = opened(sessions, settings, 0)
    release = asyncio.Event()

    async def call():
        await release.wait()
        return Outcome(b"")

    task = session.start(1, call())
    assert sessions.sweep(100) == 0
    release.set()
    await task
    assert session.end() == []
    assert sessions.sweep(1_000) == 1


def test_at_the_bound_the_longest_idle_makes_room_and_busy_ones_stay():
    settings = IngressSettings(sessions_max=2)
    sessions = Sessions(settings)
    busy, idle = opened(sessions, settings, 0), opened(sessions, settings, 1)
    busy.attach(Stream())
    third = opened(sessions, settings, 2)
    assert sessions.find(idle.id, None, WHO, 3) is None
    assert sessions.find(busy.id, None, WHO, 3) is busy
    third.attach(Stream())
    with pytest.raises(Unavailable, match="2 sessions are open and none is idle"):
        opened(sessions, settings, 4)
    assert len(sessions) == 2


def test_what_a_stream_did_not_write_goes_to_the_next_one():
    session = Session(None, ANN, "2025-06-18", {}, IngressSettings())
    older, newer, last = Outbox(9, 900), Outbox(9, 900), Outbox(9, 900)
    streams = [session.open_stream("g", outbox) for outbox in (older, newer)]
    for stream in streams:
        session.attach(stream)
    session.notify(b"written")
    assert (older.take(), newer.take()) == ([], [b"written"])
    session.notify(b"changed")
    session.disconnected(streams[1], newer)
    assert older.take() == [b"changed"]
    session.disconnected(streams[0], older)
    session.notify(b"later")
    session.notify(b"later")
    session.attach(session.open_stream("g", last))
    assert last.take() == [b"later"]
    # What was written may have been lost on the way; what was passed on is not told twice.
    again = Outbox(9, 900)
    stream, after = session.events.find("g2.0")
    stream.connect(again, after)
    assert again.take() == [b"written"]


async def test_answers_find_their_question_by_our_own_id_alone():
    session = Session(None, ANN, "2025-11-25", {}, IngressSettings(session_calls_max=2))
    (first, answer), (second, _) = session.ask(), session.ask()
    assert first != second
    assert not session.answer(str(first), {"result": {}})
    assert session.answer(first, {"result": {"a": 1}})
    assert not session.answer(first, {"result": {"a": 2}})
    assert await answer == {"result": {"a": 1}}
    with pytest.raises(Unavailable, match="2 questions"):
        session.ask()
    session.forget(first)
    assert session.ask()[0] not in (first, second)
