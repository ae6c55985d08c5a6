"""How many calls run on one upstream at once, and how many may wait for their turn."""

from __future__ import annotations

import asyncio

from proto.errors import Exhausted, Expired

WAITING_PER_SLOT = 4
WAIT_MAX_S = 10.0


class Gate:
    """`slots` calls run; `WAITING_PER_SLOT` times as many wait, each at most `WAIT_MAX_S`; the rest is refused."""

    def __init__(self, name: str, slots: int) -> None:
        self._name = name
        self._slots = asyncio.Semaphore(slots)
        self._running_max = slots
        self._waiting = 0
        self._overdrawn = 0
        self.running = 0

    async def enter(self, deadline: float) -> None:
        """Take a slot, to be given back with `leave`. `deadline` is in the loop's time.

        Raises `Exhausted` when too many wait or the wait was too long, `Expired` when the deadline came first.
        """
        if self._slots.locked():
            await self._wait(deadline)
        else:
            await self._slots.acquire()
        self.running += 1

    def leave(self) -> None:
        self.running -= 1
        if self._overdrawn:
            self._overdrawn -= 1
        else:
            self._slots.release()

    def step_out(self) -> None:
        """A call waits for a person: others may run meanwhile."""
        self.leave()

    def step_in(self) -> None:
        """It goes on, at once: for as long as that takes one more may run than there are slots."""
        self.running += 1
        self._overdrawn += 1

    async def _wait(self, deadline: float) -> None:
        if self._waiting >= self._running_max * WAITING_PER_SLOT:
            raise Exhausted(
                f"server {self._name!r} is busy: {self._running_max} calls run and {self._waiting} wait",
                retry_after_s=1,
            )
        now = asyncio.get_running_loop().time()
        own_limit = now + WAIT_MAX_S
        self._waiting += 1
        try:
            async with asyncio.timeout_at(min(deadline, own_limit)):
                await self._slots.acquire()
        except TimeoutError:
            if deadline <= own_limit:
                raise Expired(f"the time for the call ran out while server {self._name!r} was busy") from None
            raise Exhausted(
                f"server {self._name!r} stayed busy for {WAIT_MAX_S:g} s: {self._running_max} calls run",
                retry_after_s=1,
            ) from None
        finally:
            self._waiting -= 1
