"""Three regions of three nodes: what every scenario of the lab begins with, does and asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.lab.api import Outcome
from tests.lab.fleet import Fleet, told
from tests.lab.net import Lab
from tests.lab.waiting import until

__all__ = ["World", "apart_from", "told"]

REGIONS = {region: tuple(f"{region}-{i}" for i in (1, 2, 3)) for region in ("eu", "us", "ap")}
DELAYS = {frozenset({"eu", "us"}): 40.0, frozenset({"us", "ap"}): 60.0, frozenset({"eu", "ap"}): 90.0}

MANY = 2_000
"""Tools of us-3's own server. Their records weigh more than a megabyte, their names and digests 100 KB."""

DIFFERENCE_BYTES_MAX = 50_000
"""What us-3 may send a node that comes back and has missed nothing: handshakes, greetings, beats. Less than names."""

SERVICE = "stamp"


class World:
    """`since` is when the present scenario began (unix seconds); `stamps` is the file that all servers append to."""

    def __init__(self, lab: Lab, fleet: Fleet, stamps: Path) -> None:
        self.lab = lab
        self.fleet = fleet
        self.stamps = stamps
        self.since = time.time()

    def begin(self) -> None:
        self.since = time.time()

    async def whole(self) -> float:
        """Until every node hears every other and knows what they know; how long that took, in seconds."""
        return await until(self.fleet.whole, "nine nodes that know each other's tools", every_s=0.1)

    async def noticed(self, gone: Iterable[str], by: Iterable[str], since: float) -> float:
        """Until each of `by` doubts each of `gone`; the seconds that the last of them took."""
        gone, by = tuple(gone), frozenset(by)

        def seen() -> bool:
            return all(self.fleet.noticed(since, peer).keys() >= by - {peer} for peer in gone)

        await until(seen, f"{', '.join(gone)} noticed by {len(by)}", every_s=0.1)
        return max(s for peer in gone for by_, s in self.fleet.noticed(since, peer).items() if by_ in by)

    async def judged(self, peer: str, by: Iterable[str], states: Iterable[str]) -> None:
        """Until each of `by` holds the peer for one of these states."""
        by, states = tuple(by), tuple(states)

        async def seen() -> bool:
            found = await asyncio.gather(*(self.fleet.state(node, peer) for node in by))
            return all(state in states for state in found)

        await until(seen, f"{peer} held for {' or '.join(states)} by {', '.join(by)}", every_s=0.1)

    async def call(self, entry: str, times: int, server: str = SERVICE) -> list[Outcome]:
        """So many calls, one after the other, each with a mark of its own."""
        api = self.fleet.api[entry]
        return [await api.call(server, "stamp", mark=f"{entry}-{time.monotonic_ns()}") for _ in range(times)]

    def undisturbed(self, between: Callable[[str, str], bool] = lambda by, peer: True) -> None:
        """Nobody has doubted whom nothing had happened to (`between` says of which pairs that holds), and no node
        has written an error since the scenario began."""
        self.fleet.undisturbed(self.since, between)


def apart_from(*nodes: str) -> Callable[[str, str], bool]:
    """Pairs of which none of these is one."""
    return lambda by, peer: by not in nodes and peer not in nodes
