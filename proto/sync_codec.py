"""Frames of owner streams ⇄ wire messages: what a newer build may say is told apart from what is malformed.

A frame of a newer build (a `oneof` member unknown here) reads as None, to be ignored. A record or a
manifest entry of a kind unknown here is left out of its frame, and the frame says so in `foreign`: the others stand.
Everything else that cannot be read raises `Invalid`, and the stream is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from proto import frames
from proto import mesh_pb2 as pb
from proto.codec import KIND_FROM_WIRE, KIND_TO_WIRE, known, record_from_wire, record_to_wire, writing
from proto.errors import Invalid
from proto.names import RECORD_ID_MAX
from proto.records import Record, RecordKey, Version
from proto.versions import FEATURES_MAX

WORD_CHARS_MAX = 100
"""Of a software's name or a feature; what is longer is cut, being for people, or is no feature of ours."""

INSTANCE_MAX = 64
"""Bytes of a process's instance; ours have 16."""

FOREIGN_MAX = 20
"""Foreign records of one frame that are named."""

_MODE_TO_WIRE: Mapping[frames.Mode, pb.Mode.ValueType] = {m: pb.Mode.Value(f"MODE_{m.name}") for m in frames.Mode}
_MODE_FROM_WIRE = {number: mode for mode, number in _MODE_TO_WIRE.items()}
_BYE_TO_WIRE: Mapping[frames.Farewell, pb.Farewell.ValueType] = {
    f: pb.Farewell.Value(f"FAREWELL_{f.name}") for f in frames.Farewell
}
_BYE_FROM_WIRE = {number: farewell for farewell, number in _BYE_TO_WIRE.items()}


def _entries_to_wire(manifest: Mapping[RecordKey, bytes]) -> Iterator[pb.ManifestEntry]:
    for key, digest in manifest.items():
        yield pb.ManifestEntry(kind=KIND_TO_WIRE[key.kind], id=key.id, digest=digest)


def _read(wire: pb.Record | pb.ManifestEntry | pb.RecordKey) -> bool:
    """Whether this build can tell what it names; an endless name is treated like an unknown kind."""
    return wire.kind in KIND_FROM_WIRE and len(wire.id) <= RECORD_ID_MAX


def _entries_from_wire(wire: Iterable[pb.ManifestEntry]) -> dict[RecordKey, bytes]:
    return {RecordKey(KIND_FROM_WIRE[e.kind], e.id): e.digest for e in wire if _read(e)}


def _records_from_wire(wire: Iterable[pb.Record]) -> tuple[Record, ...]:
    return tuple(record_from_wire(r) for r in wire if _read(r))


def _foreign(wire: Iterable[pb.Record] | Iterable[pb.ManifestEntry]) -> tuple[str, ...]:
    found = (f"kind {int(r.kind)}, {len(r.id)} characters: {r.id[:WORD_CHARS_MAX]!r}" for r in wire if not _read(r))
    return tuple(islice(found, FOREIGN_MAX))


def _features(words: Iterable[str]) -> frozenset[str]:
    return frozenset(w for w in islice(words, FEATURES_MAX) if len(w) <= WORD_CHARS_MAX)


def _check_newer(wire: Message, what: str) -> None:
    """Raises `Invalid` for a message without a frame, unless it holds something that a newer build would know."""
    if not len(UnknownFieldSet(wire)):
        raise Invalid(f"{what} sync message holds no frame")


def up_to_wire(frame: frames.Up) -> pb.SyncUp:
    with writing(type(frame).__name__):
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
                        instance=frame.instance,
                    )
                )
            case frames.Ack():
                return pb.SyncUp(ack=pb.Ack(seq=frame.seq))
            case frames.Reject():
                kind = KIND_TO_WIRE[frame.key.kind]
                return pb.SyncUp(reject=pb.Reject(seq=frame.seq, kind=kind, id=frame.key.id, reason=frame.reason))
            case frames.Refuse():
                return pb.SyncUp(refuse=pb.Refuse(reason=frame.reason, message=frame.message))


def up_from_wire(wire: pb.SyncUp) -> frames.Up | None:
    """None: of a newer build. Raises `Invalid`."""
    match wire.WhichOneof("frame"):
        case "hello":
            hello = wire.hello
            return frames.Hello(
                mesh=hello.mesh,
                known=Version(hello.known_epoch, hello.known_seq),
                manifest=_entries_from_wire(hello.manifest),
                protocol_min=hello.protocol_min,
                protocol_max=hello.protocol_max,
                features=_features(hello.features),
                software=hello.software[:WORD_CHARS_MAX],
                instance=hello.instance[:INSTANCE_MAX],
            )
        case "ack":
            return frames.Ack(wire.ack.seq)
        case "reject":
            reject = wire.reject
            if reject.kind not in KIND_FROM_WIRE:
                return None  # of what an older life of this node had said
            return frames.Reject(reject.seq, RecordKey(KIND_FROM_WIRE[reject.kind], reject.id), reject.reason)
        case "refuse":
            return frames.Refuse(wire.refuse.reason, wire.refuse.message)
        case _:
            _check_newer(wire, "an upward")
            return None


def down_to_wire(frame: frames.Down) -> pb.SyncDown:
    with writing(type(frame).__name__):
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
                        deletes=[pb.RecordKey(kind=KIND_TO_WIRE[k.kind], id=k.id) for k in frame.deletes],
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


def down_from_wire(wire: pb.SyncDown) -> frames.Down | None:
    """None: of a newer build. Raises `Invalid`."""
    match wire.WhichOneof("frame"):
        case "welcome":
            w = wire.welcome
            return frames.Welcome(
                epoch=w.epoch,
                instance=w.instance,
                seq=w.seq,
                mode=known(_MODE_FROM_WIRE, w.mode, "mode"),
                loaded=w.loaded,
                protocol=w.protocol,
                features=_features(w.features),
                software=w.software[:WORD_CHARS_MAX],
            )
        case "delta":
            d = wire.delta
            deletes = tuple(RecordKey(KIND_FROM_WIRE[k.kind], k.id) for k in d.deletes if _read(k))
            puts, foreign = _records_from_wire(d.puts), _foreign(d.puts)
            return frames.Delta(d.epoch, d.from_seq, d.to_seq, puts, deletes, d.loaded, foreign)
        case "snapshot":
            s = wire.snapshot
            named, bodies, foreign = _entries_from_wire(s.all), _records_from_wire(s.bodies), _foreign(s.all)
            return frames.Snapshot(s.epoch, s.to_seq, named, bodies, s.last, s.loaded, foreign)
        case "beat":
            b = wire.beat
            for name, value in (("load", b.load), ("lag_ms", b.lag_ms)):
                if not (math.isfinite(value) and value >= 0):
                    raise Invalid(f"a beat's {name} is {value}: it is a finite number, not below 0")
            return frames.Beat(b.seq, b.load, b.lag_ms, b.draining, b.view_hash, b.loaded, b.wall_ms)
        case "bye":
            return frames.Bye(known(_BYE_FROM_WIRE, wire.bye.reason, "farewell"))
        case _:
            _check_newer(wire, "a downward")
            return None
