"""How much passes between this node and one peer: totals for metrics, rates for people."""

from __future__ import annotations

from typing import NamedTuple

WINDOW_MS = 10_000
"""A rate is over the last whole window and the one that runs."""


class Rates(NamedTuple):
    """Per second."""

    received_bytes: float = 0.0
    sent_bytes: float = 0.0
    calls: float = 0.0


NO_TRAFFIC = Rates()


class Totals(NamedTuple):
    """Since this process first met the peer."""

    received_bytes: int = 0
    sent_bytes: int = 0
    calls: int = 0


NOTHING_YET = Totals()


class Traffic:
    """Counters of one peer: bytes of frames in both directions, before TLS, and calls in both directions. Pure."""

    __slots__ = ("_marks", "calls", "received_bytes", "sent_bytes")

    def __init__(self, now_ms: int = 0) -> None:
        self.received_bytes = 0
        self.sent_bytes = 0
        self.calls = 0
        self._marks = [(now_ms, 0, 0, 0)]

    def tick(self, now_ms: int) -> None:
        """Time passes; called now and then, by whoever asks for rates."""
        if now_ms - self._marks[-1][0] >= WINDOW_MS:
            self._marks = [self._marks[-1], (now_ms, self.received_bytes, self.sent_bytes, self.calls)]

    def totals(self) -> Totals:
        return Totals(self.received_bytes, self.sent_bytes, self.calls)

    def rates(self, now_ms: int) -> Rates:
        """Over ten to twenty seconds, once so long has passed."""
        at_ms, received, sent, calls = self._marks[0]
        seconds = max(1.0, (now_ms - at_ms) / 1000)
        return Rates(
            (self.received_bytes - received) / seconds,
            (self.sent_bytes - sent) / seconds,
            (self.calls - calls) / seconds,
        )

    def __repr__(self) -> str:
        return f"Traffic({self.received_bytes} bytes in, {self.sent_bytes} out, {self.calls} calls)"
