"""Whether something that failed may be asked again: a circuit breaker, without clock or locks."""

from __future__ import annotations

FAILURES = 3
FIRST_S, LONGEST_S = 2.0, 60.0


class Breaker:
    """Opens at the third failure in a row, for 2 s, then twice as long each time, 60 s at most. When the time is over
    one is let through, and the others are as it fares. `now` is in seconds."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = FIRST_S
        self._open_until = 0.0
        self._trying = False

    def __repr__(self) -> str:
        state = "closed" if self._failures < FAILURES else "half open" if self._trying else "open"
        return f"Breaker({state}, {self._failures} failures)"

    def wait_s(self, now: float) -> float:
        """0: ask now, and say `succeeded`, `failed` or `gave_up` afterwards. Else: not before so many seconds."""
        if self._failures < FAILURES:
            return 0.0
        if self._trying:
            return FIRST_S
        if now < self._open_until:
            return self._open_until - now
        self._trying = True
        return 0.0

    def succeeded(self) -> None:
        self._failures, self._pause_s, self._trying = 0, FIRST_S, False

    def failed(self, now: float, pause_s: float = 0.0) -> None:
        """`pause_s`: what the other side asked for; it opens the breaker at once."""
        self._failures = max(self._failures + 1, FAILURES if pause_s else 0)
        self._trying = False
        if self._failures >= FAILURES:
            self._open_until = now + min(max(self._pause_s, pause_s), LONGEST_S)
            self._pause_s = min(2 * self._pause_s, LONGEST_S)

    def gave_up(self) -> None:
        """Neither: whoever asked did not wait for it."""
        self._trying = False
