"""Every RPC between nodes, and every frame that may begin its stream × everybody who might dial."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from federation.ca import init_ca, issue
from federation.tls import MeshTls
from proto import mesh_pb2 as pb
from proto.names import NodeId
from tests.matrix import rpcs
from tests.matrix.world import MESH, PATIENCE_S, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROWS = rpcs.rows()
SERVICE = pb.DESCRIPTOR.services_by_name["Mesh"]
HELLO = pb.Hello(mesh=MESH, protocol_min=1, protocol_max=1)
ASKED = pb.Principal(subject="anonymous", kind="anonymous")
FIRST: dict[tuple[str, str], Any] = {
    ("Sync", "ack"): pb.Ack(seq=1),
    ("Sync", "reject"): pb.Reject(seq=1, kind=pb.Kind.KIND_TOOL, id="x"),
    ("Sync", "refuse"): pb.Refuse(reason="frame"),
    ("Forward", "query"): pb.Query(principal=ASKED),
    ("Forward", "reply"): pb.Reply(request_id=1, answer=b"{}"),
    ("Forward", "cancel"): pb.Cancel(),
    ("Forward", "window"): pb.Window(bytes=1),
    ("Forward", "chunk"): pb.Chunk(data=b"x"),
}


class Certificates:
    """Channels to the owner by whose certificate they show."""

    def __init__(self, world: World, stack: AsyncExitStack) -> None:
        self._world, self._stack = world, stack
        self.channels: dict[str, grpc.aio.Channel] = {}

    async def make(self) -> None:
        base = self._world.base
        init_ca(base / "other-mesh", MESH)
        shown = {
            "foreign": self._issued(base / "other-mesh", "stranger"),
            "ended": self._ended(self._issued(base / "mesh", "ended")),
            "agent": self._world.ca.issue("mesh-agent", x509.UniformResourceIdentifier(f"spiffe://{MESH}/node/x"))[:2],
            "itself": self._issued(base / "mesh", "west"),
            "peer": self._issued(base / "mesh", "caller"),
            "authority": self._issued(base / "mesh", "ruler", "authority"),
        }
        ca = (base / "mesh" / "ca.pem").read_bytes()
        mine = MeshTls.load(base / "mesh" / "ca.pem", *shown["peer"])
        west = NodeId.of(MESH, "eu", "west")
        assert self._world.owner.federation is not None
        address = f"127.0.0.1:{self._world.owner.federation.bound_port}"
        for name in rpcs.COLUMNS:
            chain, key = (f.read_bytes() for f in shown[name]) if name in shown else (None, None)
            credentials = grpc.ssl_channel_credentials(ca, key, chain)
            options = [*mine.channel_options(west), ("grpc.use_local_subchannel_pool", 1)]
            channel = grpc.aio.secure_channel(address, credentials, options=options)
            self.channels[name] = await self._stack.enter_async_context(channel)

    def _issued(self, ca: Path, name: str, *roles: str) -> tuple[Path, Path]:
        files = issue(ca, NodeId.of(MESH, "eu", name), self._world.base / f"rpc-{name}", roles=roles)
        return Path(files.cert), Path(files.key)

    def _ended(self, files: tuple[Path, Path]) -> tuple[Path, Path]:
        """The same certificate, signed by the mesh's own authority, of last year."""
        certificate = x509.load_pem_x509_certificate(files[0].read_bytes())
        issuer = x509.load_pem_x509_certificate((self._world.base / "mesh" / "ca.pem").read_bytes())
        signer: Any = serialization.load_pem_private_key(
            (self._world.base / "mesh" / "ca-key.pem").read_bytes(), password=None
        )
        then = datetime.now(UTC) - timedelta(days=365)
        builder = x509.CertificateBuilder().subject_name(certificate.subject).issuer_name(issuer.subject)
        builder = builder.public_key(certificate.public_key()).serial_number(x509.random_serial_number())  # type: ignore[arg-type]
        builder = builder.not_valid_before(then).not_valid_after(then + timedelta(days=30))
        for extension in certificate.extensions:
            builder = builder.add_extension(extension.value, critical=extension.critical)
        files[0].write_bytes(builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return files


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def certificates(world: World) -> AsyncIterator[Certificates]:
    async with AsyncExitStack() as stack:
        made = Certificates(world, stack)
        await made.make()
        yield made


def opening(name: str, call_id: str) -> pb.CallUp:
    frame = pb.Open(
        server="nothing", method="tools/call", params=b"{}", client_capabilities=b"{}", era="2025-11-25",
        principal=ASKED, budget_ms=20_000, via=[name],
    )  # fmt: skip
    return pb.CallUp(call_id=call_id, open=frame)


async def word(channel: grpc.aio.Channel, rpc: str, frame: str, bearer: str) -> str:
    method = SERVICE.methods_by_name[rpc]
    path = f"/{SERVICE.full_name}/{rpc}"
    try:
        async with asyncio.timeout(PATIENCE_S):
            if not method.client_streaming:
                asked = pb.WitnessRequest(node=f"spiffe://{MESH}/region/eu/node/lord") if rpc == "Witness" else None
                asked = asked or getattr(pb, method.input_type.name)()
                if method.server_streaming:
                    async for _ in channel.unary_stream(path, request_serializer=_bytes)(asked):
                        break
                else:
                    await channel.unary_unary(path, request_serializer=_bytes)(asked)
                return "reply"
            call = channel.stream_stream(path, request_serializer=_bytes)()
            return await (_synced(call, frame) if rpc == "Sync" else _forwarded(call, frame, bearer))
    except grpc.aio.AioRpcError as e:
        match e.code():
            case grpc.StatusCode.UNAVAILABLE:
                return "tls" if "andshake" in (e.details() or "") or "SSL" in str(e) or _refused(e) else str(e)
            case grpc.StatusCode.UNAUTHENTICATED:
                return "who"
            case grpc.StatusCode.INVALID_ARGUMENT:
                return "frame"
            case grpc.StatusCode.UNIMPLEMENTED:
                return "none"
            case grpc.StatusCode.ABORTED:
                return "off"
        return str(e)


def _refused(error: grpc.aio.AioRpcError) -> bool:
    """TLS 1.3: a client's certificate is judged when the client has already begun to speak."""
    return any(said in str(error) for said in ("Socket closed", "Connection reset", "recvmsg", "failed to connect"))


async def _synced(call: Any, frame: str) -> str:
    first = pb.SyncUp(hello=HELLO) if frame == "hello" else pb.SyncUp(**{frame: FIRST["Sync", frame]})
    await call.write(first)
    data = await call.read()
    if data is grpc.aio.EOF:
        await call
        return "ended"
    call.cancel()
    return pb.SyncDown.FromString(data).WhichOneof("frame") or "nothing"


async def _forwarded(call: Any, frame: str, bearer: str) -> str:
    if frame != "open":
        await call.write(pb.CallUp(call_id="first", **{frame: FIRST["Forward", frame]}))
    # That the stream goes on is seen by the answer to what is asked next.
    await call.write(opening(bearer, "next"))
    told = {}
    while "next" not in told:
        data = await call.read()
        if data is grpc.aio.EOF:
            await call
            return "ended"
        down = pb.CallDown.FromString(data)
        told[down.call_id] = down
    call.cancel()
    said = told.get("first") if frame != "open" else told["next"]
    if said is None:
        return "passed"
    kinds = {pb.ERROR_KIND_UNKNOWN: "hid", pb.ERROR_KIND_UNAVAILABLE: "away"}
    return kinds.get(said.error.kind, str(said)) if said.WhichOneof("frame") == "error" else str(said)


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


async def test_every_rpc_and_every_frame_has_its_row_and_every_row_its_rpc() -> None:
    there = set[tuple[str, str]]()
    for method in SERVICE.methods:
        if method.client_streaming:
            there |= {(method.name, f.name) for f in method.input_type.oneofs_by_name["frame"].fields}
        else:
            there.add((method.name, ""))
    assert there == ROWS.keys()


@pytest.mark.parametrize(("rpc", "frame"), ROWS, ids=lambda part: part or "-")
async def test_everybody_gets_what_the_table_says(certificates: Certificates, rpc: str, frame: str) -> None:
    bearers = {"peer": "caller", "authority": "ruler"}
    told = {name: await word(certificates.channels[name], rpc, frame, bearers.get(name, name)) for name in rpcs.COLUMNS}
    assert told == dict(zip(rpcs.COLUMNS, ROWS[rpc, frame], strict=True))
