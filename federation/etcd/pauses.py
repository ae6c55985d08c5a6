"""How long to wait before trying again: twice as long each time, up to a bound, less a random part."""

from __future__ import annotations

import asyncio
import random

FIRST_S = 0.25
LONGEST_S = 10.0


class Pauses:
    """The random half keeps a mesh from asking a cluster that comes back all at once."""

    def __init__(self, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    def reset(self) -> None:
        """It went well: the next pause is a short one."""
        self._next_s = self._first_s

    def next_s(self) -> float:
        """Seconds to wait now."""
        pause_s, self._next_s = self._next_s, min(self._longest_s, self._next_s * 2)
        return jittered(pause_s)

    async def wait(self) -> None:
        await asyncio.sleep(self.next_s())


def jittered(pause_s: float) -> float:
    """Somewhere between half of `pause_s` and all of it."""
    return pause_s * random.uniform(0.5, 1.0)  # noqa: S311 spreads load, keeps no secret
