"""Calls between whole federations: what owner streams show of a peer reaches the calls that it runs."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from federation.events import Liveness
from proto.calls import Answer, Call, Exchange
from proto.errors import OutcomeUnknown, Unavailable
from proto.names import NodeId
from tests.wire.forwarding import Caller, Held, a_call
from tests.wire.meshes import Mesh, at, status_where

pytestmark = pytest.mark.timeout(60)


async def test_a_node_that_restarts_under_load_leaves_no_call_in_doubt(mesh: Mesh) -> None:
    """Each call is answered, or is known not to have run; afterwards all are answered again."""
    owner, _ = await mesh.node("b")
    entry, heard = await mesh.node("a", at(owner))
    await heard.until(lambda: heard.state("b") is Liveness.ALIVE)
    ran: set[str] = set()

    async def work(call: Call, exchange: Exchange, peer: NodeId) -> Answer:
        ran.add(call.call_id)
        await asyncio.sleep(0)
        return {"result": {"text": "x" * call.params["size"]}}

    owner._answer = work
    answered: set[str] = set()
    refused: set[str] = set()
    ids, progress = itertools.count(), asyncio.Event()

    async def keep_calling(size: int) -> None:
        while True:
            call_id = f"c{next(ids)}"
            try:
                await entry.target("b").call(a_call(call_id, size=size), Caller())
                answered.add(call_id)
            except Unavailable:
                refused.add(call_id)
                await asyncio.sleep(0.005)
            progress.set()

    async def more(calls: int) -> None:
        until = len(answered) + calls
        while len(answered) < until:
            progress.clear()
            await progress.wait()

    callers = [asyncio.create_task(keep_calling(size)) for size in (10, 10, 700_000)]
    await more(20)
    address = at(owner)
    await owner.stop()
    successor, _ = await mesh.node("b", listen=address)
    successor._answer = work
    await more(20)
    for caller in callers:
        caller.cancel()
    ends = await asyncio.gather(*callers, return_exceptions=True)
    assert [end for end in ends if not isinstance(end, asyncio.CancelledError)] == []
    assert refused
    assert not refused & ran


async def test_a_call_at_a_node_that_dies_is_told_as_unknown_once_its_death_is_known(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.patience.RECOVERY_CUT_S", 0.2)
    owner, _ = await mesh.node("b")
    entry, heard = await mesh.node("a", at(owner))
    await heard.until(lambda: heard.state("b") is Liveness.ALIVE)
    held = Held()

    async def work(call: Call, exchange: Exchange, peer: NodeId) -> Answer:
        return await held(call, exchange)

    owner._answer = work
    task = asyncio.create_task(entry.target("b").call(a_call(), Caller()))
    await held.begun.wait()
    assert owner._server is not None
    await owner._server.stop(None)
    with pytest.raises(OutcomeUnknown, match="the call may have run") as caught:
        await task
    assert caught.value.data == {"call_id": "c1", "owner": "b"}
    assert heard.state("b") in (Liveness.UNREACHABLE, Liveness.DOWN)
    held.go.set()


async def test_calls_and_bytes_show_in_the_status_of_both_nodes(mesh: Mesh) -> None:
    owner, _ = await mesh.node("b")
    entry, heard = await mesh.node("a", at(owner))
    await heard.until(lambda: heard.state("b") is Liveness.ALIVE)
    await entry.target("b").call(a_call(text="x" * 1_000_000), Caller())
    there = await status_where(owner, lambda s: s.node is not None and s.node.name == "a")
    here = await status_where(entry, lambda s: s.node is not None and s.node.name == "b")
    assert (here.totals.calls, there.totals.calls) == (1, 1)
    assert here.totals.sent_bytes > 1_000_000
    assert there.totals.received_bytes > 1_000_000
