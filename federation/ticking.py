"""This node's own time: regular ticks, how late it comes to them, and what is due at which of them."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol

from federation.clock import Clock

TICK_MS = 250
BEAT_TICKS = 4
HASH_BEATS = 30
"""Every so many beats carry the view hash."""

HEARD_MS = 600_000
"""How often it is noted on disk whom this node hears, so that a view's age survives a restart."""


class TickUser(Protocol):
    """Whom time is told. On the loop."""

    def tick(self, now_ms: int, lag_ms: int) -> None: ...

    def beat(self, *, hashed: bool) -> None: ...

    def note_heard(self) -> None: ...


class Came(NamedTuple):
    """One tick: for how long this node stood still since the one before, and whether others are to hear of it."""

    lag_ms: int
    beats: bool


class Rhythm:
    """When ticks are planned, and how late they come. Pure.

    Ticks that were missed are not made up for, but the time of a beat that passed with them has come: whoever woke
    from a freeze says so at once, since others count its silence.
    """

    def __init__(self, now_ms: int, tick_ms: int = TICK_MS, beat_ticks: int = BEAT_TICKS) -> None:
        self._tick_ms = tick_ms
        self._beat_ticks = beat_ticks
        self.planned_ms = now_ms + tick_ms
        self.late_ms = 0
        self._behind_ms = 0
        """How late the plan that holds was kept last."""
        self._count = beat_ticks - 1

    def __repr__(self) -> str:
        return f"Rhythm({self.late_ms} ms late)"

    def came(self, now_ms: int) -> Came:
        self.late_ms = max(0, now_ms - self.planned_ms)
        # Where each tick is as late as the one before, no time was lost between the two.
        lag_ms = max(0, self.late_ms - self._behind_ms)
        missed = self.late_ms // self._tick_ms
        self._count += 1 + missed
        beats = self._count >= self._beat_ticks
        if beats:
            self._count = 0
        self._behind_ms = 0 if missed else self.late_ms
        self.planned_ms = (now_ms if missed else self.planned_ms) + self._tick_ms
        return Came(lag_ms, beats)


class Ticker:
    """`lag_ms`: how much later than planned the loop came to the latest tick."""

    def __init__(self, clock: Clock, user: TickUser) -> None:
        self._clock = clock
        self._user = user
        self.lag_ms = 0

    def __repr__(self) -> str:
        return f"Ticker({self.lag_ms} ms late)"

    async def run(self) -> None:
        """Until cancelled."""
        rhythm, beats, noted = Rhythm(self._clock.now_ms()), 0, self._clock.now_ms()
        while True:
            await asyncio.sleep(max(0, rhythm.planned_ms - self._clock.now_ms()) / 1000)
            now = self._clock.now_ms()
            came = rhythm.came(now)
            self.lag_ms = rhythm.late_ms
            self._user.tick(now, came.lag_ms)
            if came.beats:
                self._user.beat(hashed=beats % HASH_BEATS == HASH_BEATS - 1)
                beats += 1
            if now - noted >= HEARD_MS:
                noted = now
                self._user.note_heard()
