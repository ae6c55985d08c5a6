"""Peers that say whatever a test wants, byte by byte: an owner that answers and a subscriber that dials."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from federation.answering import INSTANCE_KEY
from federation.link import ADVERTISE_KEY
from federation.tls import MeshTls
from proto import mesh_pb2 as pb
from proto.names import NodeId

SERVICE = "toolmesh.v1.Mesh"
WAIT_S = 20.0


class Down:
    """One stream that a node has opened to a raw owner: what it says (`heard`), and what it is told."""

    def __init__(self, context: Any) -> None:
        self.heard: list[bytes] = []
        self._context = context

    async def say(self, *frames: bytes) -> None:
        for frame in frames:
            await self._context.write(frame)

    async def hear(self) -> bytes | None:
        """The next frame, None at the end of the stream."""
        async with asyncio.timeout(WAIT_S):
            data = await self._context.read()
        if data is grpc.aio.EOF:
            return None
        self.heard.append(data)
        return bytes(data)


Talk = Callable[[Down], Awaitable[None]]


async def nothing(stream: Down) -> None:
    """Until the other side ends it."""
    while await stream.hear() is not None:
        pass


class RawOwner:
    """A node with a certificate of the mesh, and with manners of a test's own.

    Without `presents` it is of a release that knows no `Present`.
    """

    def __init__(self, tls: MeshTls, *, sync: Talk = nothing, forward: Talk = nothing, presents: bytes | None = None):
        self.tls = tls
        self.streams: list[Down] = []
        self._talks = {"Sync": sync, "Forward": forward}
        self._presents = presents
        self.address = ""

    async def _stream(self, name: str, context: Any) -> None:
        stream = Down(context)
        if name == "Forward":
            await context.send_initial_metadata(((INSTANCE_KEY, "i1"),))
        else:
            self.streams.append(stream)
        await self._talks[name](stream)

    async def __aenter__(self) -> RawOwner:
        def bidi(name: str) -> grpc.RpcMethodHandler[bytes, bytes]:
            async def handle(_: Any, context: Any) -> None:
                await self._stream(name, context)

            return grpc.stream_stream_rpc_method_handler(handle)  # type: ignore[arg-type]

        handlers: dict[str, Any] = {name: bidi(name) for name in self._talks}
        if self._presents is not None:
            certificate = pb.Certificate(chain_pem=self._presents).SerializeToString()

            async def present(request: bytes, context: Any) -> bytes:
                return certificate

            handlers["Present"] = grpc.unary_unary_rpc_method_handler(present)  # type: ignore[arg-type]
        options = [o for o in self.tls.server_options() if "message_length" not in o[0]]
        self._server = grpc.aio.server(options=[*options, ("grpc.max_send_message_length", -1)])
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.address = f"127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', self.tls.server_credentials())}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)


class Up:
    """One stream that a raw dialler has opened to a node."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def say(self, *frames: bytes) -> None:
        for frame in frames:
            await self.call.write(frame)

    async def hear(self) -> bytes | None:
        """The next frame, None at the end of the stream. Raises gRPC's error where it ended so."""
        async with asyncio.timeout(WAIT_S):
            data = await self.call.read()
        return None if data is grpc.aio.EOF else bytes(data)

    async def ended(self) -> grpc.aio.AioRpcError:
        """How the node ended it; what it had still said is skipped."""
        try:
            while await self.hear() is not None:
                pass
        except grpc.aio.AioRpcError as e:
            return e
        return grpc.aio.AioRpcError(
            await self.call.code(), await self.call.initial_metadata(), await self.call.trailing_metadata(),
            await self.call.details(),
        )  # fmt: skip


class RawDialler:
    """A connection to one node; each stream on it is opened by name."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def open(self, name: str = "Sync", *, advertise: str = "") -> Up:
        metadata = ((ADVERTISE_KEY, advertise),) if advertise else None
        return Up(self._channel.stream_stream(f"/{SERVICE}/{name}")(metadata=metadata))


@asynccontextmanager
async def dialling(
    tls: MeshTls, address: str, peer: NodeId, credentials: grpc.ChannelCredentials | None = None
) -> AsyncIterator[RawDialler]:
    options = [o for o in tls.channel_options(peer) if "message_length" not in o[0]]
    options.append(("grpc.max_send_message_length", -1))
    async with grpc.aio.secure_channel(address, credentials or tls.channel_credentials(), options=options) as channel:
        yield RawDialler(channel)
