"""Long texts, and the short calls beside them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from federation.chunks import CHUNKED_ABOVE_BYTES, LANE_EVENT_BYTES_MAX, WINDOW_BYTES
from federation.parting import QUESTION_BYTES_MAX, WHOLE_BYTES_MAX
from federation.refusals import Reason
from federation.tls import MeshTls
from proto import jsons
from proto import mesh_pb2 as pb
from proto.calls import CHUNK_BYTES, Answer, Call, Exchange
from proto.errors import Exhausted, Unavailable
from proto.mesh_pb2_grpc import MeshStub
from proto.names import NodeId
from tests.wire.forwarding import ENTRY, Caller, Pair, a_call, a_pair, the_end

pytestmark = pytest.mark.timeout(30)


MB = 1_000_000


# ---- flow: what is proved to be unfinished is held by a relay that lets only so much pass ----


async def test_a_long_answer_does_not_hold_up_a_short_one(pair: Pair) -> None:
    async def work(call: Call, exchange: Exchange) -> Answer:
        return {"result": {"text": "x" * call.params["size"]}}

    pair.owner.answer = work
    pair.relay.allow(20 * MB)
    long = pair.begin(a_call("long", size=50 * MB))
    await pair.relay.carried(5 * MB)
    assert len((await pair.run(a_call("short", size=1_000)))["result"]["text"]) == 1_000
    assert not pair.relay.held.is_set()
    await pair.relay.held.wait()
    assert not long.done()
    pair.relay.flow()
    assert len((await long)["result"]["text"]) == 50 * MB


async def test_long_params_do_not_hold_up_a_short_call(pair: Pair) -> None:
    async def work(call: Call, exchange: Exchange) -> Answer:
        return {"result": len(call.params["text"])}

    pair.owner.answer = work
    pair.relay.allow(20 * MB)
    long = pair.begin(a_call("long", text="x" * 50 * MB))
    await pair.relay.carried(5 * MB)
    assert await pair.run(a_call("short", text="x" * 1_000)) == {"result": 1_000}
    assert pair.owner.ran == ["short"]
    pair.relay.flow()
    assert await long == {"result": 50 * MB}


async def test_long_texts_pass_each_other_in_both_directions(pair: Pair) -> None:
    texts = ["x" * (10 * MB + n) for n in range(4)]
    answers = await asyncio.gather(*(pair.run(a_call(f"c{n}", text=text)) for n, text in enumerate(texts)))
    assert [a["result"]["text"] for a in answers] == texts


async def test_who_takes_no_more_of_a_long_answer_holds_up_nobody_and_is_sent_no_more_than_its_window(
    pair: Pair,
) -> None:
    async def work(call: Call, exchange: Exchange) -> Answer:
        return {"result": {"text": "x" * call.params["size"]}}

    pair.owner.answer = work
    async with pair.channel() as channel:
        stream = MeshStub(channel).Forward()
        await stream.write(an_open("long", size=50 * MB))
        sent = 0
        while sent < WINDOW_BYTES:
            frame = await stream.read()
            sent += len(frame.chunk.data)
        for n in range(20):
            await stream.write(an_open(f"short{n}", size=10))
            assert (await the_end(stream)).call_id == f"short{n}"
        await stream.write(pb.CallUp(call_id="long", window=pb.Window(bytes=10)))
        assert len((await stream.read()).chunk.data) == 10
        await stream.write(pb.CallUp(call_id="long", window=pb.Window(bytes=50 * MB)))
        assert len((await stream.read()).chunk.data) == CHUNK_BYTES
        stream.cancel()


async def test_answers_that_nobody_takes_are_bounded_and_the_call_that_is_too_much_is_told(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.forward_session.OWED_BYTES_MAX", 5 * MB)

    async def work(call: Call, exchange: Exchange) -> Answer:
        return {"result": {"text": "x" * call.params["size"]}}

    pair.owner.answer = work
    async with pair.channel() as channel:
        stream = MeshStub(channel).Forward()
        for n in range(3):
            await stream.write(an_open(f"c{n}", size=3 * MB))
            await pair.owner.ended(f"c{n}")
        while (frame := await stream.read()).WhichOneof("frame") != "error":
            pass
        assert frame.error.kind == pb.ErrorKind.ERROR_KIND_EXHAUSTED
        assert "the call ran" in frame.error.message
        stream.cancel()
    assert pair.owner.forward.refusals.totals["here", Reason.FULL] > 0


async def test_a_long_answer_that_is_cancelled_on_its_way_is_held_no_longer(pair: Pair) -> None:
    async def work(call: Call, exchange: Exchange) -> Answer:
        return {"result": {"text": "x" * call.params["size"]}}

    pair.owner.answer = work
    async with pair.channel() as channel:
        stream = MeshStub(channel).Forward()
        await stream.write(an_open("long", size=50 * MB))
        sent = 0
        while sent < WINDOW_BYTES:
            sent += len((await stream.read()).chunk.data)
        [session] = pair.owner.forward._sessions
        assert session.outbox.text_bytes > 40 * MB
        await stream.write(pb.CallUp(call_id="long", cancel=pb.Cancel()))
        frame = await stream.read()
        assert frame.error.kind == pb.ErrorKind.ERROR_KIND_OUTCOME_UNKNOWN
        assert "ask again by its call id" in frame.error.message
        assert session.outbox.text_bytes == 0
        stream.cancel()


async def test_answers_that_come_in_together_have_a_bound_and_the_room_comes_back(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.asking.ANSWERS_BYTES_MAX", 6 * MB)

    async def work(call: Call, exchange: Exchange) -> Answer:
        return {"result": {"text": "x" * 5 * MB}}

    pair.owner.answer = work
    pair.client = pair.dial()
    ends = await asyncio.gather(*(pair.run(a_call(f"c{n}")) for n in range(3)), return_exceptions=True)
    assert [e for e in ends if isinstance(e, Exhausted) and "the call ran" in e.message]
    assert [e for e in ends if isinstance(e, dict)]
    assert pair.client._room.taken == 0
    assert "result" in await pair.run(a_call("c3"))


def an_open(call_id: str, **params: int) -> pb.CallUp:
    return pb.CallUp(
        call_id=call_id, open=pb.Open(server="files", params=jsons.dumps(params), budget_ms=20_000, via=[ENTRY.name])
    )


# ---- sizes ----


@pytest.mark.parametrize("size", [CHUNKED_ABOVE_BYTES - 40, CHUNKED_ABOVE_BYTES, CHUNKED_ABOVE_BYTES + 1, 3_000_000])
async def test_params_and_answers_of_any_size_arrive_whole(pair: Pair, size: int) -> None:
    text = ("aé" * size)[:size]
    assert await pair.run(a_call(text=text)) == {"result": {"text": text}}


async def test_an_answer_beyond_the_bound_is_exhausted(pair: Pair) -> None:
    async def work(call: Call, exchange: Exchange) -> Answer:
        return {"result": {"text": "x" * 2_000_000}}

    pair.owner.answer = work
    pair.client = pair.dial(answer_bytes_max=1_000_000)
    with pytest.raises(Exhausted, match="1000000"):
        await pair.run(a_call())
    with pytest.raises(Exhausted, match="1000000"):
        await pair.run(a_call("c2", text="x" * 1_000_001))
    assert pair.owner.ran == ["c1"]


async def test_the_owner_bounds_params_and_answers_too(certificates: dict[NodeId, MeshTls]) -> None:
    async with a_pair(certificates, text_bytes_max=500_000) as pair:

        async def grow(call: Call, exchange: Exchange) -> Answer:
            return {"result": {"text": "x" * 600_000}}

        pair.owner.answer = grow
        with pytest.raises(Exhausted, match="params of 6"):
            await pair.run(a_call("c1", text="x" * 600_000))
        with pytest.raises(Exhausted, match="the answer is 6"):
            await pair.run(a_call("c2"))
        assert pair.owner.ran == ["c2"]


# ---- messages of a running call ----


async def test_questions_replies_and_notifications_of_any_size_arrive_whole_and_in_order(pair: Pair) -> None:
    """More in all than the first window, each way: what one text leaves of it is not lost to the next."""
    texts = [
        name * size
        for name, size in zip("abcdefgh", (10, 900_000, 20, 3 * MB, 700_000, 1, 700_000, 5 * MB), strict=True)
    ]

    async def chat(call: Call, exchange: Exchange) -> Answer:
        replies = []
        for text in texts:
            exchange.event({"method": "notifications/message", "params": text[: 3 * MB]})
            replies.append(await exchange.request({"method": "sampling/createMessage", "params": text}))
        return {"result": replies}

    pair.owner.answer = chat
    assert await pair.run(a_call(text="p" * 2 * MB)) == {"result": [{"result": {"answer": text}} for text in texts]}
    assert [e["params"] for e in pair.caller.events] == [text[: 3 * MB] for text in texts]


async def test_a_long_reply_does_not_hold_up_a_short_call(pair: Pair) -> None:
    async def ask(call: Call, exchange: Exchange) -> Answer:
        if call.call_id == "short":
            return {"result": {}}
        return {"result": len((await exchange.request({"method": "m", "params": 1}))["result"]["image"])}

    class Painter(Caller):
        async def request(self, request: dict[str, Any]) -> Answer:
            self.asked.set()
            return {"result": {"image": "x" * 30 * MB}}

    pair.owner.answer = ask
    pair.relay.allow(15 * MB)
    painter = Painter()
    long = pair.begin(a_call("long"), painter)
    await painter.asked.wait()
    await pair.relay.carried(2 * MB)
    assert await pair.run(a_call("short")) == {"result": {}}
    assert not long.done()
    pair.relay.flow()
    assert await long == {"result": 30 * MB}


async def test_messages_beyond_the_bound_are_refused_by_name_and_the_call_goes_on(pair: Pair) -> None:
    class Verbose(Caller):
        async def request(self, request: dict[str, Any]) -> Answer:
            return {"result": "x" * (QUESTION_BYTES_MAX + 1)}

    async def ask(call: Call, exchange: Exchange) -> Answer:
        exchange.event({"method": "notifications/message", "params": "x" * (LANE_EVENT_BYTES_MAX + 1)})
        with pytest.raises(Exhausted, match=f"request is .* at most {QUESTION_BYTES_MAX}"):
            await exchange.request({"method": "m", "params": "x" * QUESTION_BYTES_MAX})
        with pytest.raises(Exhausted, match=f"reply is .* at most {QUESTION_BYTES_MAX}"):
            await exchange.request({"method": "m", "params": 1})
        return {"result": {"survived": True}}

    pair.owner.answer = ask
    caller = Verbose()
    assert await pair.run(a_call(), caller) == {"result": {"survived": True}}
    assert caller.events == []


async def test_an_owner_without_room_for_a_long_reply_says_so_and_the_next_one_gets_through(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.answering.INCOMING_BYTES_MAX", 4 * MB)
    sizes = iter((3 * MB, 1 * MB))

    class Painter(Caller):
        async def request(self, request: dict[str, Any]) -> Answer:
            return {"result": "x" * next(sizes)}

    async def ask(call: Call, exchange: Exchange) -> Answer:
        with pytest.raises(Unavailable, match="too many long texts"):
            await exchange.request({"method": "m"})
        return {"result": len((await exchange.request({"method": "m"}))["result"])}

    pair.owner.answer = ask
    assert await pair.run(a_call(), Painter()) == {"result": 1 * MB}


async def test_between_versions_messages_travel_whole_as_they_did(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.answering.OURS", ())
    monkeypatch.setattr("federation.forward_stream.OURS", ())

    class Painter(Caller):
        async def request(self, request: dict[str, Any]) -> Answer:
            asked = request["params"]
            return {"result": {"answer": "x" * asked if isinstance(asked, int) else asked}}

    async def ask(call: Call, exchange: Exchange) -> Answer:
        exchange.event({"method": "notifications/message", "params": "x" * MB})
        with pytest.raises(Exhausted, match="the other node's version carries at most"):
            await exchange.request({"method": "m", "params": "x" * (WHOLE_BYTES_MAX + 1)})
        with pytest.raises(Exhausted, match="the other node's version carries at most"):
            await exchange.request({"method": "m", "params": 9 * MB})
        return await exchange.request({"method": "m", "params": "x" * 2 * MB})

    pair.owner.answer = ask
    painter = Painter()
    assert await pair.run(a_call(), painter) == {"result": {"answer": "x" * 2 * MB}}
    assert [len(e["params"]) for e in painter.events] == [MB]
