"""The rpc `Vectors`, over real mTLS: who is lent what, how much of it, and what a peer's answer may hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest

from federation.borrowing import borrow
from federation.ca import init_ca, issue
from federation.driver import Federation
from federation.events import Liveness
from federation.lending import CHUNK, DIGESTS_MAX, PER_PEER, Lending, Loan
from federation.tls import MeshTls
from federation.traffic import Traffic
from proto import mesh_pb2 as pb
from proto.errors import Conflict, Exhausted, Invalid, MeshError, Unavailable
from proto.mesh_pb2_grpc import MeshServicer, MeshStub, add_MeshServicer_to_server
from tests.wire.meshes import DOMAIN, WAIT_S, Mesh, at, node_id, status_where


def digest(i: int) -> bytes:
    return sha256(str(i).encode()).digest()


class Shop:
    """A lender that has the vectors of `count` texts of one model; it lends while `door` is open."""

    def __init__(self, count: int, model: str = "model-a") -> None:
        self.vectors = {digest(i): i.to_bytes(4, "big") * 192 for i in range(count)}
        self.model = model
        self.embedding = False
        self.door = asyncio.Event()
        self.door.set()
        self.asked = asyncio.Semaphore(0)

    async def lend(self, model: str, recipe: str, digests: Sequence[bytes]) -> Loan:
        self.asked.release()
        await self.door.wait()
        if model != self.model:
            raise Conflict(f"vectors here are of {self.model}")
        return Loan({d: self.vectors[d] for d in digests if d in self.vectors}, self.embedding)


async def met(mesh: Mesh, shop: Shop) -> tuple[Federation, Federation]:
    """(a node that lends, another that has met it)"""
    a, _ = await mesh.node("a", lender=shop)
    b, _ = await mesh.node("b", at(a))
    await status_where(b, lambda s: s.state is Liveness.ALIVE)
    return a, b


async def test_a_peer_is_lent_what_is_there_and_told_whether_more_is_to_come(mesh: Mesh) -> None:
    shop = Shop(2 * CHUNK + 1)
    shop.embedding = True
    a, b = await met(mesh, shop)
    wanted = [digest(i) for i in range(2 * CHUNK + 3)]
    loan = await b.borrow("a", "model-a", "1", wanted, WAIT_S)
    assert loan == (shop.vectors, True)
    (there,) = b.peers()
    assert there.totals.received_bytes > 2 * CHUNK * 768
    (here,) = a.peers()
    assert here.totals.sent_bytes > 2 * CHUNK * 768


async def test_vectors_of_another_model_are_refused_by_name(mesh: Mesh) -> None:
    _, b = await met(mesh, Shop(1))
    with pytest.raises(Conflict, match="of model-a"):
        await b.borrow("a", "model-b", "1", [digest(0)], WAIT_S)


async def test_a_node_that_lends_nothing_says_so(mesh: Mesh) -> None:
    a, _ = await mesh.node("a")
    b, _ = await mesh.node("b", at(a))
    await status_where(b, lambda s: s.state is Liveness.ALIVE)
    with pytest.raises(Conflict, match="lends no vectors"):
        await b.borrow("a", "model-a", "1", [digest(0)], WAIT_S)
    with pytest.raises(Unavailable, match="not known"):
        await b.borrow("c", "model-a", "1", [digest(0)], WAIT_S)


async def test_a_node_of_another_trust_domain_is_lent_nothing(mesh: Mesh, tmp_path: Path) -> None:
    other = tmp_path / "other"
    init_ca(other, "other.test")
    both = tmp_path / "both.pem"
    both.write_bytes((mesh.ca / "ca.pem").read_bytes() + (other / "ca.pem").read_bytes())
    _, cert, key = issue(mesh.ca, node_id("a"), tmp_path / "a")
    trusting = MeshTls.load(both, cert, key)
    shop = Shop(1)
    mesh.tls = lambda *_, **__: trusting  # type: ignore[method-assign]
    a, _ = await mesh.node("a", lender=shop)
    _, cert, key = issue(other, node_id("b", "other.test"), tmp_path / "b")
    foreign = MeshTls.load(both, cert, key)
    options = foreign.channel_options(node_id("a"))
    async with grpc.aio.secure_channel(at(a), foreign.channel_credentials(), options=options) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in MeshStub(channel).Vectors(pb.VectorsRequest(model="model-a", digests=[digest(0)])):
                pass
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert f"another trust domain than {DOMAIN}" in str(refused.value.details())
    assert shop.asked.locked()


async def test_more_than_is_answered_at_a_time_is_refused() -> None:
    lending = Lending(Shop(1))
    peer = node_id("b")
    for request, problem in (
        (pb.VectorsRequest(digests=[digest(i) for i in range(DIGESTS_MAX + 1)]), "at most 512"),
        (pb.VectorsRequest(digests=[b"short"]), "32 bytes"),
        (pb.VectorsRequest(model="m" * 501), "characters"),
    ):
        with pytest.raises(Invalid, match=problem):
            async for _ in lending.answer(request, peer):
                pass


async def test_a_peer_that_asks_too_much_at_once_is_put_off_and_the_others_are_not() -> None:
    shop = Shop(1)
    shop.door.clear()
    lending = Lending(shop)

    async def ask(peer: str) -> int:
        request = pb.VectorsRequest(model="model-a", digests=[digest(0)])
        return sum([len(reply.vectors) async for reply in lending.answer(request, node_id(peer))])

    asking = [asyncio.create_task(ask("b")) for _ in range(PER_PEER)]
    async with asyncio.timeout(WAIT_S):
        await shop.asked.acquire()
    with pytest.raises(Exhausted):
        await ask("b")
    other = asyncio.create_task(ask("c"))
    shop.door.set()
    async with asyncio.timeout(WAIT_S):
        assert await asyncio.gather(*asking, other) == [1, 1, 1]
        assert await ask("b") == 1


async def test_a_peer_that_does_not_read_its_answers_holds_no_more_of_them_than_it_may_ask_for() -> None:
    lending = Lending(Shop(2 * CHUNK))
    request = pb.VectorsRequest(model="model-a", digests=[digest(i) for i in range(2 * CHUNK)])
    unread = [lending.answer(request, node_id("b")) for _ in range(PER_PEER)]
    for answer in unread:
        assert len((await anext(answer)).vectors) == CHUNK
    with pytest.raises(Exhausted):
        await anext(lending.answer(request, node_id("b")))
    assert (await anext(lending.answer(request, node_id("c")))).vectors
    for answer in unread:
        await answer.aclose()  # type: ignore[attr-defined]
    assert (await anext(lending.answer(request, node_id("b")))).vectors


class Silent(MeshServicer):
    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def Vectors(self, request: Any, context: Any) -> AsyncIterator[pb.VectorsReply]:  # type: ignore[override]  # noqa: N802
        self.asked.set()
        await asyncio.Event().wait()
        yield pb.VectorsReply()


async def test_a_connection_that_is_closed_meanwhile_is_a_peer_that_cannot_be_asked() -> None:
    silent = Silent()
    async with listening(silent) as channel:
        asking = asyncio.create_task(borrow(channel, "model-a", "1", [digest(0)], WAIT_S, Traffic()))
        await silent.asked.wait()
        await channel.close()
        for asked in (asking, borrow(channel, "model-a", "1", [digest(0)], WAIT_S, Traffic())):
            with pytest.raises(Unavailable, match="closed"):
                await asked


async def test_who_gives_up_asking_is_cancelled() -> None:
    silent = Silent()
    async with listening(silent) as channel:
        asking = asyncio.create_task(borrow(channel, "model-a", "1", [digest(0)], WAIT_S, Traffic()))
        await silent.asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


class Liar(MeshServicer):
    """Answers `Vectors` with whatever a test wants, and then may break off."""

    def __init__(self, *replies: pb.VectorsReply, breaks: bool = False) -> None:
        self.replies = replies
        self.breaks = breaks

    async def Vectors(self, request: Any, context: Any) -> AsyncIterator[pb.VectorsReply]:  # type: ignore[override]  # noqa: N802
        for reply in self.replies:
            yield reply
        if self.breaks:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")


@asynccontextmanager
async def listening(servicer: MeshServicer) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    add_MeshServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


def reply(number: int, size: int = 768) -> pb.VectorsReply:
    return pb.VectorsReply(vectors=[pb.VectorsReply.Vector(digest=digest(number), float16_le=b"v" * size)])


@pytest.mark.parametrize(
    ("liar", "error"),
    [
        (Liar(reply(1)), Invalid),
        (Liar(reply(0), reply(0)), Invalid),
        (Liar(reply(0, 20_000)), Invalid),
        (Liar(reply(0), breaks=True), Unavailable),
        (MeshServicer(), Conflict),
    ],
    ids=["what was not asked for", "twice", "too long", "broken off", "an earlier release"],
)
async def test_what_a_peer_may_answer_is_bounded(liar: MeshServicer, error: type[MeshError]) -> None:
    async with listening(liar) as channel:
        with pytest.raises(error):
            await borrow(channel, "model-a", "1", [digest(0)], WAIT_S, Traffic())
