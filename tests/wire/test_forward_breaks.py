"""Calls whose stream breaks, and what their callers are told."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from federation.asked import Asked
from federation.chunks import Room
from federation.events import Liveness
from federation.forward_stream import Lost
from federation.tls import MeshTls
from federation.traffic import Traffic
from proto.calls import Answer, Call, Exchange
from proto.errors import OutcomeUnknown, Unavailable
from proto.names import NodeId
from tests.wire.forwarding import ENTRY, OWNER, Held, Owner, Pair, a_call, a_pair, broken

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
        asked = Asked(a_call("c2"), pair.caller, 1000, Room(0))
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


# ---- what the owner stream shows of the peer ----


async def in_doubt(pair: Pair, call_id: str = "c1") -> asyncio.Task[Answer]:
    """A call that runs at its owner, whose stream is broken and cannot be opened again."""
    pair.owner.answer = held = Held()
    task = pair.begin(a_call(call_id))
    await held.begun.wait()
    pair.relay.cut(refusing=True)
    await broken(pair)
    return task


@pytest.mark.parametrize("state", [Liveness.DOWN, Liveness.LEFT])
async def test_a_call_at_an_owner_that_is_gone_ends_at_once_as_unknown(pair: Pair, state: Liveness) -> None:
    task = await in_doubt(pair)
    pair.client.owner_is(state, "connection refused")
    with pytest.raises(
        OutcomeUnknown, match=f"it (is|has) {state}: connection refused; the call may have run"
    ) as caught:
        await task
    assert caught.value.data == {"call_id": "c1", "owner": OWNER.name}


async def test_a_stream_that_breaks_once_its_owner_is_known_to_be_down_is_not_opened_again(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    task = pair.begin(a_call())
    await held.begun.wait()
    pair.client.owner_is(Liveness.DOWN, "not heard by anybody")
    pair.relay.cut()
    with pytest.raises(OutcomeUnknown, match="and it is down: not heard by anybody"):
        await task


async def test_a_call_at_an_owner_that_cannot_be_reached_from_here_is_looked_for_a_little_while(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.patience.RECOVERY_CUT_S", 0.2)
    task = await in_doubt(pair)
    pair.client.owner_is(Liveness.SUSPECT, "its stream broke")
    pair.client.owner_is(Liveness.UNREACHABLE, "heard by another")
    with pytest.raises(OutcomeUnknown, match="it is unreachable from here: heard by another"):
        await task


async def test_an_owner_that_is_back_is_asked_at_once_what_became_of_the_call(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the pause before the next attempt had become."""
    monkeypatch.setattr("federation.reach.BACKOFF_FIRST_S", 3600)
    monkeypatch.setattr("federation.reach.BACKOFF_MAX_S", 3600)
    pair.owner.answer = held = Held()
    task = pair.begin(a_call())
    await held.begun.wait()
    pair.relay.cut(refusing=True)
    await pair.troubled(2)
    pair.client.owner_is(Liveness.UNREACHABLE, "heard by another")
    pair.relay.refusing = False
    pair.client.owner_is(Liveness.ALIVE, "")
    held.go.set()
    assert await task == {"result": {"held": True}}
    assert pair.owner.ran == ["c1"]


@pytest.mark.parametrize("state", [Liveness.UNREACHABLE, Liveness.DOWN])
async def test_a_frozen_owner_costs_its_callers_a_bounded_time(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, state: Liveness
) -> None:
    """Nothing passes and nothing is closed: neither TCP nor gRPC sees an end."""
    monkeypatch.setattr("federation.reach.OPEN_TIMEOUT_S", 0.1)
    monkeypatch.setattr("federation.patience.PROOF_DOWN_S", 0.1)
    monkeypatch.setattr("federation.patience.RECOVERY_CUT_S", 0.3)
    pair.owner.answer = held = Held()
    task = pair.begin(a_call())
    await held.begun.wait()
    pair.relay.allow(0)
    pair.client.owner_is(Liveness.SUSPECT, "silent")
    pair.client.owner_is(state, "silent")
    with pytest.raises(OutcomeUnknown, match=f"{state}.*: silent"):
        await task


async def test_an_owner_whose_process_does_nothing_is_given_up_though_its_connection_stands(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.patience.PROOF_DOWN_S", 0.1)
    pair.owner.may_witness.clear()
    pair.owner.answer = held = Held()
    task = pair.begin(a_call())
    await held.begun.wait()
    pair.client.owner_is(Liveness.DOWN, "it says nothing")
    with pytest.raises(OutcomeUnknown) as caught:
        await task
    assert caught.value.message == (
        "the stream broke (nobody answered on it within 0.1 s) and it is down: it says nothing; the call may have run"
    )


@pytest.mark.parametrize("state", [Liveness.UNREACHABLE, Liveness.DOWN])
async def test_calls_go_on_at_an_owner_that_answers_on_their_connection_whatever_is_thought_of_it(
    pair: Pair, state: Liveness
) -> None:
    pair.owner.answer = held = Held()
    task = pair.begin(a_call())
    await held.begun.wait()
    stream = pair.client._reach.current
    pair.client.owner_is(state, "it says nothing")
    asking = pair.client._reach._asking
    assert asking is not None
    await asking
    held.go.set()
    assert await task == {"result": {"held": True}}
    assert pair.client._reach.current is stream


async def test_an_owner_that_is_heard_again_is_not_asked_any_more(pair: Pair) -> None:
    await pair.run(a_call())
    pair.owner.may_witness.clear()
    pair.client.owner_is(Liveness.UNREACHABLE, "it says nothing")
    asking = pair.client._reach._asking
    assert asking is not None
    pair.client.owner_is(Liveness.ALIVE, "")
    await asyncio.wait({asking})
    assert asking.cancelled()
    assert await pair.run(a_call("c2", n=2)) == {"result": {"n": 2}}


async def test_trouble_is_told_of_what_breaks_and_not_of_what_is_ended(pair: Pair) -> None:
    await pair.run(a_call("c1"))
    await pair.client.close()
    assert pair.troubles == []
    pair.client = pair.dial()
    await pair.run(a_call("c2"))
    pair.relay.cut(refusing=True)
    await pair.troubled(1)
    with pytest.raises(Unavailable):
        await pair.run(a_call("c3"))
    assert len(pair.troubles) == 2


async def test_frames_and_calls_are_counted_on_both_sides(certificates: dict[NodeId, MeshTls]) -> None:
    there = Traffic()
    async with a_pair(certificates, traffic=lambda peer: there if peer == ENTRY else None) as pair:
        for n in range(3):
            await pair.run(a_call(f"c{n}", text="x" * 1_000_000))
        here = pair.traffic
        assert here.calls == there.calls == 3
        assert here.sent_bytes == there.received_bytes > 3_000_000
        assert here.received_bytes == there.sent_bytes > 3_000_000
