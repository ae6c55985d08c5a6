"""Which session with a server a call runs in. Pure bookkeeping: what is opened and closed is said, and done elsewhere.

A server of before 2026-07-28 learns once, when a session begins, what its client can do. So sessions are kept by
whose they are and what they declare. One that declares something may ask its client back, often without saying in
which call it does (pipes): such a session is leased to one client at a time, for as long as calls of it run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from node.upstreams.connection import Connection
from proto import jsons

SHARED: tuple[str, ...] = ()
"""The owner of what everybody may use."""


class Key(NamedTuple):
    """`declared` is the client's capabilities as canonical JSON; empty: none, so that nobody can be asked."""

    owner: tuple[str, ...]
    declared: str
    modern: bool = False

    @property
    def leased(self) -> bool:
        return bool(self.declared)


MODERN = Key(SHARED, "", modern=True)
"""The one connection in which a server of both eras is spoken to as one of 2026-07-28."""


def declared(capabilities: dict[str, Any]) -> str:
    """Equal for equal capabilities, in whichever order they are written."""
    return jsons.canonical(capabilities).decode() if capabilities else ""


class Slot:
    """One session, or one that is being opened (`connection` is None).

    `holder` is the client session that has it, or had it last. Of `listeners`, who keep it open, `pins` also keep
    others out.
    """

    __slots__ = ("connection", "holder", "key", "listeners", "pins", "running", "used_at")

    def __init__(self, key: Key, now: float) -> None:
        self.key = key
        self.connection: Connection | None = None
        self.holder = ""
        self.running = 0
        self.listeners = 0
        self.pins = 0
        self.used_at = now

    def __repr__(self) -> str:
        state = "opening" if self.connection is None else "open"
        return f"Slot({state} holder={self.holder or '-'} running={self.running} listeners={self.listeners})"

    @property
    def idle(self) -> bool:
        return not self.running and not self.listeners

    @property
    def free(self) -> bool:
        """Another client's calls may have it."""
        return not self.running and not self.pins


class Pool:
    """At most `slots_max` slots."""

    def __init__(self, slots_max: int) -> None:
        self.slots_max = slots_max
        self._slots: dict[Key, list[Slot]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Slot]:
        return (slot for slots in self._slots.values() for slot in slots)

    def __repr__(self) -> str:
        return f"Pool({', '.join(map(repr, self))})"

    def of(self, key: Key) -> list[Slot]:
        return self._slots.get(key, [])

    def find(self, key: Key, holder: str) -> Slot | None:
        """The slot for a call of `holder`: its own of before, else one that is free, least recently used first.

        Where sessions are not leased there is one for all. None: open another.
        """
        slots = self._slots.get(key)
        if not slots:
            return None
        if not key.leased:
            return slots[0]
        best: Slot | None = None
        for slot in slots:
            if slot.holder == holder:
                return slot
            if slot.free and (best is None or slot.used_at < best.used_at):
                best = slot
        return best

    def least_busy(self, key: Key) -> Slot | None:
        """For calls that share a session, where its transport tells whose a question is."""
        return min(self._slots.get(key, []), key=lambda slot: slot.running, default=None)

    def add(self, key: Key, now: float) -> Slot | None:
        """A new slot; None at the bound: remove a `victim` first, or wait. `MODERN` is beyond it: it is no session."""
        if self._count >= self.slots_max and not key.modern:
            return None
        slot = Slot(key, now)
        self._slots.setdefault(key, []).append(slot)
        self._count += 1
        return slot

    def victim(self) -> Slot | None:
        """The idle slot that was used longest ago."""
        return min((s for s in self if s.idle and s.connection), key=lambda slot: slot.used_at, default=None)

    def remove(self, slot: Slot) -> bool:
        """Whether it was there."""
        slots = self._slots.get(slot.key, [])
        if slot not in slots:
            return False
        slots.remove(slot)
        if not slots:
            del self._slots[slot.key]
        self._count -= 1
        return True

    def expired(self, used_before: float) -> list[Slot]:
        return [s for s in self if s.idle and s.connection is not None and s.used_at <= used_before]
