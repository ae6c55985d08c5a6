"""Counting by rate and by what runs at once, in bounded memory: pure, the time comes in.

The rate is kept by the generic cell rate algorithm (ITU-T I.371, as a virtual schedule): one number for each caller,
the moment at which all that it has asked would have come at the rate. It is the sliding window that needs no window:
exact at any moment, also about when the next call will pass, and idle callers cost nothing to forget, because a
moment that has gone by says nothing any more.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

KEYS_MAX = 65_536
"""Of one table."""
_ROUNDING_S = 1e-6
_LOOKED_AT = 16
"""Entries that one newcomer has looked at for room: what it costs stays the same however full the table is."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`interval_s` between calls at the rate (0: any rate), `slack_s` that a caller may be ahead of it: burst - 1
    intervals. `name` is the setting's."""

    name: str
    per: str = ""
    interval_s: float = 0.0
    slack_s: float = 0.0
    concurrency: int = 0
    payload_bytes: int = 0

    @classmethod
    def at(
        cls,
        name: str,
        *,
        per_s: float = 0.0,
        burst: int = 1,
        concurrency: int = 0,
        payload_bytes: int = 0,
        per: str = "",
    ) -> Rule:
        interval_s = 1 / per_s if per_s else 0.0
        return cls(name, per, interval_s, (max(burst, 1) - 1) * interval_s, concurrency, payload_bytes)

    @property
    def limits(self) -> bool:
        return bool(self.interval_s or self.concurrency or self.payload_bytes)


class Bucket:
    """What one caller has asked: `due_s` is the moment at which it will owe nothing; `running` calls hold a place."""

    __slots__ = ("due_s", "rule", "running")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.due_s = 0.0
        self.running = 0

    def wait_s(self, now_s: float) -> float:
        """How long until the next call passes by the rate; 0: now."""
        wait_s = self.due_s - now_s - self.rule.slack_s
        # Who comes back after exactly what it was told is not sent away by a rounding.
        return wait_s if wait_s > _ROUNDING_S else 0.0

    def take(self, now_s: float) -> None:
        interval_s = self.rule.interval_s
        if interval_s:
            self.due_s = (self.due_s if self.due_s > now_s else now_s) + interval_s

    def idle(self, now_s: float) -> bool:
        """To forget it is to change nothing."""
        return self.due_s <= now_s and not self.running

    def __repr__(self) -> str:
        return f"Bucket({self.rule.name} running={self.running} due_s={self.due_s:.3f})"


class Table:
    """Buckets by key, at most `keys_max`. Only idle ones make room, and so nobody's debt is forgotten.

    Where all that a newcomer has looked at are in use, it is counted together with all others of its rule that the
    table does not know: who fills the table with names pays for it with newcomers' allowance, and moves no one's debt.
    """

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._buckets: dict[Hashable, Bucket] = {}
        self._crowds: dict[Rule, Bucket] = {}
        self._keys_max = keys_max
        self.crowded = 0
        """How often a caller was counted with the crowd."""

    def known(self, key: Hashable) -> Bucket | None:
        return self._buckets.get(key)

    def enter(self, key: Hashable, rule: Rule, now_s: float) -> Bucket:
        """The bucket of a key that is not `known`."""
        if len(self._buckets) >= self._keys_max and not self._make_room(now_s):
            self.crowded += 1
            return self._crowds.setdefault(rule, Bucket(rule))
        bucket = self._buckets[key] = Bucket(rule)
        return bucket

    def _make_room(self, now_s: float) -> bool:
        buckets = self._buckets
        for _ in range(min(_LOOKED_AT, len(buckets))):
            key = next(iter(buckets))
            bucket = buckets.pop(key)
            if not bucket.idle(now_s):
                # To the end: the next newcomer looks at others.
                buckets[key] = bucket
        return len(buckets) < self._keys_max

    def __len__(self) -> int:
        return len(self._buckets)

    def __repr__(self) -> str:
        return f"Table({len(self._buckets)}/{self._keys_max} keys, {self.crowded} crowded)"
