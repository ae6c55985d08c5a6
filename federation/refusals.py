"""What was refused between this node and others, by whom and why: counted for metrics, the latest kept for people."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from federation.clock import Clock
from proto.errors import Exhausted, Forbidden, Invalid, MeshError, Unauthenticated

REFUSALS_MAX = 256

MESSAGE_CHARS_MAX = 500
"""Of one message: it may quote what a peer has said."""

NEWS_MS = 10_000
"""Between two lines in the log about one peer and one reason, whatever words it finds."""

Side = Literal["here", "there"]
"""Who refused: this node, or the other one."""


class Reason(StrEnum):
    """Why, in one word: a label of metrics. The sentence beside it is for people."""

    CERTIFICATE = "certificate"
    """Foreign, expired, or it does not verify."""
    IDENTITY = "identity"
    """It proves to be another node than was looked for, or this very one."""
    TRUST_DOMAIN = "trust_domain"
    MESH = "mesh"
    PROTOCOL = "protocol"
    NAME = "name"
    """Its name is borne by another node."""
    CLONE = "clone"
    EPOCH = "epoch"
    FRAME = "frame"
    """Malformed, out of order, or too large."""
    RECORD = "record"
    VOUCHING = "vouching"
    """It spoke for a caller, on a road or with a proof that does not count."""
    SILENT = "silent"
    """It opened a stream and said nothing."""
    FULL = "full"
    OTHER = "other"


@dataclass(slots=True)
class Refusal:
    """`who` is a node's URI where it is proved, else an address. Times are unix ms; `count` of the same in a row."""

    side: Side
    who: str
    reason: Reason
    message: str
    first_ms: int
    last_ms: int
    count: int = 1
    told_ms: int = 0


class Refusals:
    """The `refusals_max` latest by (side, who, reason); `totals` counts every one since the start."""

    def __init__(self, clock: Clock, refusals_max: int = REFUSALS_MAX) -> None:
        self._clock = clock
        self._refusals_max = refusals_max
        self._latest: OrderedDict[tuple[str, str, str], Refusal] = OrderedDict()
        self.totals: Counter[tuple[Side, Reason]] = Counter()

    def note(self, side: Side, who: str, reason: Reason, message: str) -> bool:
        """Returns whether it is news: nothing of the kind is kept of `who` yet, or not in these words.

        Other words within `NEWS_MS` are none: a peer that invents a reason for each frame must not fill the log.
        """
        now, message = self._clock.wall_ms(), message[:MESSAGE_CHARS_MAX]
        self.totals[side, reason] += 1
        key = (side, who, reason.value)
        known = self._latest.pop(key, None)
        if known is None:
            news, known = True, Refusal(side, who, reason, message, now, now, told_ms=now)
        else:
            news = known.message != message and now - known.told_ms >= NEWS_MS
            known.message, known.last_ms, known.count = message, now, known.count + 1
            known.told_ms = now if news else known.told_ms
        self._latest[key] = known
        while len(self._latest) > self._refusals_max:
            self._latest.popitem(last=False)
        return news

    def latest(self) -> tuple[Refusal, ...]:
        """Newest first."""
        return tuple(reversed(self._latest.values()))

    def __repr__(self) -> str:
        return f"Refusals({self.totals.total()} in all, {len(self._latest)} kept)"


def reason_of(error: MeshError) -> Reason:
    """Why, of an error that refuses: the word it carries, else (an older release said it) what its kind suggests."""
    said = error.data.get("reason")
    return reason_named(said) if isinstance(said, str) else _BY_KIND.get(error.kind, Reason.OTHER)


def reason_named(word: str) -> Reason:
    """Of a word that a peer has said; one that this release does not know is `OTHER`."""
    try:
        return Reason(word)
    except ValueError:
        return Reason.OTHER


def reason_of_alarm(name: str) -> Reason:
    """Why a core refuses an owner's words, by the name of its alarm."""
    return _BY_ALARM.get(name, Reason.FRAME)


def side_of(error: MeshError) -> Side:
    """Who refused, of an error that was raised here: this node, unless the error tells of the other one."""
    return "there" if error.data.get("refused") == "there" else "here"


_BY_KIND = {
    Unauthenticated.kind: Reason.CERTIFICATE,
    Forbidden.kind: Reason.IDENTITY,
    Invalid.kind: Reason.FRAME,
    Exhausted.kind: Reason.FULL,
}
_BY_ALARM = {
    "clone": Reason.CLONE,
    "identity_contested": Reason.CLONE,
    "old_epoch": Reason.EPOCH,
    "protocol": Reason.PROTOCOL,
    "too_large": Reason.FULL,
}
