"""What travels on an owner stream, as plain values: the federation cores take and return these.

The receiver of facts dials their owner: `Hello`, `Ack`, `Reject` and `Refuse` go up, the rest comes down.
Times are milliseconds; `seq` counts the owner's changes within `epoch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from proto.records import NOTHING_KNOWN, Record, RecordKey, Version
from proto.versions import FEATURES, PROTOCOL_MAX, PROTOCOL_MIN


class Mode(StrEnum):
    DELTA = "delta"
    SNAPSHOT = "snapshot"


class Farewell(StrEnum):
    RESTART = "restart"
    LEAVE = "leave"
    UNPEERED = "unpeered"


@dataclass(frozen=True, slots=True)
class Hello:
    """What the receiver speaks and already holds. `manifest` may be empty: then every body is sent.

    `instance`: of the receiver's process life, as in its Welcome; empty from earlier releases.
    """

    mesh: str
    known: Version = NOTHING_KNOWN
    manifest: Mapping[RecordKey, bytes] = field(default_factory=dict)
    protocol_min: int = PROTOCOL_MIN
    protocol_max: int = PROTOCOL_MAX
    features: frozenset[str] = FEATURES
    software: str = ""
    instance: bytes = b""


@dataclass(frozen=True, slots=True)
class Ack:
    seq: int


@dataclass(frozen=True, slots=True)
class Reject:
    """One record that the receiver would not take, and why; the others stand."""

    seq: int
    key: RecordKey
    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Why the receiver ends the stream, or does not believe the owner; only to a peer with the feature `refuse`."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Welcome:
    """`protocol` and `features` are what both sides use from here on."""

    epoch: int
    instance: bytes
    seq: int
    mode: Mode
    loaded: bool
    protocol: int = PROTOCOL_MAX
    features: frozenset[str] = frozenset()
    software: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """Changes after `from_seq` up to `to_seq`; applies only on exactly (epoch, from_seq).

    `foreign`, here and in a snapshot: what was left out in reading, being of kinds that only newer builds know.
    """

    epoch: int
    from_seq: int
    to_seq: int
    puts: tuple[Record, ...] = ()
    deletes: tuple[RecordKey, ...] = ()
    loaded: bool = True
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One part of everything: `all` names each record, `bodies` holds those that the receiver lacks."""

    epoch: int
    to_seq: int
    all: Mapping[RecordKey, bytes] = field(default_factory=dict)
    bodies: tuple[Record, ...] = ()
    last: bool = True
    loaded: bool = True
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Beat:
    seq: int
    load: float = 0.0
    lag_ms: float = 0.0
    draining: bool = False
    view_hash: bytes = b""
    loaded: bool = True
    wall_ms: int = 0


@dataclass(frozen=True, slots=True)
class Bye:
    reason: Farewell


Up = Hello | Ack | Reject | Refuse
Down = Welcome | Delta | Snapshot | Beat | Bye
