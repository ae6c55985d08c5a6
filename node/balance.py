"""Which owner runs a call: pure, so that every rule can be tested by exact values.

Alive first; then this node, this zone, this region, far; within a tier the better of two random picks by
in-flight × latency (the power of two choices, Mitzenmacher 2001). Never by search score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

LATENCY_UNKNOWN_MS = 1.0
OWNERS_MAX = 1_024


class Tier(IntEnum):
    NODE = 0
    ZONE = 1
    REGION = 2
    FAR = 3


@dataclass(frozen=True, slots=True)
class Place:
    node: str
    region: str
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One owner that could run the call. `latency_ms` is a moving average of its answers; 0: none seen yet."""

    place: Place
    alive: bool = True
    draining: bool = False
    in_flight: int = 0
    latency_ms: float = 0.0

    @property
    def cost(self) -> float:
        return (self.in_flight + 1) * (self.latency_ms or LATENCY_UNKNOWN_MS)


def tier(here: Place, there: Place) -> Tier:
    if here.node == there.node:
        return Tier.NODE
    if here.region != there.region:
        return Tier.FAR
    if here.zone and here.zone == there.zone:
        return Tier.ZONE
    return Tier.REGION


def choose(here: Place, candidates: Sequence[Candidate], below: Callable[[int], int]) -> Candidate | None:
    """The owner to ask, or None if nobody is alive.

    `below(n)` draws an integer in [0, n). An owner that drains is taken only where nobody else is alive.
    """
    alive = [c for c in candidates if c.alive]
    staying = [c for c in alive if not c.draining] or alive
    if not staying:
        return None
    nearest = min(tier(here, c.place) for c in staying)
    near = [c for c in staying if tier(here, c.place) == nearest]
    if len(near) == 1:
        return near[0]
    first = below(len(near))
    second = below(len(near) - 1)
    if second >= first:
        second += 1
    return min(near[first], near[second], key=lambda c: (c.cost, c.place.node))


class Latencies:
    """Moving averages of answer times by owner, in milliseconds, and calls in flight.

    Owners come and go: of the averages only the `owners_max` last renewed are kept.
    """

    def __init__(self, weight: float = 0.2, owners_max: int = OWNERS_MAX) -> None:
        self._weight = weight
        self._owners_max = owners_max
        self._average_ms: dict[str, float] = {}
        self._in_flight: dict[str, int] = {}

    def begin(self, node: str) -> None:
        self._in_flight[node] = self._in_flight.get(node, 0) + 1

    def end(self, node: str, took_ms: float | None) -> None:
        """`took_ms` is None where the call failed before an answer: it then says nothing about speed."""
        left = self._in_flight.get(node, 1) - 1
        if left > 0:
            self._in_flight[node] = left
        else:
            self._in_flight.pop(node, None)
        if took_ms is not None:
            # Put in anew, so that the first in order is the one renewed longest ago.
            before = self._average_ms.pop(node, took_ms)
            self._average_ms[node] = before + self._weight * (took_ms - before)
            if len(self._average_ms) > self._owners_max:
                del self._average_ms[next(iter(self._average_ms))]

    def in_flight(self, node: str) -> int:
        return self._in_flight.get(node, 0)

    def average_ms(self, node: str) -> float:
        return self._average_ms.get(node, 0.0)

    def forget(self, node: str) -> None:
        self._average_ms.pop(node, None)
        self._in_flight.pop(node, None)
