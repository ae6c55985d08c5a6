"""Asking a peer for vectors: on the connection for questions, so that no call waits behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc

from federation.lending import DIGESTS_MAX, VECTOR_BYTES_MAX, Loan
from federation.statuses import error_of
from federation.traffic import Traffic
from proto import mesh_pb2 as pb
from proto.errors import Conflict, Invalid, Unavailable
from proto.mesh_pb2_grpc import MeshStub

_CLOSED = "the connection to the peer has been closed"


async def borrow(
    channel: grpc.aio.Channel, model: str, recipe: str, digests: Sequence[bytes], within_s: float, traffic: Traffic
) -> Loan:
    """At most 512 digests at a time. Raises what the peer raised (`Conflict`: it has no such vectors), `Unavailable` or
    `Expired` if it does not answer, `Invalid` for an answer to what was not asked."""
    wanted = frozenset(digests[:DIGESTS_MAX])
    request = pb.VectorsRequest(model=model, recipe=recipe, digests=list(wanted))
    traffic.sent_bytes += request.ByteSize()
    found: dict[bytes, bytes] = {}
    embedding = False
    try:
        call = MeshStub(channel).Vectors(request, timeout=within_s)
    except grpc.aio.UsageError:
        raise Unavailable(_CLOSED) from None
    try:
        async for reply in call:
            traffic.received_bytes += reply.ByteSize()
            embedding = reply.embedding
            for vector in reply.vectors:
                if vector.digest not in wanted or vector.digest in found:
                    raise Invalid("the peer sent a vector that was not asked for, or one twice")
                if len(vector.float16_le) > VECTOR_BYTES_MAX:
                    raise Invalid(f"the peer sent a vector of {len(vector.float16_le)} bytes")
                found[vector.digest] = vector.float16_le
    except grpc.aio.AioRpcError as e:
        if e.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise Conflict("the peer is of a release that lends no vectors") from None
        raise error_of(e) from None
    except asyncio.CancelledError:
        # Of this task, or of the call alone, whose channel was closed because the peer is gone.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Unavailable(_CLOSED) from None
    finally:
        call.cancel()
    return Loan(found, embedding)
