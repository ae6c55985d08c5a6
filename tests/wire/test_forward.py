"""Calls between two nodes: the straight path, its deadlines, and each call id once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from proto.calls import Answer, Call, Exchange
from proto.errors import (
    ERRORS,
    Conflict,
    Expired,
    Fault,
    OutcomeUnknown,
    Unavailable,
)
from proto.records import Principal
from tests.wire.forwarding import ENTRY, OWNER, Caller, Held, Pair, a_call, echo

pytestmark = pytest.mark.timeout(30)


async def test_a_call_is_answered_by_its_owner_who_knows_from_whom_it_came(pair: Pair) -> None:
    call = a_call(name="read", arguments={"path": "ä", "n": 2**70})
    assert await pair.run(call) == {"result": {"name": "read", "arguments": {"path": "ä", "n": 2**70}}}
    [(arrived, peer)] = pair.owner.calls
    assert peer == ENTRY
    assert arrived.via == (ENTRY.name,)
    assert (arrived.server, arrived.method, arrived.principal) == (call.server, call.method, call.principal)
    assert 0 < arrived.budget_ms <= call.budget_ms


async def test_many_calls_at_once_each_get_their_own_answer(pair: Pair) -> None:
    answers = await asyncio.gather(*(pair.run(a_call(f"c{n}", n=n)) for n in range(200)))
    assert [a["result"]["n"] for a in answers] == list(range(200))
    assert (pair.client.in_flight, pair.owner.forward.in_flight) == (0, 0)
    assert "1 streams" in repr(pair.owner.forward)


async def test_an_error_answer_of_the_server_passes_through_unchanged(pair: Pair) -> None:
    answer = {"error": {"code": -32602, "message": "no such tool", "data": {"x": None}}}

    async def refuse(call: Call, exchange: Exchange) -> Answer:
        return answer

    pair.owner.answer = refuse
    assert await pair.run(a_call()) == answer


async def test_what_a_server_says_in_one_breath_arrives_whole(pair: Pair) -> None:
    told = [{"method": "notifications/message", "params": {"level": "info", "data": n}} for n in range(3_000)]

    async def talk(call: Call, exchange: Exchange) -> Answer:
        for notification in told:
            exchange.event(notification)
        return {"result": {}}

    pair.owner.answer = talk
    await pair.run(a_call())
    assert pair.caller.events == told


async def test_progress_arrives_in_order_before_the_answer(pair: Pair) -> None:
    async def work(call: Call, exchange: Exchange) -> Answer:
        for n in range(50):
            exchange.event({"method": "notifications/progress", "params": {"progress": n}})
        return {"result": {}}

    pair.owner.answer = work
    await pair.run(a_call())
    assert [e["params"]["progress"] for e in pair.caller.events] == list(range(50))


async def test_a_caller_that_fails_to_take_a_notification_still_gets_its_answer(pair: Pair) -> None:
    class Clumsy(Caller):
        def event(self, notification: dict[str, Any]) -> None:
            raise RuntimeError("dropped it")

    async def work(call: Call, exchange: Exchange) -> Answer:
        exchange.event({"method": "notifications/message"})
        return {"result": {}}

    pair.owner.answer = work
    assert await pair.run(a_call(), Clumsy()) == {"result": {}}


async def test_a_server_may_ask_the_client_while_it_runs(pair: Pair) -> None:
    async def ask(call: Call, exchange: Exchange) -> Answer:
        first, second = await asyncio.gather(
            exchange.request({"method": "sampling/createMessage", "params": 1}),
            exchange.request({"method": "elicitation/create", "params": 2}),
        )
        return {"result": {"first": first, "second": second}}

    pair.owner.answer = ask
    answer = await pair.run(a_call())
    assert answer["result"] == {"first": {"result": {"answer": 1}}, "second": {"result": {"answer": 2}}}


async def test_a_client_that_cannot_be_asked_is_unavailable_to_the_server(pair: Pair) -> None:
    pair.caller.refusal = Unavailable("the client declares no sampling", capability="sampling")

    async def ask(call: Call, exchange: Exchange) -> Answer:
        with pytest.raises(Unavailable, match="declares no sampling") as caught:
            await exchange.request({"method": "sampling/createMessage", "params": {}})
        return {"result": caught.value.data}

    pair.owner.answer = ask
    assert await pair.run(a_call()) == {"result": {"capability": "sampling"}}


@pytest.mark.parametrize("kind", sorted(set(ERRORS) - {Fault.kind}))
async def test_what_the_owner_raises_arrives_as_the_same_kind(pair: Pair, kind: str) -> None:
    async def refuse(call: Call, exchange: Exchange) -> Answer:
        raise ERRORS[kind]("because", detail={"deep": [1]})

    pair.owner.answer = refuse
    with pytest.raises(ERRORS[kind], match="because") as caught:
        await pair.run(a_call())
    assert type(caught.value) is ERRORS[kind]
    assert caught.value.data["detail"] == {"deep": [1]}


async def test_a_bug_at_the_owner_is_a_fault_with_an_id_that_its_log_has_too(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(call: Call, exchange: Exchange) -> Answer:
        raise ZeroDivisionError("hunter2")

    pair.owner.answer = broken
    with pytest.raises(Fault) as caught:
        await pair.run(a_call())
    assert "hunter2" not in caught.value.message
    assert caught.value.data["fault_id"] in caplog.text


# ---- cancellation and deadlines ----


async def test_cancelling_the_caller_cancels_the_call_where_it_runs(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    task = pair.begin(a_call())
    await held.begun.wait()
    task.cancel()
    await held.cancelled.wait()
    with pytest.raises(asyncio.CancelledError):
        await task


async def connected(pair: Pair) -> None:
    """A short budget is for the call then, not for the handshake before it."""
    await pair.run(a_call("c0"))


async def test_a_deadline_that_the_owner_confirms_is_expired(pair: Pair) -> None:
    await connected(pair)
    pair.owner.answer = held = Held()
    with pytest.raises(Expired) as caught:
        await pair.run(a_call(budget_ms=300))
    assert caught.value.data["call_id"] == "c1"
    assert held.cancelled.is_set()


async def test_a_deadline_that_nobody_confirms_leaves_the_outcome_unknown(pair: Pair) -> None:
    never, release = asyncio.Event(), asyncio.Event()

    async def stubborn(call: Call, exchange: Exchange) -> Answer:
        try:
            await never.wait()
        except asyncio.CancelledError:
            await release.wait()
        return {"result": {}}

    pair.client = pair.dial(cancel_grace_s=0.05)
    await connected(pair)
    pair.owner.answer = stubborn
    with pytest.raises(OutcomeUnknown) as caught:
        await pair.run(a_call(budget_ms=300))
    assert caught.value.data["call_id"] == "c1"
    release.set()


async def test_an_answer_within_the_grace_after_the_deadline_counts(pair: Pair) -> None:
    never = asyncio.Event()

    async def quick_to_end(call: Call, exchange: Exchange) -> Answer:
        with suppress(asyncio.CancelledError):
            await never.wait()
        raise OutcomeUnknown("the upstream had it already", upstream=True)

    pair.client = pair.dial(cancel_grace_s=20)
    await connected(pair)
    pair.owner.answer = quick_to_end
    with pytest.raises(OutcomeUnknown) as caught:
        await pair.run(a_call(budget_ms=300))
    assert caught.value.data == {"upstream": True, "call_id": "c1", "owner": OWNER.name}


async def test_a_call_whose_time_is_up_before_it_is_sent_is_expired_and_never_runs(pair: Pair) -> None:
    with pytest.raises(Expired, match="before the call was sent"):
        await pair.run(a_call(budget_ms=0))
    assert pair.owner.ran == []


# ---- each call id once ----


async def test_a_repeated_call_id_gets_the_first_answer_and_does_not_run_again(pair: Pair) -> None:
    first = await pair.run(a_call(n=1))
    assert await pair.run(a_call(n=2)) == first
    assert pair.owner.ran == ["c1"]


async def test_a_repeat_over_another_stream_gets_the_first_answer_too(pair: Pair) -> None:
    first = await pair.run(a_call(n=1))
    assert await pair.dial().call(a_call(n=2), Caller()) == first
    assert pair.owner.ran == ["c1"]


async def test_a_repeated_failure_is_the_same_failure(pair: Pair) -> None:
    async def refuse(call: Call, exchange: Exchange) -> Answer:
        raise Conflict("changed")

    pair.owner.answer = refuse
    for _ in range(2):
        with pytest.raises(Conflict, match="changed"):
            await pair.run(a_call())
    assert pair.owner.ran == ["c1"]


async def test_a_repeat_joins_the_call_that_is_running(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    first, second = pair.begin(a_call()), pair.begin(a_call())
    await held.begun.wait()
    over_another_stream = asyncio.create_task(pair.dial().call(a_call(), Caller()))
    held.go.set()
    assert await over_another_stream == {"result": {"held": True}}
    assert pair.owner.ran == ["c1"]
    first.cancel()
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)


async def test_two_calls_of_one_id_in_flight_from_here_end_alike(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    tasks = [pair.begin(a_call()) for _ in range(3)]
    await held.begun.wait()
    held.go.set()
    assert await asyncio.gather(*tasks) == [{"result": {"held": True}}] * 3
    assert pair.owner.ran == ["c1"]


async def test_another_principal_never_joins_or_reads_a_call(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    task = pair.begin(a_call())
    await held.begun.wait()
    other = Call("c1", "files", "tools/call", {"n": 2}, Principal("bob"))
    with pytest.raises(Conflict):
        await pair.run(other)
    held.go.set()
    await task
    pair.owner.answer = echo
    assert await pair.run(other) == {"result": {"n": 2}}
    assert pair.owner.ran == ["c1", "c1"]
