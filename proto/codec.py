"""Domain values ⇄ wire messages, without loss.

Writing raises `Invalid` for what the wire cannot carry (a number beyond its field, a lone surrogate). Reading
raises `Invalid` for an enum value or a frame that this version does not know and for a body that is no JSON
object: never `KeyError`, so that one bad message can be refused alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from proto import calls, frames, jsons
from proto import mesh_pb2 as pb
from proto.errors import ERRORS, Fault, Invalid, MeshError
from proto.records import ANONYMOUS, Kind, Principal, Record, RecordKey, Version

K = TypeVar("K")
V = TypeVar("V")

_KIND_TO_WIRE: Mapping[Kind, pb.Kind.ValueType] = {k: pb.Kind.Value(f"KIND_{k.name}") for k in Kind}
_KIND_FROM_WIRE = {number: kind for kind, number in _KIND_TO_WIRE.items()}
_MODE_TO_WIRE: Mapping[frames.Mode, pb.Mode.ValueType] = {m: pb.Mode.Value(f"MODE_{m.name}") for m in frames.Mode}
_MODE_FROM_WIRE = {number: mode for mode, number in _MODE_TO_WIRE.items()}
_BYE_TO_WIRE: Mapping[frames.Farewell, pb.Farewell.ValueType] = {
    f: pb.Farewell.Value(f"FAREWELL_{f.name}") for f in frames.Farewell
}
_BYE_FROM_WIRE = {number: farewell for farewell, number in _BYE_TO_WIRE.items()}
_ERROR_TO_WIRE: Mapping[str, pb.ErrorKind.ValueType] = {
    kind: pb.ErrorKind.Value(f"ERROR_KIND_{kind.upper()}") for kind in ERRORS
}
_ERROR_FROM_WIRE = {number: kind for kind, number in _ERROR_TO_WIRE.items()}


@contextmanager
def _writing(what: str) -> Iterator[None]:
    # protobuf reports a number out of range or an unencodable string as ValueError, a wrong type as TypeError.
    try:
        yield
    except (ValueError, TypeError) as e:
        raise Invalid(f"{what} does not fit the wire: {e}") from None


def _known(table: Mapping[K, V], value: K, what: str) -> V:
    try:
        return table[value]
    except KeyError:
        raise Invalid(f"{what} {value!r} is not known to this version") from None


# ---- records -------------------------------------------------------------------------------------


def record_to_wire(record: Record) -> pb.Record:
    with _writing(f"{record.kind} record {record.id!r}"):
        return pb.Record(
            kind=_KIND_TO_WIRE[record.kind],
            id=record.id,
            digest=record.digest,
            body=record.body,
            owner=record.owner,
            key_id=record.key_id,
            signature=record.signature,
        )


def record_from_wire(wire: pb.Record) -> Record:
    """The record as it came: whether body and digest agree is `Record.verify`'s to say."""
    kind = _known(_KIND_FROM_WIRE, wire.kind, "record kind")
    return Record(kind, wire.id, wire.digest, wire.body, wire.owner, wire.key_id, wire.signature)


def _entries_to_wire(manifest: Mapping[RecordKey, bytes]) -> Iterator[pb.ManifestEntry]:
    for key, digest in manifest.items():
        yield pb.ManifestEntry(kind=_KIND_TO_WIRE[key.kind], id=key.id, digest=digest)


def _entries_from_wire(wire: Iterable[pb.ManifestEntry]) -> dict[RecordKey, bytes]:
    return {RecordKey(_known(_KIND_FROM_WIRE, e.kind, "record kind"), e.id): e.digest for e in wire}


def _key_from_wire(wire: pb.RecordKey | pb.Reject) -> RecordKey:
    return RecordKey(_known(_KIND_FROM_WIRE, wire.kind, "record kind"), wire.id)


# ---- owner streams -------------------------------------------------------------------------------


def up_to_wire(frame: frames.Up) -> pb.SyncUp:
    with _writing(type(frame).__name__):
        match frame:
            case frames.Hello():
                return pb.SyncUp(
                    hello=pb.Hello(
                        mesh=frame.mesh,
                        protocol_min=frame.protocol_min,
                        protocol_max=frame.protocol_max,
                        features=sorted(frame.features),
                        known_epoch=frame.known.epoch,
                        known_seq=frame.known.seq,
                        manifest=_entries_to_wire(frame.manifest),
                        software=frame.software,
                    )
                )
            case frames.Ack():
                return pb.SyncUp(ack=pb.Ack(seq=frame.seq))
            case frames.Reject():
                kind = _KIND_TO_WIRE[frame.key.kind]
                return pb.SyncUp(reject=pb.Reject(seq=frame.seq, kind=kind, id=frame.key.id, reason=frame.reason))
            case frames.Refuse():
                return pb.SyncUp(refuse=pb.Refuse(reason=frame.reason, message=frame.message))


def up_from_wire(wire: pb.SyncUp) -> frames.Up:
    match wire.WhichOneof("frame"):
        case "hello":
            hello = wire.hello
            return frames.Hello(
                mesh=hello.mesh,
                known=Version(hello.known_epoch, hello.known_seq),
                manifest=_entries_from_wire(hello.manifest),
                protocol_min=hello.protocol_min,
                protocol_max=hello.protocol_max,
                features=frozenset(hello.features),
                software=hello.software,
            )
        case "ack":
            return frames.Ack(wire.ack.seq)
        case "reject":
            return frames.Reject(wire.reject.seq, _key_from_wire(wire.reject), wire.reject.reason)
        case "refuse":
            return frames.Refuse(wire.refuse.reason, wire.refuse.message)
        case _:
            raise Invalid("an upward sync message holds no frame that this version knows")


def down_to_wire(frame: frames.Down) -> pb.SyncDown:
    with _writing(type(frame).__name__):
        match frame:
            case frames.Welcome():
                return pb.SyncDown(
                    welcome=pb.Welcome(
                        epoch=frame.epoch,
                        instance=frame.instance,
                        seq=frame.seq,
                        mode=_MODE_TO_WIRE[frame.mode],
                        loaded=frame.loaded,
                        protocol=frame.protocol,
                        features=sorted(frame.features),
                        software=frame.software,
                    )
                )
            case frames.Delta():
                return pb.SyncDown(
                    delta=pb.Delta(
                        epoch=frame.epoch,
                        from_seq=frame.from_seq,
                        to_seq=frame.to_seq,
                        puts=[record_to_wire(r) for r in frame.puts],
                        deletes=[pb.RecordKey(kind=_KIND_TO_WIRE[k.kind], id=k.id) for k in frame.deletes],
                        loaded=frame.loaded,
                    )
                )
            case frames.Snapshot():
                return pb.SyncDown(
                    snapshot=pb.Snapshot(
                        epoch=frame.epoch,
                        to_seq=frame.to_seq,
                        all=_entries_to_wire(frame.all),
                        bodies=[record_to_wire(r) for r in frame.bodies],
                        last=frame.last,
                        loaded=frame.loaded,
                    )
                )
            case frames.Beat():
                return pb.SyncDown(
                    beat=pb.Beat(
                        seq=frame.seq,
                        load=frame.load,
                        lag_ms=frame.lag_ms,
                        draining=frame.draining,
                        view_hash=frame.view_hash,
                        loaded=frame.loaded,
                        wall_ms=frame.wall_ms,
                    )
                )
            case frames.Bye():
                return pb.SyncDown(bye=pb.Bye(reason=_BYE_TO_WIRE[frame.reason]))


def down_from_wire(wire: pb.SyncDown) -> frames.Down:
    match wire.WhichOneof("frame"):
        case "welcome":
            w = wire.welcome
            return frames.Welcome(
                epoch=w.epoch,
                instance=w.instance,
                seq=w.seq,
                mode=_known(_MODE_FROM_WIRE, w.mode, "mode"),
                loaded=w.loaded,
                protocol=w.protocol,
                features=frozenset(w.features),
                software=w.software,
            )
        case "delta":
            d = wire.delta
            puts = tuple(record_from_wire(r) for r in d.puts)
            deletes = tuple(_key_from_wire(k) for k in d.deletes)
            return frames.Delta(d.epoch, d.from_seq, d.to_seq, puts, deletes, d.loaded)
        case "snapshot":
            s = wire.snapshot
            bodies = tuple(record_from_wire(r) for r in s.bodies)
            return frames.Snapshot(s.epoch, s.to_seq, _entries_from_wire(s.all), bodies, s.last, s.loaded)
        case "beat":
            b = wire.beat
            return frames.Beat(b.seq, b.load, b.lag_ms, b.draining, b.view_hash, b.loaded, b.wall_ms)
        case "bye":
            return frames.Bye(_known(_BYE_FROM_WIRE, wire.bye.reason, "farewell"))
        case _:
            raise Invalid("a downward sync message holds no frame that this version knows")


# ---- calls ---------------------------------------------------------------------------------------


def _object_to_wire(value: Mapping[str, Any]) -> bytes:
    return jsons.dumps(value) if value else b""


def _object_from_wire(data: bytes, what: str) -> dict[str, Any]:
    return jsons.loads_object(data, what) if data else {}


def principal_to_wire(p: Principal) -> pb.Principal:
    return pb.Principal(
        subject=p.subject, issuer=p.issuer, tenant=p.tenant, groups=p.groups, scopes=p.scopes, kind=p.kind
    )


def principal_from_wire(wire: pb.Principal) -> Principal:
    return Principal(wire.subject, wire.issuer, wire.tenant, tuple(wire.groups), tuple(wire.scopes), wire.kind)


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
    return calls.Open(call, o.chunked_bytes)


def call_up_to_wire(call_id: str, frame: calls.CallUp) -> pb.CallUp:
    with _writing(f"{type(frame).__name__} of call {call_id!r}"):
        match frame:
            case calls.Open():
                return pb.CallUp(call_id=call_id, open=_open_to_wire(frame))
            case calls.Reply():
                reply = pb.Reply(request_id=frame.request_id, answer=_object_to_wire(frame.answer))
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
            frame = calls.Reply(wire.reply.request_id, _object_from_wire(wire.reply.answer, "the reply"), failed)
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
    with _writing(f"{type(frame).__name__} of call {call_id!r}"):
        match frame:
            case calls.Accepted():
                return pb.CallDown(call_id=call_id, accepted=pb.Accepted())
            case calls.Event():
                return pb.CallDown(call_id=call_id, event=pb.Event(notification=_object_to_wire(frame.notification)))
            case calls.Request():
                request = pb.Request(request_id=frame.request_id, request=_object_to_wire(frame.request))
                return pb.CallDown(call_id=call_id, request=request)
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


def call_down_from_wire(wire: pb.CallDown) -> tuple[str, calls.CallDown]:
    frame: calls.CallDown
    match wire.WhichOneof("frame"):
        case "accepted":
            frame = calls.Accepted()
        case "event":
            frame = calls.Event(_object_from_wire(wire.event.notification, "the notification"))
        case "request":
            body = _object_from_wire(wire.request.request, "the server's request")
            frame = calls.Request(wire.request.request_id, body)
        case "chunk":
            frame = calls.Chunk(wire.chunk.data)
        case "result":
            frame = calls.Result(wire.result.answer or None, wire.result.chunked_bytes, wire.result.repeated)
        case "error":
            frame = failed_from_wire(wire.error)
        case "window":
            frame = calls.Window(wire.window.bytes)
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
    return _known(ERRORS, failed.kind, "error kind")(failed.message, **failed.data)


def failed_to_wire(failed: calls.Failed) -> pb.Error:
    kind = _known(_ERROR_TO_WIRE, failed.kind, "error kind")
    with _writing("the error"):
        return pb.Error(kind=kind, message=failed.message, data=_object_to_wire(failed.data))


def failed_from_wire(wire: pb.Error) -> calls.Failed:
    kind = _known(_ERROR_FROM_WIRE, wire.kind, "error kind")
    return calls.Failed(kind, wire.message, _object_from_wire(wire.data, "the error's data"))
