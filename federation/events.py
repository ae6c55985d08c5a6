"""What the pure cores of the federation are told, and what they answer that should be done.

A core (`view`, `log`, `liveness`, `peer`) takes an event and the time, changes its own state and returns effects;
whoever runs it (the driver, or the simulation) carries them out in the order given. Times are monotonic milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from proto.frames import Down, Up
from proto.records import Record, RecordKey, Version


class Liveness(StrEnum):
    """How a node fares, as seen from here.

    `suspect`: its stream broke or fell silent, nothing is decided yet. `unreachable`: not heard here, but a witness
    hears it or nobody could be asked. `down`: witnesses do not hear it either. `draining`: alive, takes no new work.
    `left`: it said goodbye for good.
    """

    ALIVE = "alive"
    SUSPECT = "suspect"
    UNREACHABLE = "unreachable"
    DOWN = "down"
    DRAINING = "draining"
    LEFT = "left"


# ---- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream to the owner, authenticated by TLS, is open. `authority`: its certificate carries that role.

    `address`: where it was dialled.
    """

    authority: bool = False
    address: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    frame: Down


@dataclass(frozen=True, slots=True)
class Broken:
    """The stream, or the attempt to open one, has ended; `cause` is for people."""

    cause: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes, at least once a second. `lag_ms`: for how long this node itself stood still since the last tick."""

    lag_ms: int = 0


@dataclass(frozen=True, slots=True)
class CallsFailed:
    """A stream of calls to the owner could not be opened, or broke; what becomes of its beats is to be seen."""

    cause: str


@dataclass(frozen=True, slots=True)
class Spoke:
    """A process of the owner, authenticated by TLS, has said something as a subscriber: which one, and whence."""

    instance: bytes
    address: str = ""


@dataclass(frozen=True, slots=True)
class Witnessed:
    """The end of `AskWitnesses`, with its `question`: who had something to say, and which of them hear the node.

    A witness has a say if it was alive when it was asked and when its answer came, and knows the node.
    """

    asked: tuple[str, ...] = ()
    hearing: tuple[str, ...] = ()
    question: int = 0


Event = Opened | Received | Broken | Tick | CallsFailed | Spoke | Witnessed


# ---- effects -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Send this frame up the open stream."""

    frame: Up


@dataclass(frozen=True, slots=True)
class Close:
    """Drop the stream; dial again after the usual pause. `refusal` names the alarm where the peer's word is refused."""

    cause: str
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """The view changed: pass this on."""

    puts: tuple[Record, ...] = ()
    deletes: tuple[RecordKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Governs:
    """All that an owner in the role of authority lays down by now, and its node record; `refused` are records of it
    that were rejected, and why. Not `whole`: the owner is still starting, and may say more.
    """

    records: tuple[Record, ...]
    refused: Mapping[RecordKey, str] = field(default_factory=dict)
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Save:
    """Make the view durable: cursor and records in one transaction."""

    version: Version
    instance: bytes
    loaded: bool
    puts: Mapping[RecordKey, Record] = field(default_factory=dict)
    deletes: frozenset[RecordKey] = frozenset()

    def then(self, later: Save) -> Save:
        """Both as one: what a slow disk is given instead of a queue. Bounded by the size of the view."""
        puts = {k: r for k, r in self.puts.items() if k not in later.deletes}
        puts.update(later.puts)
        return Save(
            later.version, later.instance, later.loaded, puts, (self.deletes | later.deletes) - later.puts.keys()
        )


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete what is saved of the view. `left`: its owner has said goodbye for good."""

    left: bool = False


@dataclass(frozen=True, slots=True)
class SaveEpoch:
    """Make this node's own epoch durable, before anything is sent under it."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Listed:
    """Whether the owner's tools belong into listings: not any more after the grace, again after its return."""

    listed: bool


@dataclass(frozen=True, slots=True)
class Became:
    state: Liveness
    cause: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Drop the stream, if any, and dial a fresh connection now."""


@dataclass(frozen=True, slots=True)
class AskWitnesses:
    """Ask up to `most` other nodes whether they hear this one; answer with `Witnessed` and the same `question`."""

    most: int = 3
    question: int = 0


@dataclass(frozen=True, slots=True)
class Expel:
    """End the subscriptions of this process of the owner, and tell it why."""

    instance: bytes
    why: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that an operator has to know of; `name` is stable, `message` tells the mend."""

    name: str
    message: str


Effect = (
    Send
    | Close
    | Changed
    | Governs
    | Save
    | Forget
    | SaveEpoch
    | Listed
    | Became
    | Probe
    | AskWitnesses
    | Expel
    | Alarm
)
Effects = list[Effect]
