"""Records, calls and errors ⇄ wire messages, without loss. Frames of owner streams: `sync_codec`.

Writing raises `Invalid` for what the wire cannot carry (a number beyond its field, a lone surrogate). Reading
raises `Invalid` for an enum value or a frame that this version does not know and for a body that is no JSON
object: never `KeyError`, so that one bad message can be refused alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from proto import calls, jsons
from proto import mesh_pb2 as pb
from proto.errors import ERRORS, Fault, Invalid, MeshError
from proto.records import ANONYMOUS, Kind, Principal, Record

K = TypeVar("K")
V = TypeVar("V")

KIND_TO_WIRE: Mapping[Kind, pb.Kind.ValueType] = {k: pb.Kind.Value(f"KIND_{k.name}") for k in Kind}
KIND_FROM_WIRE = {number: kind for kind, number in KIND_TO_WIRE.items()}
_ERROR_TO_WIRE: Mapping[str, pb.ErrorKind.ValueType] = {
    kind: pb.ErrorKind.Value(f"ERROR_KIND_{kind.upper()}") for kind in ERRORS
}
_ERROR_FROM_WIRE = {number: kind for kind, number in _ERROR_TO_WIRE.items()}


@contextmanager
def writing(what: str) -> Iterator[None]:
    """What the wire cannot carry is `Invalid`."""
    # protobuf reports a number out of range or an unencodable string as ValueError, a wrong type as TypeError.
    try:
        yield
    except (ValueError, TypeError) as e:
        raise Invalid(f"{what} does not fit the wire: {e}") from None


def known(table: Mapping[K, V], value: K, what: str) -> V:
    """The entry, or `Invalid`: never `KeyError`, since a newer peer may mean something by it."""
    try:
        return table[value]
    except KeyError:
        raise Invalid(f"{what} {value!r} is not known to this version") from None


# ---- records -------------------------------------------------------------------------------------


def record_to_wire(record: Record) -> pb.Record:
    with writing(f"{record.kind} record {record.id!r}"):
        return pb.Record(
            kind=KIND_TO_WIRE[record.kind],
            id=record.id,
            digest=record.digest,
            body=record.body,
            owner=record.owner,
            key_id=record.key_id,
            signature=record.signature,
        )


def record_from_wire(wire: pb.Record) -> Record:
    """The record as it came: whether body and digest agree is `Record.verify`'s to say."""
    kind = known(KIND_FROM_WIRE, wire.kind, "record kind")
    return Record(kind, wire.id, wire.digest, wire.body, wire.owner, wire.key_id, wire.signature)


# ---- calls ---------------------------------------------------------------------------------------


def _object_to_wire(value: Mapping[str, Any]) -> bytes:
    return jsons.dumps(value) if value else b""


def _object_from_wire(data: bytes, what: str) -> dict[str, Any]:
    return jsons.loads_object(data, what) if data else {}


def principal_to_wire(p: Principal) -> pb.Principal:
    return pb.Principal(
        subject=p.subject,
        issuer=p.issuer,
        tenant=p.tenant,
        groups=p.groups,
        scopes=p.scopes,
        kind=p.kind,
        actors=p.actors,
        credential=p.credential,
        expires_s=p.expires_s,
    )


def principal_from_wire(wire: pb.Principal) -> Principal:
    return Principal(
        subject=wire.subject,
        issuer=wire.issuer,
        tenant=wire.tenant,
        groups=tuple(wire.groups),
        scopes=tuple(wire.scopes),
        kind=wire.kind,
        actors=tuple(wire.actors),
        credential=wire.credential,
        expires_s=wire.expires_s,
    )


def _open_to_wire(frame: calls.Open) -> pb.Open:
    call = frame.call
    return pb.Open(
        server=call.server,
        method=call.method,
        params=_object_to_wire(call.params),
        tool_digest=call.tool_digest,
        session_key=call.session_key,
        client_capabilities=_object_to_wire(call.client_capabilities),
        era=call.era,
        principal=principal_to_wire(call.principal),
        budget_ms=call.budget_ms,
        via=call.via,
        trace=call.trace,
        chunked_bytes=frame.chunked_bytes,
        assertion=frame.assertion,
    )


def _open_from_wire(call_id: str, o: pb.Open) -> calls.Open:
    call = calls.Call(
        call_id=call_id,
        server=o.server,
        method=o.method,
        params=_object_from_wire(o.params, "params"),
        principal=principal_from_wire(o.principal) if o.HasField("principal") else ANONYMOUS,
        budget_ms=o.budget_ms,
        era=o.era,
        tool_digest=o.tool_digest,
        session_key=o.session_key,
        client_capabilities=_object_from_wire(o.client_capabilities, "client_capabilities"),
        via=tuple(o.via),
        trace=dict(o.trace),
    )
    return calls.Open(call, o.chunked_bytes, o.assertion)


def call_up_to_wire(call_id: str, frame: calls.CallUp) -> pb.CallUp:
    with writing(f"{type(frame).__name__} of call {call_id!r}"):
        match frame:
            case calls.Open():
                return pb.CallUp(call_id=call_id, open=_open_to_wire(frame))
            case calls.Reply():
                answer = _object_to_wire(frame.answer)
                reply = pb.Reply(request_id=frame.request_id, answer=answer, chunked_bytes=frame.chunked_bytes)
                if frame.failed is not None:
                    reply.error.CopyFrom(failed_to_wire(frame.failed))
                return pb.CallUp(call_id=call_id, reply=reply)
            case calls.Cancel():
                return pb.CallUp(call_id=call_id, cancel=pb.Cancel(reason=frame.reason))
            case calls.Query():
                return pb.CallUp(call_id=call_id, query=pb.Query(principal=principal_to_wire(frame.principal)))
            case calls.Window():
                return pb.CallUp(call_id=call_id, window=pb.Window(bytes=frame.bytes))
            case calls.Chunk():
                return pb.CallUp(call_id=call_id, chunk=pb.Chunk(data=frame.data))


def call_up_from_wire(wire: pb.CallUp) -> tuple[str, calls.CallUp]:
    frame: calls.CallUp
    match wire.WhichOneof("frame"):
        case "open":
            frame = _open_from_wire(wire.call_id, wire.open)
        case "reply":
            failed = failed_from_wire(wire.reply.error) if wire.reply.HasField("error") else None
            answer = _object_from_wire(wire.reply.answer, "the reply")
            frame = calls.Reply(wire.reply.request_id, answer, failed, wire.reply.chunked_bytes)
        case "cancel":
            frame = calls.Cancel(wire.cancel.reason)
        case "query":
            has = wire.query.HasField("principal")
            frame = calls.Query(principal_from_wire(wire.query.principal) if has else ANONYMOUS)
        case "window":
            frame = calls.Window(wire.window.bytes)
        case "chunk":
            frame = calls.Chunk(wire.chunk.data)
        case _:
            raise Invalid(f"a message for call {wire.call_id!r} holds no frame that this version knows")
    return wire.call_id, frame


def call_down_to_wire(call_id: str, frame: calls.CallDown) -> pb.CallDown:
    with writing(f"{type(frame).__name__} of call {call_id!r}"):
        match frame:
            case calls.Accepted():
                return pb.CallDown(call_id=call_id, accepted=pb.Accepted())
            case calls.Event():
                event = pb.Event(notification=_object_to_wire(frame.notification), chunked_bytes=frame.chunked_bytes)
                return pb.CallDown(call_id=call_id, event=event)
            case calls.Request():
                body = _object_to_wire(frame.request)
                request = pb.Request(request_id=frame.request_id, request=body, chunked_bytes=frame.chunked_bytes)
                return pb.CallDown(call_id=call_id, request=request)
            case calls.Withdrawn():
                return pb.CallDown(call_id=call_id, withdrawn=pb.Withdrawn(request_id=frame.request_id))
            case calls.Chunk():
                return pb.CallDown(call_id=call_id, chunk=pb.Chunk(data=frame.data))
            case calls.Result():
                # An answer is an object, so its text is never empty: empty on the wire means "in chunks".
                text = frame.text or b""
                result = pb.Result(answer=text, chunked_bytes=frame.chunked_bytes, repeated=frame.repeated)
                return pb.CallDown(call_id=call_id, result=result)
            case calls.Failed():
                return pb.CallDown(call_id=call_id, error=failed_to_wire(frame))
            case calls.Window():
                return pb.CallDown(call_id=call_id, window=pb.Window(bytes=frame.bytes))
            case calls.Settled():
                return pb.CallDown(call_id=call_id, settled=pb.Settled())


def call_down_from_wire(wire: pb.CallDown) -> tuple[str, calls.CallDown]:
    frame: calls.CallDown
    match wire.WhichOneof("frame"):
        case "accepted":
            frame = calls.Accepted()
        case "event":
            notification = _object_from_wire(wire.event.notification, "the notification")
            frame = calls.Event(notification, wire.event.chunked_bytes)
        case "request":
            body = _object_from_wire(wire.request.request, "the server's request")
            frame = calls.Request(wire.request.request_id, body, wire.request.chunked_bytes)
        case "withdrawn":
            frame = calls.Withdrawn(wire.withdrawn.request_id)
        case "chunk":
            frame = calls.Chunk(wire.chunk.data)
        case "result":
            frame = calls.Result(wire.result.answer or None, wire.result.chunked_bytes, wire.result.repeated)
        case "error":
            frame = failed_from_wire(wire.error)
        case "window":
            frame = calls.Window(wire.window.bytes)
        case "settled":
            frame = calls.Settled()
        case _:
            raise Invalid(f"a message for call {wire.call_id!r} holds no frame that this version knows")
    return wire.call_id, frame


# ---- errors --------------------------------------------------------------------------------------


def error_to_failed(error: MeshError) -> calls.Failed:
    """What a peer is told of an error. A fault's message stays here: only its id travels."""
    if isinstance(error, Fault):
        return calls.Failed(Fault.kind, "internal error", {"fault_id": error.data["fault_id"]})
    return calls.Failed(error.kind, error.message, dict(error.data))


def failed_to_error(failed: calls.Failed) -> MeshError:
    """The error itself, of the kind that was raised. Raises `Invalid` for a kind not in the tree."""
    return known(ERRORS, failed.kind, "error kind")(failed.message, **failed.data)


def failed_to_wire(failed: calls.Failed) -> pb.Error:
    kind = known(_ERROR_TO_WIRE, failed.kind, "error kind")
    with writing("the error"):
        return pb.Error(kind=kind, message=failed.message, data=_object_to_wire(failed.data))


def failed_from_wire(wire: pb.Error) -> calls.Failed:
    kind = known(_ERROR_FROM_WIRE, wire.kind, "error kind")
    return calls.Failed(kind, wire.message, _object_from_wire(wire.data, "the error's data"))
