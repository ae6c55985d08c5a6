"""The table of gRPC statuses, held against the tree of errors, over a real RPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from federation.statuses import STATUS, abort, error_of
from proto import mesh_pb2 as pb
from proto.errors import ERRORS, Fault, MeshError, OutcomeUnknown, Unavailable
from proto.mesh_pb2_grpc import MeshServicer, MeshStub, add_MeshServicer_to_server


class Service(MeshServicer):
    error: MeshError
    foreign: grpc.StatusCode | None = None

    async def Witness(self, request: pb.WitnessRequest, context: Any) -> pb.WitnessReply:  # type: ignore[override]  # noqa: N802
        if self.foreign is not None:
            await context.abort(self.foreign, "said by somebody else", trailing_metadata=self.trailer)
        await abort(context, self.error)

    trailer: tuple[tuple[str, bytes], ...] = ()
    Sync = Forward = Join = Renew = Vectors = None  # type: ignore[assignment]


class Line:
    def __init__(self, service: Service, stub: Any) -> None:
        self.service = service
        self._stub = stub

    async def error(self) -> MeshError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self._stub.Witness(pb.WitnessRequest(), timeout=10)
        self.status = caught.value.code()
        return error_of(caught.value)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    service = Service()
    server = grpc.aio.server()
    add_MeshServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Line(service, MeshStub(channel))
    await server.stop(None)


def test_every_kind_has_a_status_of_its_own() -> None:
    assert STATUS.keys() == ERRORS.keys()
    assert len(set(STATUS.values())) == len(STATUS)
    assert grpc.StatusCode.OK not in STATUS.values()


@pytest.mark.parametrize("kind", sorted(ERRORS))
async def test_every_kind_comes_back_from_a_round_trip(line: Line, kind: str) -> None:
    line.service.error = ERRORS[kind]("grüße", detail={"deep": [1, None]})
    back = await line.error()
    assert line.status is STATUS[kind]
    assert type(back) is ERRORS[kind]
    if kind != Fault.kind:
        assert (back.message, back.data) == ("grüße", {"detail": {"deep": [1, None]}})


async def test_a_fault_tells_its_id_and_nothing_else(line: Line) -> None:
    line.service.error = Fault("hunter2", fault_id="f1")
    back = await line.error()
    assert (back.message, back.data) == ("internal error", {"fault_id": "f1"})


async def test_an_error_too_large_for_a_trailer_keeps_its_kind_and_as_much_as_fits(line: Line) -> None:
    line.service.error = Unavailable("ä" * 50_000, detail="x" * 50_000)
    back = await line.error()
    assert type(back) is Unavailable
    assert back.message == "ä" * 1024
    assert back.data == {}


@pytest.mark.parametrize("code", [c for c in grpc.StatusCode if c is not grpc.StatusCode.OK])
async def test_a_status_of_somebody_else_is_read_by_the_table(line: Line, code: grpc.StatusCode) -> None:
    line.service.foreign = code
    back = await line.error()
    assert back.message == "said by somebody else"
    own = {status: kind for kind, status in STATUS.items()}
    if code in own:
        assert back.kind == own[code]


async def test_a_trailer_that_cannot_be_read_leaves_the_status_to_speak(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    line.service.foreign = grpc.StatusCode.UNAVAILABLE
    for garbage in (b"\xff\xff", pb.Error(kind=99).SerializeToString()):  # type: ignore[arg-type]
        line.service.trailer = (("toolmesh-error-bin", garbage),)
        assert type(await line.error()) is Unavailable
    assert "cannot be read" in caplog.text


async def test_a_call_cancelled_on_the_way_has_an_unknown_outcome(line: Line) -> None:
    line.service.foreign = grpc.StatusCode.CANCELLED
    assert type(await line.error()) is OutcomeUnknown
