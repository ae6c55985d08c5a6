"""What an owner does not take, from a node or from a stranger."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc
import pytest

from federation.forward_session import KEY_CHARS_MAX
from federation.refusals import Reason
from proto import mesh_pb2 as pb
from proto.calls import Call
from proto.errors import (
    Invalid,
    Unavailable,
)
from proto.mesh_pb2_grpc import MeshStub
from tests.wire.forwarding import ENTRY, OWNER, Held, Pair, a_call, echo, the_end

VIA = [ENTRY.name]

pytestmark = pytest.mark.timeout(30)


async def test_a_call_that_has_passed_through_a_node_before_is_refused(pair: Pair) -> None:
    call = Call("c1", "files", "tools/call", {}, via=("elsewhere",))
    with pytest.raises(Invalid, match="via"):
        await pair.run(call)
    assert pair.owner.ran == []


async def test_more_calls_than_the_bound_are_refused_on_either_side(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    pair.owner.forward.calls_per_peer_max = 2
    tasks = [pair.begin(a_call(f"c{n}")) for n in range(2)]
    await held.begun.wait()
    with pytest.raises(Unavailable, match="2 calls for 'entry' already"):
        await pair.run(a_call("c2"))
    small = pair.dial(calls_max=0)
    with pytest.raises(Unavailable, match="0 calls"):
        await small.call(a_call("c3"), pair.caller)
    held.go.set()
    await asyncio.gather(*tasks)
    pair.owner.answer = echo
    assert await pair.run(a_call("c4", n=4)) == {"result": {"n": 4}}


async def test_a_query_for_a_call_that_never_came_is_told_so_and_held_to_it(pair: Pair) -> None:
    async with pair.channel() as channel:
        stream = MeshStub(channel).Forward()
        await stream.write(pb.CallUp(call_id="lost", query=pb.Query()))
        answer = await stream.read()
        assert answer.error.kind == pb.ErrorKind.ERROR_KIND_UNAVAILABLE
        await stream.write(pb.CallUp(call_id="lost", open=pb.Open(server="files", method="m", budget_ms=1000)))
        late = await stream.read()
        assert late.error.kind == pb.ErrorKind.ERROR_KIND_UNAVAILABLE
        assert pair.owner.ran == []
        stream.cancel()


async def test_names_too_long_to_be_remembered_are_refused_whoever_bears_them(pair: Pair) -> None:
    someone = pb.Principal(subject="s" * KEY_CHARS_MAX)
    async with pair.channel() as channel:
        stream = MeshStub(channel).Forward()
        for frame in (
            pb.CallUp(call_id="i" * (KEY_CHARS_MAX + 1), query=pb.Query()),
            pb.CallUp(call_id="queried", query=pb.Query(principal=someone)),
            pb.CallUp(call_id="opened", open=pb.Open(params=b"{}", budget_ms=1000, principal=someone)),
        ):
            await stream.write(frame)
            assert (await stream.read()).error.kind == pb.ErrorKind.ERROR_KIND_INVALID
        stream.cancel()
    assert repr(pair.owner.forward.repeats) == "Repeats(0 running, 0 past, 0 bytes kept)"
    assert pair.owner.forward.refusals.totals["here", Reason.FRAME] == 3


async def test_params_that_were_announced_and_do_not_come_keep_their_place_until_the_deadline_of_their_call(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.answering.INCOMING_BYTES_MAX", 2_000_000)
    async with pair.channel() as channel:
        stream = MeshStub(channel).Forward()
        await stream.write(pb.CallUp(call_id="slow", open=pb.Open(chunked_bytes=900_000, budget_ms=500)))
        await stream.write(pb.CallUp(call_id="more", open=pb.Open(chunked_bytes=900_000, budget_ms=60_000)))
        refused = await stream.read()
        assert (refused.call_id, refused.error.kind) == ("more", pb.ErrorKind.ERROR_KIND_UNAVAILABLE)
        # Another peer's share of the room is its own.
        assert pair.owner.forward.reserve(OWNER.uri, 900_000)
        late = await stream.read()
        assert (late.call_id, late.error.kind) == ("slow", pb.ErrorKind.ERROR_KIND_EXPIRED)
        assert pair.owner.forward.reserve(ENTRY.uri, 900_000)
        stream.cancel()
    assert pair.owner.ran == []


async def test_unknown_frames_are_ignored_and_bad_ones_refused_alone(pair: Pair) -> None:
    async with pair.channel() as channel:
        stream = MeshStub(channel).Forward()
        await stream.write(pb.CallUp(call_id="newer"))
        await stream.write(pb.CallUp(call_id="never-opened", chunk=pb.Chunk(data=b"x")))
        await stream.write(pb.CallUp(call_id="bad", open=pb.Open(params=b"[", budget_ms=1000)))
        answer = await stream.read()
        assert (answer.call_id, answer.error.kind) == ("bad", pb.ErrorKind.ERROR_KIND_INVALID)
        await stream.write(pb.CallUp(call_id="good", open=pb.Open(params=b'{"n":1}', budget_ms=10_000, via=VIA)))
        assert (await the_end(stream)).result.answer == b'{"result":{"n":1}}'
        stream.cancel()


async def test_a_call_that_takes_a_while_is_accepted_before_its_answer(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    async with pair.channel() as channel:
        stream = MeshStub(channel).Forward()
        await stream.write(pb.CallUp(call_id="c", open=pb.Open(params=b"{}", budget_ms=10_000, via=VIA)))
        assert (await stream.read()).WhichOneof("frame") == "accepted"
        held.go.set()
        assert (await stream.read()).result.answer == b'{"result":{"held":true}}'
        stream.cancel()


async def test_an_open_followed_at_once_by_its_cancellation_still_gets_its_end(pair: Pair) -> None:
    pair.owner.answer = Held()
    async with pair.channel() as channel:
        stream = MeshStub(channel).Forward()
        await stream.write(pb.CallUp(call_id="c", open=pb.Open(params=b"{}", budget_ms=10_000, via=VIA)))
        await stream.write(pb.CallUp(call_id="c", cancel=pb.Cancel()))
        assert (await the_end(stream)).error.kind == pb.ErrorKind.ERROR_KIND_EXPIRED
        stream.cancel()
    assert pair.owner.forward.in_flight == 0


async def test_bytes_that_are_no_message_end_their_stream_and_are_noted(pair: Pair) -> None:
    async with pair.channel() as channel:
        garble = channel.stream_stream("/toolmesh.v1.Mesh/Forward", response_deserializer=pb.CallDown.FromString)
        stream = garble()
        await stream.write(b"\xff\xff\xff")
        with suppress(grpc.aio.AioRpcError):
            while await stream.read() is not grpc.aio.EOF:
                pass
    assert pair.owner.forward.refusals.totals["here", Reason.FRAME] == 1
    assert await pair.run(a_call(n=1)) == {"result": {"n": 1}}
