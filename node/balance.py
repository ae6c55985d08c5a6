"""Which owner runs a call: pure, so that every rule can be tested by exact values.

Alive first; then those that stay, of them those that do not keep failing; then this node, this zone, this region,
far; within a tier the better of two random picks by in-flight × latency (the power of two choices, Mitzenmacher
2001), a newcomer counted as dearer until it is warm. Never by search score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

LATENCY_UNKNOWN_MS = 1.0


class Tier(IntEnum):
    NODE = 0
    ZONE = 1
    REGION = 2
    FAR = 3


_TIERS = {
    Tier.NODE: "this node",
    Tier.ZONE: "the same zone",
    Tier.REGION: "the same region",
    Tier.FAR: "another region",
}


@dataclass(frozen=True, slots=True)
class Place:
    node: str
    region: str
    zone: str = ""


class Candidate(NamedTuple):
    """One owner that could run the call. `latency_ms` is a moving average of its answers; 0: none seen yet.

    `ejected`: it keeps failing and is left alone for another `back_in_s`. `warmth` rises from 0.1 to 1 after it came
    up or back.
    """

    place: Place
    alive: bool = True
    draining: bool = False
    in_flight: int = 0
    latency_ms: float = 0.0
    ejected: bool = False
    back_in_s: float = 0.0
    warmth: float = 1.0

    @property
    def cost(self) -> float:
        return (self.in_flight + 1) * (self.latency_ms or LATENCY_UNKNOWN_MS) / self.warmth


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

    `below(n)` draws an integer in [0, n). One that drains, or is ejected, is taken only where nobody else is left.
    """
    near = _eligible(here, candidates)
    if len(near) < 2:
        return near[0] if near else None
    first = below(len(near))
    second = below(len(near) - 1)
    if second >= first:
        second += 1
    return _cheaper(near[first], near[second])


def why_not(here: Place, candidates: Sequence[Candidate], candidate: Candidate) -> str:
    """Why `choose` would never take this one of the candidates now; empty if it can be taken."""
    near = _eligible(here, candidates)
    if any(c is candidate for c in near):
        return ""
    if not candidate.alive:
        return "it is not up, or its owner does not answer"
    others = sorted({c.place.node for c in near})
    if candidate.draining and not near[0].draining:
        return f"its node drains, and {', '.join(others)} does not"
    if candidate.ejected and not near[0].ejected:
        return f"it kept failing and is left alone for another {candidate.back_in_s:.0f} s"
    mine, nearest = tier(here, candidate.place), tier(here, near[0].place)
    return f"it is in {_TIERS[mine]}, and {', '.join(others)} is nearer ({_TIERS[nearest]})"


def _eligible(here: Place, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The nearest of those that should be asked at all; empty if nobody is alive."""
    alive = [c for c in candidates if c.alive]
    staying = [c for c in alive if not c.draining] or alive
    sound = [c for c in staying if not c.ejected] or staying
    if len(sound) < 2:
        return sound
    nearest = min(tier(here, c.place) for c in sound)
    return [c for c in sound if tier(here, c.place) == nearest]


def _cheaper(one: Candidate, other: Candidate) -> Candidate:
    """By cost. Where one has not answered yet, it is taken to be as quick as the other: it must not be flooded."""
    if bool(one.latency_ms) != bool(other.latency_ms):
        return min(one, other, key=lambda c: ((c.in_flight + 1) / c.warmth, c.place.node))
    return min(one, other, key=lambda c: (c.cost, c.place.node))
