"""What a server asks in mid-call, across two nodes: how long it may take, how it is taken back, how often it may be."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from federation.asked import REQUESTS_MAX
from federation.budget import LASTING_ABOVE_MS
from proto.calls import Answer, Call, Exchange, Notification
from proto.errors import Exhausted, Expired, Unavailable
from tests.wire.forwarding import Held, Pair, a_call, echo

pytestmark = pytest.mark.timeout(30)

NAME: Notification = {"method": "elicitation/create", "params": {}}
STREAM_MS = LASTING_ABOVE_MS + 1


class Person:
    """Answers when it is told to, and knows when a question is taken back."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.taken_back = asyncio.Event()

    def event(self, notification: Notification) -> None:
        return

    async def request(self, request: Notification) -> Answer:
        self.asked.set()
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            self.taken_back.set()
            raise
        return {"result": {"name": "Anne"}}


async def asks(call: Call, exchange: Exchange) -> Answer:
    return {"result": {"said": await exchange.request(NAME)}}


async def test_a_call_does_not_expire_while_its_client_is_asked(pair: Pair) -> None:
    pair.owner.answer, person = asks, Person()
    task = pair.begin(a_call(budget_ms=1_000), person)
    await person.asked.wait()
    # Another call with the same time ends meanwhile, of its own deadline: theirs would have been over as well.
    pair.owner.answer = Held()
    other = pair.begin(a_call("c2", budget_ms=1_500))
    await asyncio.wait({other})
    assert other.exception() is not None
    assert not task.done()
    person.answer.set()
    assert await task == {"result": {"said": {"result": {"name": "Anne"}}}}


async def test_a_question_that_the_server_takes_back_is_taken_back_from_the_client(pair: Pair) -> None:
    async def takes_back(call: Call, exchange: Exchange) -> Answer:
        question = asyncio.create_task(exchange.request(NAME))
        await person.asked.wait()
        question.cancel()
        await asyncio.wait({question})
        await person.taken_back.wait()
        return {"result": {}}

    pair.owner.answer, person = takes_back, Person()
    assert await pair.run(a_call(), person) == {"result": {}}


async def test_streams_are_counted_apart_from_calls(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.forward_session.LASTING_MAX", 2)
    pair.owner.forward.calls_per_peer_max = 1
    pair.owner.answer = held = Held()
    streams = [pair.begin(a_call(f"s{n}", budget_ms=STREAM_MS)) for n in range(2)]
    await pair.owner.came("s0", "s1")
    with pytest.raises(Unavailable, match="holding open 2 streams for 'entry'"):
        await pair.run(a_call("s2", budget_ms=STREAM_MS))
    pair.owner.answer = echo
    assert await pair.run(a_call("c1", n=1)) == {"result": {"n": 1}}
    held.go.set()
    await asyncio.gather(*streams)


async def test_streams_of_one_node_are_bounded_where_they_begin(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.asking.LASTING_MAX", 1)
    pair.owner.answer = held = Held()
    stream = pair.begin(a_call("s1", budget_ms=STREAM_MS))
    await held.begun.wait()
    with pytest.raises(Unavailable, match="1 streams to 'owner'"):
        await pair.run(a_call("s2", budget_ms=STREAM_MS))
    pair.owner.answer = echo
    assert await pair.run(a_call("c1", n=1)) == {"result": {"n": 1}}
    held.go.set()
    await stream


@pytest.mark.parametrize("budget_ms", [20_000, STREAM_MS])
async def test_a_stream_ends_rather_than_miss_what_it_was_told_and_a_call_goes_on(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, budget_ms: int
) -> None:
    monkeypatch.setattr("federation.chunks.LANE_EVENTS_MAX", 2)

    async def talk(call: Call, exchange: Exchange) -> Answer:
        for n in range(5):
            exchange.event({"method": "notifications/resources/updated", "params": {"uri": f"x://{n}"}})
        await asyncio.sleep(0)
        return {"result": {}}

    pair.owner.answer = talk
    if budget_ms == STREAM_MS:
        with pytest.raises(Expired, match="does not keep up"):
            await pair.run(a_call(budget_ms=budget_ms))
    else:
        assert await pair.run(a_call(budget_ms=budget_ms)) == {"result": {}}
    assert len(pair.caller.events) == 2


@pytest.mark.parametrize(("budget_ms", "answered"), [(20_000, REQUESTS_MAX), (STREAM_MS, 2 * REQUESTS_MAX)])
async def test_a_stream_may_ask_more_often_than_a_call(pair: Pair, budget_ms: int, answered: int) -> None:
    async def asks_on(call: Call, exchange: Exchange) -> Answer:
        for n in range(2 * REQUESTS_MAX):
            try:
                await exchange.request({"method": "roots/list", "params": {"n": n}})
            except Exhausted:
                return {"result": n}
        return {"result": 2 * REQUESTS_MAX}

    pair.owner.answer = asks_on
    answer: Any = await pair.run(a_call(budget_ms=budget_ms))
    assert answer == {"result": answered}
