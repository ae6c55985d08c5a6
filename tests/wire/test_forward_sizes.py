"""Long texts, and the short calls beside them."""

from __future__ import annotations

import asyncio

import pytest

from federation.chunks import CHUNKED_ABOVE_BYTES
from federation.tls import MeshTls
from proto.calls import Answer, Call, Exchange
from proto.errors import (
    Exhausted,
)
from proto.names import NodeId
from tests.wire.forwarding import Pair, a_call, a_pair

pytestmark = pytest.mark.timeout(30)


async def test_a_long_answer_does_not_hold_up_a_short_one(pair: Pair) -> None:
    done: list[str] = []

    async def work(call: Call, exchange: Exchange) -> Answer:
        return {"result": {"text": "x" * call.params["size"]}}

    async def note(call_id: str, size: int) -> None:
        answer = await pair.run(a_call(call_id, size=size))
        assert len(answer["result"]["text"]) == size
        done.append(call_id)

    pair.owner.answer = work
    long = asyncio.create_task(note("long", 30_000_000))
    await pair.relay.carried(1_000_000)
    await note("short", 1_000)
    assert not long.done()
    await long
    assert done == ["short", "long"]


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
