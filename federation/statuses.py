"""Errors as gRPC statuses: the one table, its inverse, and how an error keeps its kind on the way.

An error of ours ends an RPC with the status of its kind and, in the trailing metadata, itself as `toolmesh.v1.Error`:
a round trip returns the same kind, message and data. A status without that trailer comes from gRPC itself or
from a peer that is not toolmesh, and is read by the inverse table.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from proto import mesh_pb2 as pb
from proto.codec import error_to_failed, failed_from_wire, failed_to_error, failed_to_wire
from proto.errors import (
    ERRORS,
    Conflict,
    Exhausted,
    Expired,
    Fault,
    Forbidden,
    Invalid,
    MeshError,
    OutcomeUnknown,
    ScopeRequired,
    Unauthenticated,
    Unavailable,
    Unknown,
)

log = logging.getLogger("toolmesh.federation.statuses")

ERROR_KEY = "toolmesh-error-bin"
_TRAILER_BYTES_MAX = 4096
"""HTTP/2 peers may refuse more than 8 KiB of header list; beyond this the data, then the message, is cut."""

STATUS: Mapping[str, grpc.StatusCode] = {
    Unknown.kind: grpc.StatusCode.NOT_FOUND,
    Unauthenticated.kind: grpc.StatusCode.UNAUTHENTICATED,
    Forbidden.kind: grpc.StatusCode.PERMISSION_DENIED,
    ScopeRequired.kind: grpc.StatusCode.FAILED_PRECONDITION,
    Invalid.kind: grpc.StatusCode.INVALID_ARGUMENT,
    Conflict.kind: grpc.StatusCode.ABORTED,
    Exhausted.kind: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable.kind: grpc.StatusCode.UNAVAILABLE,
    Expired.kind: grpc.StatusCode.DEADLINE_EXCEEDED,
    OutcomeUnknown.kind: grpc.StatusCode.UNKNOWN,
    Fault.kind: grpc.StatusCode.INTERNAL,
}

_FOREIGN: Mapping[grpc.StatusCode, type[MeshError]] = {
    **{code: ERRORS[kind] for kind, code in STATUS.items()},
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.OUT_OF_RANGE: Invalid,
    grpc.StatusCode.UNIMPLEMENTED: Unavailable,
    grpc.StatusCode.CANCELLED: OutcomeUnknown,
    grpc.StatusCode.DATA_LOSS: OutcomeUnknown,
}


def trailer(error: MeshError) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries an error."""
    failed = error_to_failed(error)
    wire = failed_to_wire(failed)
    if wire.ByteSize() > _TRAILER_BYTES_MAX:
        wire.ClearField("data")
        wire.message = failed.message[: _TRAILER_BYTES_MAX // 4]  # a character is at most four bytes
    return ((ERROR_KEY, wire.SerializeToString()),)


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: MeshError) -> NoReturn:
    """End the RPC with this error. Never returns: gRPC raises its own abort from here."""
    failed = error_to_failed(error)
    details = failed.message[: _TRAILER_BYTES_MAX // 4]
    await context.abort(STATUS[error.kind], details, trailing_metadata=trailer(error))
    raise AssertionError("context.abort returned")


def error_of(error: grpc.aio.AioRpcError) -> MeshError:
    """What the peer said, or what gRPC says of the peer."""
    for key, value in error.trailing_metadata() or ():
        if key == ERROR_KEY and isinstance(value, bytes):
            try:
                return failed_to_error(failed_from_wire(pb.Error.FromString(value)))
            except (DecodeError, Invalid) as e:
                log.warning("a peer's error trailer cannot be read, its status stands instead: %s", e)
    kind = _FOREIGN.get(error.code(), OutcomeUnknown)
    return kind(error.details() or f"the peer answered with status {error.code().name}")
