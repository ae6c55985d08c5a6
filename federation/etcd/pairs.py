"""Keys and values as etcd's answers have them, free of protobuf."""

from __future__ import annotations

from dataclasses import dataclass

from proto import etcd_pb2 as pb


@dataclass(frozen=True, slots=True)
class Pair:
    """A key with its value. `mod_revision`: when it was last put. `lease`: the id, 0 for none."""

    key: bytes
    value: bytes
    mod_revision: int
    lease: int


@dataclass(frozen=True, slots=True)
class Change:
    """`pair` is None where the key is gone: deleted, or its lease has ended."""

    key: bytes
    pair: Pair | None


def pair_of(kv: pb.KeyValue) -> Pair:
    return Pair(kv.key, kv.value, kv.mod_revision, kv.lease)


def change_of(event: pb.Event) -> Change:
    return Change(event.kv.key, pair_of(event.kv) if event.type == pb.Event.PUT else None)


def range_end(prefix: bytes) -> bytes:
    """The first key after all that begin with `prefix`, which is not empty and does not end in 0xff."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
