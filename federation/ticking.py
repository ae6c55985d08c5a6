"""This node's own time: regular ticks, how late it comes to them, and what is due at which of them."""

from __future__ import annotations

import asyncio
from typing import Protocol

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


class Ticker:
    """`lag_ms`: how much later than planned the loop came to the latest tick."""

    def __init__(self, clock: Clock, user: TickUser) -> None:
        self._clock = clock
        self._user = user
        self.lag_ms = 0

    def __repr__(self) -> str:
        return f"Ticker({self.lag_ms} ms late)"

    async def run(self) -> None:
        """Until cancelled. Ticks that a frozen loop has missed are not made up for: their lag is told once."""
        planned, count, noted = self._clock.now_ms(), 0, self._clock.now_ms()
        while True:
            planned += TICK_MS
            await asyncio.sleep(max(0, planned - self._clock.now_ms()) / 1000)
            now = self._clock.now_ms()
            self.lag_ms = max(0, now - planned)
            if self.lag_ms > TICK_MS:
                planned = now
            self._user.tick(now, self.lag_ms)
            if count % BEAT_TICKS == 0:
                self._user.beat(hashed=count // BEAT_TICKS % HASH_BEATS == HASH_BEATS - 1)
            count += 1
            if now - noted >= HEARD_MS:
                noted = now
                self._user.note_heard()
