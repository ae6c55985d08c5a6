"""One call that runs for a peer."""

from __future__ import annotations

import asyncio

from federation.dedupe import Outcome
from federation.running import Run
from proto.calls import Answer, Call, Exchange
from proto.names import NodeId
from tests.weighing import weighed

PEER = NodeId("toolmesh.local", "eu", "entry")


async def _answer(call: Call, exchange: Exchange, peer: NodeId) -> Answer:
    return {"result": {"content": [{"type": "text", "text": call.call_id}]}}


async def _outcomes(calls: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for n in range(calls):
        run = Run(Call(f"call-{n}", "files", "tools/call", {}), PEER, 1_000_000)
        run.start(_answer, outcomes.append)
        await run.task
    return outcomes


def test_an_outcome_kept_for_repeats_takes_the_memory_that_is_counted() -> None:
    outcomes, weight = weighed(lambda: asyncio.run(_outcomes(200)))
    assert outcomes[7] == b'{"result":{"content":[{"type":"text","text":"call-7"}]}}'
    assert weight < 200 * 500
