"""Calls whose stream breaks, and what their callers are told."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from federation.asked import Asked
from federation.forward_stream import Lost
from federation.tls import MeshTls
from proto.calls import Answer, Call, Exchange
from proto.errors import (
    OutcomeUnknown,
    Unavailable,
)
from proto.names import NodeId
from tests.wire.forwarding import OWNER, Held, Owner, Pair, a_call, a_pair, broken

pytestmark = pytest.mark.timeout(30)


async def test_a_call_goes_on_while_its_stream_breaks_and_its_answer_is_recovered(pair: Pair) -> None:
    go = asyncio.Event()

    async def work(call: Call, exchange: Exchange) -> Answer:
        exchange.event({"method": "notifications/progress", "params": 1})
        await go.wait()
        exchange.event({"method": "notifications/progress", "params": 2})
        return {"result": {"done": True}}

    pair.owner.answer = work
    task = pair.begin(a_call())
    await pair.caller.heard.wait()
    pair.relay.cut(refusing=True)
    await broken(pair)
    pair.relay.refusing = False
    await pair.relay.connected.wait()
    go.set()
    assert await task == {"result": {"done": True}}
    assert pair.owner.ran == ["c1"]


async def test_an_answer_that_came_while_the_stream_was_broken_is_recovered(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    task = pair.begin(a_call())
    await held.begun.wait()
    pair.relay.cut(refusing=True)
    held.go.set()
    await asyncio.wait([run.task for run in pair.owner.forward.repeats.runs()])
    pair.relay.refusing = False
    assert await task == {"result": {"held": True}}
    assert pair.owner.ran == ["c1"]


async def test_a_long_answer_cut_in_the_middle_is_sent_again_whole(pair: Pair) -> None:
    text = "x" * 8_000_000
    pair.owner.answer = held = Held({"result": {"text": text}})
    task = pair.begin(a_call())
    await held.begun.wait()
    held.go.set()
    await pair.relay.carried(1_000_000)
    pair.relay.cut()
    answer = await task
    assert answer["result"]["text"] == text
    assert pair.owner.ran == ["c1"]


async def test_the_client_is_asked_once_though_the_stream_breaks_meanwhile(pair: Pair) -> None:
    async def ask(call: Call, exchange: Exchange) -> Answer:
        return await exchange.request({"method": "elicitation/create", "params": 7})

    pair.owner.answer = ask
    pair.caller.may_answer.clear()
    task = pair.begin(a_call())
    await pair.caller.asked.wait()
    pair.relay.cut()
    await broken(pair)
    pair.caller.may_answer.set()
    assert await task == {"result": {"answer": 7}}
    assert len(pair.caller.questions) == 1


async def test_after_a_restart_of_the_owner_the_outcome_is_unknown(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    task = pair.begin(a_call())
    await held.begun.wait()
    successor = Owner(pair.certificates[OWNER])
    await successor.start()
    pair.relay.target = successor.port
    pair.relay.cut()
    with pytest.raises(OutcomeUnknown, match="restarted") as caught:
        await task
    assert caught.value.data["call_id"] == "c1"
    assert successor.ran == []
    await successor.stop()


async def test_an_owner_that_stays_away_leaves_the_outcome_unknown_at_the_deadline(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    task = pair.begin(a_call(budget_ms=700))
    await held.begun.wait()
    pair.relay.cut(refusing=True)
    with pytest.raises(OutcomeUnknown) as caught:
        await task
    assert caught.value.data["call_id"] == "c1"


async def test_a_call_put_on_a_stream_that_has_just_ended_is_lost_at_once_and_not_at_its_deadline(pair: Pair) -> None:
    await pair.run(a_call())
    stream = pair.client._reach.current
    assert stream is not None
    await stream.close()
    for put in (stream.open, stream.query):
        asked = Asked(a_call("c2"), pair.caller, 1000)
        asked.attach(stream)
        put(asked)
        with pytest.raises(Lost, match="just ended"):
            await asked.outcome()
    assert await pair.run(a_call("c3", n=3)) == {"result": {"n": 3}}


async def test_a_run_that_nobody_claims_is_cancelled(certificates: dict[NodeId, MeshTls]) -> None:
    async with a_pair(certificates, unclaimed_s=0.05) as pair:
        pair.owner.answer = held = Held()
        task = pair.begin(a_call())
        await held.begun.wait()
        pair.relay.cut(refusing=True)
        await held.cancelled.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_peer_that_cannot_be_reached_is_unavailable_and_says_when_to_try_again(pair: Pair) -> None:
    pair.relay.refusing = True
    with pytest.raises(Unavailable):
        await pair.run(a_call("c1"))
    with pytest.raises(Unavailable, match="next attempt in") as caught:
        await pair.run(a_call("c2"))
    assert caught.value.data["retry_after_s"] > 0
    assert pair.owner.ran == []


async def test_a_peer_that_comes_back_is_called_again(pair: Pair) -> None:
    assert await pair.run(a_call("c1", n=1)) == {"result": {"n": 1}}
    pair.relay.cut(refusing=True)
    await broken(pair)
    with pytest.raises(Unavailable):
        await pair.run(a_call("c2", n=2))
    pair.relay.refusing = False
    for n in range(3, 100):
        try:
            assert await pair.run(a_call(f"c{n}", n=n)) == {"result": {"n": n}}
            return
        except Unavailable as e:
            await asyncio.sleep(e.data.get("retry_after_s", 0))
    pytest.fail("the peer was back and was not called again")
