"""What lies between the nodes of the simulation: streams with delay, cuts of one direction, loss, slow readers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from federation.log import Subscriber
from proto.frames import Beat

if TYPE_CHECKING:
    from tests.simulation.process import Process

KEEPALIVE_MS = 8_000
"""How long a stream survives a cut: gRPC's keepalive, 5 s and 3 s."""


@dataclass(eq=False)
class Stream:
    """A Sync stream: `receiver` has dialled `owner`. Frames of one direction arrive in order, or not at all.

    `authority`: the owner's certificate of this stream carries that role.
    """

    receiver: Process
    owner: Process
    sub: Subscriber
    window: int
    authority: bool = False
    in_flight: int = 0
    open: bool = True
    greeted: bool = False
    beat: Beat | None = None
    last_frame_ms: int = 0
    held: dict[bool, deque[Callable[[], None]]] = field(default_factory=lambda: {True: deque(), False: deque()})
    arrives_ms: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})

    def __repr__(self) -> str:
        return f"{self.receiver.name}<-{self.owner.name}"


class Network:
    """Who can reach whom. A cut holds what is sent (TCP repeats it); a cut that lasts ends the stream.

    `loss`: how likely a frame is to end its stream, by sender and receiver.
    """

    def __init__(self) -> None:
        self.cuts: dict[tuple[str, str], int] = {}
        self.loss: dict[tuple[str, str], float] = {}
        self.delay_ms: dict[tuple[str, str], int] = {}

    def cut(self, a: str, b: str, now_ms: int) -> None:
        """From now on nothing of `a` reaches `b`."""
        self.cuts.setdefault((a, b), now_ms)

    def heal(self) -> None:
        self.cuts.clear()
        self.loss.clear()

    def passes(self, a: str, b: str) -> bool:
        return (a, b) not in self.cuts

    def both_ways(self, a: str, b: str) -> bool:
        return self.passes(a, b) and self.passes(b, a)

    def sound(self, a: str, b: str) -> bool:
        """Neither cut nor lossy in either direction."""
        return self.both_ways(a, b) and (a, b) not in self.loss and (b, a) not in self.loss

    def dead(self, a: str, b: str, now_ms: int) -> bool:
        """Whether keepalive has given up on a stream between the two."""
        if not self.cuts:
            return False
        since = [self.cuts[d] for d in ((a, b), (b, a)) if d in self.cuts]
        return bool(since) and now_ms - min(since) >= KEEPALIVE_MS
