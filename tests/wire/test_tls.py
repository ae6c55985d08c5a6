"""Who is let in: real gRPC servers, right and wrong certificates on either side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from federation.ca import init_ca, issue
from federation.refusals import Reason, reason_of, side_of
from federation.tls import MeshTls, learn_identity, peer_identity
from proto import mesh_pb2 as pb
from proto.errors import Invalid, Unauthenticated, Unavailable
from proto.mesh_pb2_grpc import MeshServicer, MeshStub, add_MeshServicer_to_server
from proto.names import NodeId

A, B, C = (NodeId.of("mesh.test", "eu", name) for name in "abc")


class World:
    """Two CAs of one name, and the certificates of three nodes from each."""

    def __init__(self, home: Path) -> None:
        self.home = home
        init_ca(home / "ours", "mesh.test")
        init_ca(home / "theirs", "mesh.test")
        self.ours = {n: MeshTls.load(*issue(home / "ours", n, home / "ours" / n.name)) for n in (A, B, C)}
        self.theirs = {n: MeshTls.load(*issue(home / "theirs", n, home / "theirs" / n.name)) for n in (A, B)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("mesh"))


def expired(world: World, node: NodeId, *, begins_days: int = -2, ends_days: int = -1) -> tuple[bytes, bytes]:
    """(certificate, key) of a node whose certificate ended a day ago, unless told otherwise, from our own CA."""
    ca = x509.load_pem_x509_certificate((world.home / "ours" / "ca.pem").read_bytes())
    ca_key: Any = load_pem_private_key((world.home / "ours" / "ca-key.pem").read_bytes(), None)
    tls = world.ours[node]
    good = x509.load_pem_x509_certificate(tls.cert_pem)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(good.subject)
        .issuer_name(ca.subject)
        .public_key(good.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begins_days))
        .not_valid_after(now + timedelta(days=ends_days))
    )
    for extension in good.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM), tls.key_pem


class Service(MeshServicer):
    async def Witness(self, request: pb.WitnessRequest, context: Any) -> pb.WitnessReply:  # type: ignore[override]  # noqa: N802
        self.peer = peer_identity(context)
        return pb.WitnessReply(known=True)

    Sync = Forward = Join = Renew = Vectors = None  # type: ignore[assignment]


class Node:
    def __init__(self, credentials: grpc.ServerCredentials, options: list[tuple[str, Any]]) -> None:
        self.service = Service()
        self.server = grpc.aio.server(options=options)
        add_MeshServicer_to_server(self.service, self.server)
        self.address = f"127.0.0.1:{self.server.add_secure_port('127.0.0.1:0', credentials)}"


@pytest.fixture
async def node(world: World) -> AsyncIterator[Node]:
    tls = world.ours[B]
    node = Node(tls.server_credentials(), tls.server_options())
    await node.server.start()
    yield node
    await node.server.stop(None)


async def ask(address: str, credentials: grpc.ChannelCredentials, options: list[tuple[str, Any]]) -> pb.WitnessReply:
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        return await MeshStub(channel).Witness(pb.WitnessRequest(node=A.uri), timeout=10)


async def refused(address: str, credentials: grpc.ChannelCredentials, options: list[tuple[str, Any]]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(address, credentials, options)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return str(caught.value.details())


async def test_a_node_of_the_mesh_is_let_in_and_known_by_its_certificate(world: World, node: Node) -> None:
    tls = world.ours[A]
    assert (await ask(node.address, tls.channel_credentials(), tls.channel_options(B))).known
    assert node.service.peer == A


async def test_a_dialler_of_another_ca_is_refused(world: World, node: Node) -> None:
    theirs = world.theirs[A]
    # It trusts our CA, so that its own certificate is the only thing wrong.
    credentials = grpc.ssl_channel_credentials(world.ours[A].ca_pem, theirs.key_pem, theirs.cert_pem)
    await refused(node.address, credentials, theirs.channel_options(B))


async def test_a_dialler_without_a_certificate_is_refused(world: World, node: Node) -> None:
    tls = world.ours[A]
    await refused(node.address, grpc.ssl_channel_credentials(tls.ca_pem), tls.channel_options(B))


async def test_a_dialler_without_tls_is_refused(node: Node) -> None:
    async with grpc.aio.insecure_channel(node.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await MeshStub(channel).Witness(pb.WitnessRequest(), timeout=10)


async def test_a_dialler_whose_certificate_is_out_of_time_is_refused(world: World, node: Node) -> None:
    tls = world.ours[A]
    for cert, key in (expired(world, A), expired(world, A, begins_days=1, ends_days=2)):
        await refused(node.address, grpc.ssl_channel_credentials(tls.ca_pem, key, cert), tls.channel_options(B))


async def test_a_dialled_node_of_another_ca_is_refused(world: World, node: Node) -> None:
    theirs = world.theirs[A]
    await refused(node.address, theirs.channel_credentials(), theirs.channel_options(B))


async def test_a_dialled_node_that_is_another_than_expected_is_refused(world: World, node: Node) -> None:
    tls = world.ours[A]
    assert "Check failed" in await refused(node.address, tls.channel_credentials(), tls.channel_options(C))


@pytest.mark.parametrize(("begins_days", "ends_days", "why"), [(-2, -1, "expired"), (1, 2, "not yet valid")])
async def test_a_dialled_node_whose_certificate_is_out_of_time_is_refused(
    world: World, begins_days: int, ends_days: int, why: str
) -> None:
    cert, key = expired(world, B, begins_days=begins_days, ends_days=ends_days)
    tls = world.ours[B]
    credentials = grpc.ssl_server_credentials([(key, cert)], tls.ca_pem, require_client_auth=True)
    node = Node(credentials, tls.server_options())
    await node.server.start()
    caller = world.ours[A]
    await refused(node.address, caller.channel_credentials(), caller.channel_options(B))
    with pytest.raises(Unauthenticated, match=why):
        await learn_identity(node.address, caller)
    await node.server.stop(None)


async def test_who_answers_at_an_address_is_learnt_from_its_certificate(world: World, node: Node) -> None:
    assert await learn_identity(node.address, world.ours[A]) == B


async def test_a_foreign_certificate_teaches_nothing(world: World, node: Node) -> None:
    with pytest.raises(Unauthenticated, match="does not vouch for"):
        await learn_identity(node.address, world.theirs[A])


async def test_a_dialler_learns_that_its_own_certificate_is_not_accepted(world: World, node: Node) -> None:
    stranger, ours = MeshTls.__new__(MeshTls), world.ours[A]
    cert, key = expired(world, A)
    theirs = world.theirs[A]
    for cert_pem, key_pem in ((cert, key), (theirs.cert_pem, theirs.key_pem)):
        for name, value in (("ca_pem", ours.ca_pem), ("cert_pem", cert_pem), ("key_pem", key_pem)):
            object.__setattr__(stranger, name, value)
        with pytest.raises(Unauthenticated, match="does not accept the certificate of this node") as caught:
            await learn_identity(node.address, stranger)
        assert (side_of(caught.value), reason_of(caught.value)) == ("there", Reason.CERTIFICATE)


async def test_an_address_where_nobody_answers_is_unavailable(world: World, node: Node) -> None:
    await node.server.stop(None)
    with pytest.raises(Unavailable, match=f"{node.address} cannot be reached"):
        await learn_identity(node.address, world.ours[A])


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def test_an_address_that_speaks_no_tls_is_not_believed(world: World) -> None:
    ended = asyncio.Event()

    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await hang_up(writer)
        ended.set()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unauthenticated, match="TLS handshake"):
            await learn_identity(f"127.0.0.1:{port}", world.ours[A])
        await ended.wait()


async def test_a_silent_address_is_unavailable_in_time(world: World) -> None:
    held, ended = asyncio.Event(), asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        await hang_up(writer)
        ended.set()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unavailable, match=r"did not answer within 0\.1 s"):
            await learn_identity(f"127.0.0.1:{port}", world.ours[A], timeout_s=0.1)
        held.set()
        await ended.wait()


async def test_a_malformed_address_is_invalid(world: World) -> None:
    for bad in ("", "host", "host:", ":1", "host:0", "host:65536", "host:x", "::1:7400", "host:٣"):
        with pytest.raises(Invalid, match="host:port"):
            await learn_identity(bad, world.ours[A])
