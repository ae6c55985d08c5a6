"""A snapshot on its way, and what the view becomes when it is whole. Pure.

Each body is judged when its part comes, so that the end of a large snapshot is mere set work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from federation.holdings import Holdings
from proto.frames import Snapshot
from proto.records import GOVERNANCE, Record, RecordKey

Fault = Callable[[Record], str | None]
"""Why a record may not stand in the view; None if it may."""

Crowded = Callable[[int, int], str | None]
"""Why there is no room beside so many records, for so many bytes in all; None if there is."""


class Whole(NamedTuple):
    """What the owner says now; which of it is new or changed here; what is rejected of it, by digest and reason."""

    said: dict[RecordKey, Record]
    puts: dict[RecordKey, Record]
    rejected: dict[RecordKey, tuple[bytes, str]]


@dataclass(slots=True)
class Assembly:
    """`all`: digests by key, as the owner lists them. `good`: bodies that may stand; `bad`: why others may not."""

    epoch: int
    instance: bytes
    all: dict[RecordKey, bytes] = field(default_factory=dict)
    good: dict[RecordKey, Record] = field(default_factory=dict)
    bad: dict[RecordKey, str] = field(default_factory=dict)
    bytes: int = 0
    foreign: bool = False

    @property
    def count(self) -> int:
        """Of names or of bodies, whichever are more."""
        return max(len(self.all), len(self.good) + len(self.bad))

    def take(self, part: Snapshot, fault: Fault) -> None:
        self.all.update(part.all)
        self.foreign |= bool(part.foreign)
        for record in part.bodies:
            self.bytes += len(record.body)
            if (reason := fault(record)) is None:
                self.good[record.key] = record
            else:
                self.bad[record.key] = reason

    def whole(self, held: Holdings, fault: Fault, crowded: Crowded) -> Whole:
        """With what is held where no other body came. That was judged when it came itself: whether it may still govern
        hangs on this very stream, nothing else does."""
        whole, size = Whole({}, {}, {}), 0
        for key, digest in self.all.items():
            known = held.get(key)
            record = self.good.get(key) or known
            if record is None or record.digest != digest:
                reason = self.bad.get(key) or f"its owner listed {key.id!r} and sent no body for it"
            else:
                wrong = fault(record) if record is known and key.kind in GOVERNANCE else None
                reason = wrong or crowded(len(whole.said), size + len(record.body)) or ""
                if not reason:
                    whole.said[key] = record
                    size += len(record.body)
                    if known is None or known.digest != digest:
                        whole.puts[key] = record
            if reason:
                whole.rejected[key] = (digest, reason)
        return whole
