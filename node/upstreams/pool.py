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
from proto.records import Principal

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
    """One session, or one that is being opened (`connection` is None), of `principal` where callers are told apart.

    `holder` is the client session that has it, or had it last. Of `listeners`, who keep it open, `pins` also keep
    others out. `tasks` (MCP 2025-11-25) that were begun in it are known in no other, by id, each until a moment.
    """

    __slots__ = ("connection", "holder", "key", "listeners", "pins", "principal", "running", "tasks", "used_at")

    def __init__(self, key: Key, now: float) -> None:
        self.key = key
        self.connection: Connection | None = None
        self.principal: Principal | None = None
        self.holder = ""
        self.running = 0
        self.listeners = 0
        self.pins = 0
        self.tasks: dict[str, float] = {}
        self.used_at = now

    def __repr__(self) -> str:
        state = "opening" if self.connection is None else "open"
        return f"Slot({state} holder={self.holder or '-'} running={self.running} listeners={self.listeners})"

    def idle(self, now: float) -> bool:
        """Nothing is lost if it ends."""
        if self.running or self.listeners:
            return False
        return not self.tasks or max(self.tasks.values()) <= now

    @property
    def free(self) -> bool:
        """Another client's calls may have it."""
        return not self.running and not self.pins


class Pool:
    """At most `slots_max` slots; and one for each of `keys_max` keys even so, where a session costs but little."""

    def __init__(self, slots_max: int, keys_max: int = 0) -> None:
        self.slots_max = slots_max
        self.keys_max = keys_max
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

    def find(self, key: Key, holder: str, task: str = "") -> Slot | None:
        """The slot for a call of `holder`: where its `task` is, or where it was before, else one that is free, least
        recently used first.

        Where sessions are not leased there is one for all. None: open another.
        """
        slots = self._slots.get(key)
        if not slots:
            return None
        if task:
            for slot in slots:
                if task in slot.tasks:
                    return slot
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

    def has_room(self, key: Key) -> bool:
        """`MODERN` has, always: it is no session."""
        if self._count < self.slots_max or key == MODERN:
            return True
        return key not in self._slots and len(self._slots) < self.keys_max

    def add(self, key: Key, now: float) -> Slot | None:
        """A new slot; None where there is no room: remove a `victim` first, share, or wait."""
        if not self.has_room(key):
            return None
        slot = Slot(key, now)
        self._slots.setdefault(key, []).append(slot)
        self._count += 1
        return slot

    def victim(self, now: float) -> Slot | None:
        """The idle slot that was used longest ago."""
        return min((s for s in self if s.connection and s.idle(now)), key=lambda slot: slot.used_at, default=None)

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

    def unused(self, now: float, idle_s: float) -> list[Slot]:
        """Those that are to end."""
        return [s for s in self if s.connection is not None and s.used_at <= now - idle_s and s.idle(now)]
