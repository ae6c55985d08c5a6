"""Nodes that stop while calls are on their way."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from federation.tls import MeshTls
from proto.calls import Answer, Call, Exchange
from proto.errors import (
    Expired,
    OutcomeUnknown,
    Unavailable,
)
from proto.names import NodeId
from tests.wire.forwarding import OWNER, Held, Owner, Pair, a_call, a_pair

pytestmark = pytest.mark.timeout(30)


async def test_a_stopping_owner_refuses_new_calls_and_says_that_they_did_not_run(pair: Pair) -> None:
    pair.owner.forward.closing = True
    with pytest.raises(Unavailable, match="stopping"):
        await pair.run(a_call())
    pair.owner.forward.closing = False
    assert await pair.run(a_call(n=1)) == {"result": {"n": 1}}


async def test_closing_ends_what_is_in_flight_here_and_at_the_owner(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    task = pair.begin(a_call())
    await held.begun.wait()
    await pair.client.close()
    await held.cancelled.wait()
    with pytest.raises((OutcomeUnknown, Expired)):
        await task
    with pytest.raises(Unavailable, match="closed"):
        await pair.run(a_call("c2"))
    assert "closed" in repr(pair.client)


@pytest.mark.parametrize("size", [1_000, 200_000, 900_000])
async def test_a_stopping_owner_ends_a_stream_once_the_answers_on_it_are_written(
    certificates: dict[NodeId, MeshTls], size: int
) -> None:
    for _ in range(5):
        async with a_pair(certificates) as pair:
            answered = asyncio.Event()

            async def work(call: Call, exchange: Exchange, said: asyncio.Event = answered) -> Answer:
                said.set()
                return {"result": {"text": "x" * size}}

            pair.owner.answer = work
            task = pair.begin(a_call())
            await answered.wait()
            await pair.owner.forward.close()
            await pair.owner._server.stop(1.0)
            assert len((await task)["result"]["text"]) == size


async def test_a_stopping_owner_finishes_what_runs_and_refuses_what_comes(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    running = pair.begin(a_call())
    await held.begun.wait()
    stopping = asyncio.create_task(pair.owner.forward.close(within_s=20))
    with pytest.raises(Unavailable, match="did not run") as caught:
        await pair.run(a_call("c2"))
    assert caught.value.data == {"stopping": True}
    held.go.set()
    assert await running == {"result": {"held": True}}
    await stopping
    assert pair.owner.ran == ["c1"]


async def test_a_call_that_reaches_an_owner_as_it_ends_the_stream_is_known_not_to_have_run(pair: Pair) -> None:
    await pair.run(a_call())
    pair.relay.allow(0)
    task = pair.begin(a_call("c2"))
    await pair.relay.held.wait()
    await pair.owner.forward.close()
    pair.relay.flow()
    with pytest.raises(Unavailable, match="did not take the call"):
        await task
    assert pair.owner.ran == ["c1"]
    assert pair.troubles == []


async def test_a_run_that_ignores_its_cancellation_is_told_as_unknown_when_its_owner_stops(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.answering.CANCEL_S", 0.01)
    never, release, begun = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def stubborn(call: Call, exchange: Exchange) -> Answer:
        begun.set()
        try:
            await never.wait()
        except asyncio.CancelledError:
            await release.wait()
        return {"result": {}}

    pair.owner.answer = stubborn
    task = pair.begin(a_call())
    await begun.wait()
    await pair.owner.forward.close(within_s=0)
    with pytest.raises(OutcomeUnknown, match="may have run") as caught:
        await task
    assert caught.value.data == {"call_id": "c1", "owner": OWNER.name}
    release.set()


async def test_no_call_is_left_in_doubt_by_owners_that_restart_under_load(certificates: dict[NodeId, MeshTls]) -> None:
    """Each is answered, or did not run and its caller may go elsewhere; long and short, up and down."""

    async def work(call: Call, exchange: Exchange) -> Answer:
        exchange.event({"method": "notifications/progress", "params": {"progress": 1}})
        await asyncio.sleep(0)
        return {"result": {"text": "x" * call.params["size"], "n": len(call.params["text"])}}

    async with a_pair(certificates) as pair:
        pair.owner.answer = work
        answered: set[str] = set()
        refused: set[str] = set()
        ran: set[str] = set()
        ids, progress = itertools.count(), asyncio.Event()

        async def keep_calling(size: int) -> None:
            while True:
                call_id = f"c{next(ids)}"
                try:
                    answer = await pair.run(a_call(call_id, size=size, text="y" * size))
                    assert answer["result"]["n"] == len(answer["result"]["text"]) == size
                    answered.add(call_id)
                except Unavailable as e:
                    refused.add(call_id)
                    await asyncio.sleep(e.data.get("retry_after_s", 0.001))
                progress.set()

        callers = [asyncio.create_task(keep_calling(size)) for size in (10, 10, 10, 1_000, 400_000, 1_500_000)]
        for _ in range(4):
            before = len(answered)
            while len(answered) < before + 60:
                progress.clear()
                await progress.wait()
            leaving, pair.owner = pair.owner, Owner(certificates[OWNER])
            pair.owner.answer = work
            await pair.owner.start()
            pair.relay.target = pair.owner.port
            await leaving.stop(within_s=10, grace_s=5)
            ran.update(leaving.ran)
            assert not [c.result() for c in callers if c.done()]
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        assert not refused & (ran | set(pair.owner.ran))
        assert answered <= ran | set(pair.owner.ran)
