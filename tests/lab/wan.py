"""What a wide-area network does to packets: delay, jitter, loss, cuts, full queues. Pure: the time is handed in.

Each ordered pair of nodes is a link of its own. Packets of one link never overtake each other, as on most roads that
one connection takes; jitter delays them, and those behind them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

QUEUE_BYTES_MAX = 8 * 1024 * 1024
"""What may be under way on one link; more is dropped at the tail, and counted. At 90 ms that is 700 Mbit/s."""


@dataclass(slots=True)
class Link:
    """One direction between two nodes. `delay_ms` and `jitter_ms` one way, `loss_percent` of packets.

    `lost`, `cut_off` and `overflowed` count what was dropped and why; `carried` and `carried_bytes` what arrived.
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss_percent: float = 0.0
    cut: bool = False
    carried: int = 0
    carried_bytes: int = 0
    lost: int = 0
    cut_off: int = 0
    overflowed: int = 0
    waiting_bytes: int = 0
    last_due: float = 0.0


@dataclass(order=True, slots=True)
class _UnderWay:
    due: float
    number: int
    link: Link = field(compare=False)
    to: str = field(compare=False)
    packet: bytes = field(compare=False)


class Wan:
    """Packets under way between `nodes`. Times are seconds of any clock that only goes forward."""

    def __init__(self, nodes: Iterable[str], seed: int = 0) -> None:
        names = tuple(nodes)
        self.links = {(a, b): Link() for a in names for b in names if a != b}
        self._random = Random(seed)
        self._under_way: list[_UnderWay] = []
        self._sent = 0

    def send(self, source: str, to: str, packet: bytes, now: float) -> None:
        """Take a packet on its way, or drop it."""
        link = self.links[source, to]
        if link.cut:
            link.cut_off += 1
            return
        if link.loss_percent and self._random.random() * 100 < link.loss_percent:
            link.lost += 1
            return
        if link.waiting_bytes + len(packet) > QUEUE_BYTES_MAX:
            link.overflowed += 1
            return
        delay_ms = link.delay_ms + (self._random.uniform(0, link.jitter_ms) if link.jitter_ms else 0.0)
        link.last_due = max(now + delay_ms / 1000, link.last_due)
        link.waiting_bytes += len(packet)
        self._sent += 1
        heapq.heappush(self._under_way, _UnderWay(link.last_due, self._sent, link, to, packet))

    def arrived(self, now: float) -> list[tuple[str, bytes]]:
        """What reaches its node by now, in order. What was under way when its link was cut is lost with it."""
        there = []
        while self._under_way and self._under_way[0].due <= now:
            item = heapq.heappop(self._under_way)
            link = item.link
            link.waiting_bytes -= len(item.packet)
            if link.cut:
                link.cut_off += 1
                continue
            link.carried += 1
            link.carried_bytes += len(item.packet)
            there.append((item.to, item.packet))
        return there

    def next_due(self) -> float | None:
        """When the next packet arrives; None if none is under way."""
        return self._under_way[0].due if self._under_way else None

    def heal(self) -> None:
        """No cuts, no losses; delays stay."""
        for link in self.links.values():
            link.cut, link.loss_percent = False, 0.0
