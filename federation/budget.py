"""How long a call may take, as a clock that stands still while its client is asked something.

LASTING_ABOVE_MS   a call with more time than this is a stream: it goes on until a side ends it
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proto.calls import Call

LASTING_ABOVE_MS = 3_600_000
LASTING_MAX = 16_384
"""Streams open to one peer, and for one, counted apart from calls: they wait, and run nothing."""
QUESTION_S_MAX = 600.0
"""A person may take so long to answer; then the call's time goes on."""


def lasts(call: Call) -> bool:
    return call.budget_ms > LASTING_ABOVE_MS


class Budget:
    """`over` is called once, when `budget_ms` are spent; not after `stop`."""

    def __init__(self, budget_ms: int, over: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = over
        self._asked = 0
        self._stopped = False
        self._ends_s = self._loop.time() + budget_ms / 1000
        self._still_since_s = 0.0
        self._timer = self._loop.call_at(self._ends_s, self._end)

    def __repr__(self) -> str:
        state = f"{self._asked} asked" if self._asked else "running"
        return f"Budget({self._ends_s - self._loop.time():.1f} s left, {state})"

    def stand_still(self) -> None:
        """The client is being asked something, perhaps beside other things."""
        self._asked += 1
        if self._asked == 1:
            self._still_since_s = self._loop.time()
            self._until(self._ends_s + QUESTION_S_MAX)

    def go_on(self) -> None:
        """One thing less is being asked."""
        self._asked -= 1
        if not self._asked:
            self._ends_s += min(self._loop.time() - self._still_since_s, QUESTION_S_MAX)
            self._until(self._ends_s)

    def stop(self) -> None:
        self._stopped = True
        self._timer.cancel()

    def _until(self, ends_s: float) -> None:
        self._timer.cancel()
        if not self._stopped:
            self._timer = self._loop.call_at(ends_s, self._end)

    def _end(self) -> None:
        self._stopped = True
        self._over()
