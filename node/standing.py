"""How the servers that this node calls have fared with it: what runs there, how quick they are, who keeps failing.

Pure: the clock is given, in seconds. Servers are told apart by qualified name, so a slow or failing one says nothing
about its neighbours on the same node.

in --5 failures in a row, or half of the last 20--> ejected (30 s × how often, at most 300 s)
ejected --time--> warming --30 s--> in
away (down, or its owner silent) --up again--> warming, with a clean slate

A failure is one of the way there: `Unavailable`, `Expired`, `OutcomeUnknown`, `Fault`. A tool that fails (`isError`)
has answered, and so has one that refuses a caller's mistake.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

ROW_MAX = 5
WINDOW = 20
WINDOW_FAILURES_MAX = 10
EJECTION_S = 30.0
EJECTION_MAX_S = 300.0
WARMING_S = 30.0
WARMTH_MIN = 0.1
LATENCY_WEIGHT = 0.2
SERVERS_MAX = 16_384
"""Beyond it the one known longest, of those that run nothing now, is forgotten."""

_WINDOW_BITS = (1 << WINDOW) - 1


@dataclass(slots=True, eq=False)
class Standing:
    """One server. `average_ms` is a moving average of its answers, 0: none yet. `calls`, `failures` and `ejections`
    are counted since this node first called it.
    """

    in_flight: int = 0
    average_ms: float = 0.0
    calls: int = 0
    failures: int = 0
    ejections: int = 0
    ejected_until_s: float = 0.0
    _warming_from_s: float = -WARMING_S
    _life: Hashable = None
    _times: int = 0
    _row: int = 0
    _window: int = 0
    """One bit for each of the last calls, the newest lowest; 1: it failed."""

    def begin(self) -> None:
        self.calls += 1
        self.in_flight += 1

    def answered(self, took_ms: float) -> None:
        """It said what became of the call, be it a tool's error or a refusal."""
        self.in_flight -= 1
        self._row = 0
        if self._window:
            self._window = self._window << 1 & _WINDOW_BITS
        before = self.average_ms or took_ms
        self.average_ms = before + LATENCY_WEIGHT * (took_ms - before)

    def refused(self) -> None:
        """It answered with a caller's mistake, which says nothing about its speed."""
        self.in_flight -= 1
        self._row = 0

    def left(self) -> None:
        """The caller did not wait for the end."""
        self.in_flight -= 1

    def failed(self, now_s: float) -> bool:
        """Whether it is ejected by this failure."""
        self.in_flight -= 1
        self.failures += 1
        self._row += 1
        self._window = (self._window << 1 | 1) & _WINDOW_BITS
        if self.ejected(now_s) or (self._row < ROW_MAX and self._window.bit_count() < WINDOW_FAILURES_MAX):
            return False
        # Forgiven step by step: one time for each 30 s that it has been in.
        forgiven = int((now_s - self.ejected_until_s) / EJECTION_S)
        self._times = max(0, self._times - forgiven) + 1
        self.ejections += 1
        until_s = now_s + min(EJECTION_S * self._times, EJECTION_MAX_S)
        self.ejected_until_s = self._warming_from_s = until_s
        self._row = self._window = 0
        return True

    def seen(self, life: Hashable, now_s: float) -> None:
        """`life` names the life of the server that is up now; None: it is not up. A new one has a clean slate."""
        if life != self._life:
            self._life = life
            if life is not None:
                self._row = self._window = 0
                self.ejected_until_s = min(self.ejected_until_s, now_s)
                self._warming_from_s = now_s

    @property
    def failing(self) -> float:
        """The share of the last calls that failed, 0 to 1."""
        return self._window.bit_count() / WINDOW

    def ejected(self, now_s: float) -> bool:
        return now_s < self.ejected_until_s

    def warmth(self, now_s: float) -> float:
        """Its share of what a warm one would be given: 0.1, rising to 1 within 30 s after it came up or back."""
        return min(1.0, max(WARMTH_MIN, (now_s - self._warming_from_s) / WARMING_S))


def left_alone(group: Sequence[Standing], now_s: float) -> list[Standing]:
    """Those that are ejected, but never more than half of the group: those that failed longest ago are let back in."""
    out = [s for s in group if s.ejected(now_s)]
    most = len(group) // 2
    if len(out) > most:
        out = sorted(out, key=lambda s: -s.ejected_until_s)[:most]
    return out


@dataclass(slots=True)
class Standings:
    """By qualified name; made at the first question."""

    servers_max: int = SERVERS_MAX
    known: dict[str, Standing] = field(default_factory=dict)

    def of(self, name: str) -> Standing:
        standing = self.known.get(name)
        if standing is None:
            if len(self.known) >= self.servers_max:
                idle = next((n for n, s in self.known.items() if not s.in_flight), None)
                if idle is not None:
                    del self.known[idle]
            standing = self.known[name] = Standing()
        return standing
