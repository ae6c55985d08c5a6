"""What waits on a stream is bounded, and what must arrive does."""

import logging

import pytest

from node.ingress import envelope
from node.ingress.http import IngressSettings
from node.ingress.sse import Outbox
from proto import jsons
from tests.weighing import weighed


def test_at_the_bound_the_oldest_notification_makes_room_and_the_loss_is_logged_once(caplog):
    box = Outbox(frames_max=2, bytes_max=100)
    with caplog.at_level(logging.WARNING, "toolmesh.ingress"):
        for message in (b"1", b"2", b"3", b"4"):
            assert box.push(message)
    assert repr(box) == "Outbox(2 waiting, 2 dropped)"
    assert box.take() == [b"3", b"4"]
    assert len(caplog.records) == 1


def test_bytes_are_bounded_too_and_a_message_longer_than_all_of_them_waits_alone():
    box = Outbox(frames_max=10, bytes_max=10)
    assert box.push(b"x" * 6)
    assert box.push(b"y" * 6)
    assert box.take() == [b"y" * 6]
    box.prime("p1.0", 1_000)
    assert box.push(b"z" * 11)
    assert box.push(b"x")
    assert box.take() == [b"x"]
    assert box.push(b"answer", keep=True)
    assert not box.push(b"z" * 11)
    assert box.dropped == 3


@pytest.mark.parametrize("keep", [False, True])
def test_that_a_thing_has_changed_waits_once_and_other_things_as_often_as_they_are_said(keep):
    def changed(uri):
        return envelope.notification({"method": "notifications/resources/updated", "params": {"uri": uri}})

    def log(data):
        return envelope.notification({"method": "notifications/message", "params": {"level": "info", "data": data}})

    box = Outbox(frames_max=4, bytes_max=10_000)
    for _ in range(100):
        assert box.push(changed("a"), keep=keep)
        assert box.push(changed("b"), keep=keep)
    assert box.push(log(1), keep=keep)
    assert box.push(changed("a"), keep=keep)
    assert box.dropped == 0
    assert box.take() == [changed("b"), log(1), changed("a")]
    assert [box.push(log(1)) for _ in range(2)] == [True, True]
    assert box.take() == [log(1), log(1)]


def test_an_answer_is_never_dropped_for_notifications_nor_for_its_length():
    box = Outbox(frames_max=2, bytes_max=10)
    assert box.push(b"answer" * 10, keep=True)
    assert not box.push(b"note")
    assert box.push(b"answer2", keep=True)
    assert box.take() == [b"answer" * 10, b"answer2"]


def test_even_answers_end_somewhere():
    box = Outbox(frames_max=2, bytes_max=10)
    assert [box.push(b"a", keep=True) for _ in range(5)] == [True, True, True, True, False]


def test_a_closed_outbox_takes_nothing_and_still_gives_what_it_has():
    box = Outbox(frames_max=2, bytes_max=10)
    box.push(b"1")
    box.close()
    assert not box.push(b"2", keep=True)
    assert (box.take(), box.take()) == ([b"1"], [])


async def test_an_event_beyond_a_mebibyte_arrives_whole(edge):
    long = "x" * (3 * 1024 * 1024)

    async def big(arguments, caller, exchange):
        exchange.event({"method": "notifications/progress", "params": {"message": long}})
        return edge.text(long)

    edge.root.tools["big"] = big
    async with edge.modern("tools/call", {"name": "big"}) as r:
        first, last = [e async for e in edge.events(r)]
    assert first["params"]["message"] == last["result"]["content"][0]["text"] == long


async def test_a_client_that_stops_reading_is_cut_off(serve):
    async with serve(IngressSettings(stall_s=0.05, stream_bytes_max=2**26)) as edge:

        async def flood(arguments, caller, exchange):
            event = {"method": "notifications/progress", "params": {"message": "x" * 2**22}}
            for _ in range(12):
                exchange.event(event)
            edge.root.started.set()
            try:
                await edge.root.release.wait()
            except BaseException:
                edge.root.cancelled.set()
                raise

        edge.root.tools["flood"] = flood
        # The client's own buffer fills, then the sockets'; nobody reads on.
        async with edge.modern("tools/call", {"name": "flood"}):
            await edge.wait(edge.root.cancelled)


async def test_the_answer_arrives_though_the_stream_overflows(serve):
    async with serve(IngressSettings(stream_frames_max=3, stream_bytes_max=200)) as edge:

        async def flood(arguments, caller, exchange):
            for step in range(50):
                exchange.event({"method": "notifications/progress", "params": {"progress": step}})
            return edge.text("x" * 500)

        edge.root.tools["flood"] = flood
        async with edge.modern("tools/call", {"name": "flood"}) as r:
            messages = [e async for e in edge.events(r)]
    assert len(messages) <= 4
    assert messages[-1]["result"]["content"][0]["text"] == "x" * 500


def test_what_waits_takes_the_memory_that_is_counted():
    box = Outbox(frames_max=100, bytes_max=1_000_000)
    _, weight = weighed(lambda: [box.push(jsons.dumps({"n": n, "text": "x" * 1_000})) for n in range(100)])
    assert weight < 100 * 1_500
