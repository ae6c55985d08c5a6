"""How long to wait before the next attempt: exponential, jittered, bounded."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Waits of `first_s`, doubling up to `max_s`, each scaled by a random factor in [0.5, 1)."""

    def __init__(
        self, first_s: float = 0.5, max_s: float = 60.0, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._uniform = uniform
        self._ceiling_s = first_s

    def next_s(self) -> float:
        """Seconds to wait now; the wait after this one is longer."""
        wait_s = self._ceiling_s * self._uniform(0.5, 1.0)
        self._ceiling_s = min(self._ceiling_s * 2, self._max_s)
        return wait_s

    def reset(self) -> None:
        """What was tried has held: the next wait is the first again."""
        self._ceiling_s = self._first_s
