"""Two nodes for tests of calls between them: real gRPC and mutual TLS, through a relay that can be cut or held."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from federation.ca import init_ca, issue
from federation.calls import ForwardClient, ForwardServer
from federation.tls import MeshTls, peer_identity
from federation.traffic import Traffic
from proto import mesh_pb2 as pb
from proto.calls import Answer, Call, Exchange
from proto.errors import (
    MeshError,
)
from proto.mesh_pb2_grpc import MeshServicer, add_MeshServicer_to_server
from proto.names import NodeId
from proto.records import Principal

ENTRY, OWNER = NodeId.of("mesh.test", "eu", "entry"), NodeId.of("mesh.test", "us", "owner")


class Owner:
    """A node that answers. `answer` may be replaced; `ran` lists the call ids that it was given."""

    def __init__(self, tls: MeshTls, **settings: Any) -> None:
        self.ran: list[str] = []
        self._came = asyncio.Event()
        self.may_witness = asyncio.Event()
        self.may_witness.set()
        self.calls: list[tuple[Call, NodeId]] = []
        self.answer: Callable[[Call, Exchange], Awaitable[Answer]] = echo
        self.forward = ForwardServer(self._answer, **settings)
        self._tls = tls
        self.port = 0

    async def _answer(self, call: Call, exchange: Exchange, peer: NodeId) -> Answer:
        self.ran.append(call.call_id)
        self._came.set()
        self.calls.append((call, peer))
        return await self.answer(call, exchange)

    async def start(self, port: int = 0) -> None:
        owner = self

        class Service(MeshServicer):
            async def Forward(self, requests: Any, context: Any) -> AsyncIterator[pb.CallDown]:  # type: ignore[override]  # noqa: N802
                async for frame in owner.forward.forward(requests, context, peer_identity(context)):
                    yield frame

            async def Witness(self, request: pb.WitnessRequest, context: Any) -> pb.WitnessReply:  # noqa: N802
                await owner.may_witness.wait()
                return pb.WitnessReply(heard=request.node == OWNER.uri, known=True)

            Sync = Present = Join = Renew = Vectors = None  # type: ignore[assignment]

        self._server = grpc.aio.server(options=self._tls.server_options())
        add_MeshServicer_to_server(Service(), self._server)
        self.port = self._server.add_secure_port(f"127.0.0.1:{port}", self._tls.server_credentials())
        await self._server.start()

    async def came(self, *call_ids: str) -> None:
        """Until these calls run here."""
        while not set(call_ids) <= set(self.ran):
            self._came.clear()
            await self._came.wait()

    async def ended(self, call_id: str) -> None:
        """Until a call that was sent has come, and its answer is on its way."""
        while call_id not in self.ran:
            self._came.clear()
            await self._came.wait()
        if tasks := [run.task for run in self.forward.repeats.runs() if run.call.call_id == call_id]:
            await asyncio.wait(tasks)

    async def stop(self, *, within_s: float = 0, grace_s: float | None = None) -> None:
        await self.forward.close(within_s)
        await self._server.stop(grace_s)


class Relay:
    """Bytes to and fro between dialler and owner. `cut` breaks what is open; `refusing` keeps it so.

    `allow(n)` lets so many more bytes pass, both ways together, then holds all that comes, as a frozen network or
    process would; `held` is set once something is held. `flow` lets everything pass again.

    It accepts by itself: a connection that an `asyncio.Server` has accepted in the turn in which it is closed is
    left open by it.
    """

    def __init__(self) -> None:
        self.target = 0
        self.refusing = False
        self.connected = asyncio.Event()
        self.held = asyncio.Event()
        self._flowing = asyncio.Event()
        self._allowed: int | None = None
        self._carried = 0
        self._more = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):  # who knocked may have gone again
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self._keep(self._connected(connection))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _connected(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        if self.refusing:
            writer.transport.abort()
            far_writer.transport.abort()
            return
        self._writers.add(far_writer)
        self.connected.set()
        self._keep(self._pump(reader, far_writer))
        self._keep(self._pump(far_reader, writer))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                while self._allowed is not None and self._allowed < len(data):
                    self.held.set()
                    await self._flowing.wait()
                if self._allowed is not None:
                    self._allowed -= len(data)
                sink.write(data)
                self._carried += len(data)
                self._more.set()
                await sink.drain()
        sink.transport.abort()

    def allow(self, size: int) -> None:
        self._allowed = size
        self._flowing.clear()
        self.held.clear()

    def flow(self) -> None:
        self._allowed = None
        self._flowing.set()

    async def carried(self, size: int) -> None:
        """Until so many more bytes have passed."""
        until = self._carried + size
        while self._carried < until:
            self._more.clear()
            await self._more.wait()

    def cut(self, *, refusing: bool = False) -> None:
        self.refusing = refusing
        self.connected.clear()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        self.cut(refusing=True)
        self.flow()
        while self._pumps:
            await asyncio.gather(*self._pumps)


class Caller:
    """An `Exchange` that keeps what it was told and answers what it is asked."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.heard = asyncio.Event()
        self.questions: list[dict[str, Any]] = []
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.refusal: MeshError | None = None

    def event(self, notification: dict[str, Any]) -> None:
        self.events.append(notification)
        self.heard.set()

    async def request(self, request: dict[str, Any]) -> Answer:
        self.questions.append(request)
        self.asked.set()
        await self.may_answer.wait()
        if self.refusal:
            raise self.refusal
        return {"result": {"answer": request["params"]}}


async def echo(call: Call, exchange: Exchange) -> Answer:
    return {"result": call.params}


def a_call(call_id: str = "c1", *, budget_ms: int = 20_000, **params: Any) -> Call:
    return Call(call_id, "files", "tools/call", params, Principal("ann"), budget_ms)


class Pair:
    def __init__(self, certificates: dict[NodeId, MeshTls]) -> None:
        self.certificates = certificates
        self.owner = Owner(certificates[OWNER])
        self.relay = Relay()
        self.caller = Caller()
        self.clients: list[ForwardClient] = []
        self.options: tuple[tuple[str, int], ...] = ()
        self.troubles: list[str] = []
        self._troubled = asyncio.Event()
        self.traffic = Traffic()

    async def start(self, **settings: Any) -> None:
        self.owner = Owner(self.certificates[OWNER], **settings)
        await self.owner.start()
        await self.relay.start()
        self.relay.target = self.owner.port
        self.client = self.dial()

    def dial(self, **settings: Any) -> ForwardClient:
        client = ForwardClient(self.channel, ENTRY.name, OWNER, trouble=self._trouble, traffic=self.traffic, **settings)
        self.clients.append(client)
        return client

    def _trouble(self, cause: str) -> None:
        self.troubles.append(cause)
        self._troubled.set()

    async def troubled(self, times: int) -> None:
        """Until so many streams have failed."""
        while len(self.troubles) < times:
            self._troubled.clear()
            await self._troubled.wait()

    def channel(self) -> grpc.aio.Channel:
        tls = self.certificates[ENTRY]
        options = [*tls.channel_options(OWNER), *self.options]
        return grpc.aio.secure_channel(f"127.0.0.1:{self.relay.port}", tls.channel_credentials(), options=options)

    def begin(self, call: Call, exchange: Exchange | None = None) -> asyncio.Task[Answer]:
        return asyncio.create_task(self.client.call(call, exchange or self.caller))

    async def run(self, call: Call, exchange: Exchange | None = None) -> Answer:
        return await self.client.call(call, exchange or self.caller)


@asynccontextmanager
async def a_pair(certificates: dict[NodeId, MeshTls], **settings: Any) -> AsyncIterator[Pair]:
    pair = Pair(certificates)
    await pair.start(**settings)
    yield pair
    for client in pair.clients:
        await client.close()
    await pair.owner.stop()
    await pair.relay.stop()


class Held:
    """An answer that begins, says so, and waits to be let go. `cancelled` is set if it was cancelled instead."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.begun, self.go, self.cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._answer = answer or {"result": {"held": True}}

    async def __call__(self, call: Call, exchange: Exchange) -> Answer:
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return self._answer


async def broken(pair: Pair) -> None:
    """Until the dialling side knows that its stream is gone."""
    stream = pair.client._reach.current
    assert stream is not None
    await asyncio.wait(stream._tasks)


async def the_end(stream: Any) -> pb.CallDown:
    """A call's last frame. Whether it is accepted before, is a matter of how busy the owner is."""
    frame: pb.CallDown = await stream.read()
    while frame.WhichOneof("frame") == "accepted":
        frame = await stream.read()
    return frame


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[NodeId, MeshTls]:
    home: Path = tmp_path_factory.mktemp("mesh")
    init_ca(home / "ca", "mesh.test")
    return {node: MeshTls.load(*issue(home / "ca", node, home / node.name)) for node in (ENTRY, OWNER)}


@pytest.fixture
async def pair(certificates: dict[NodeId, MeshTls]) -> AsyncIterator[Pair]:
    async with a_pair(certificates) as pair:
        yield pair
