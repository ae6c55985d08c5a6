"""A limit on another's silence that leaves out what this node itself was not there to hear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LOOK_S = 2.0
"""Longer than from beat to beat: where all is well, no look is ever taken."""


@asynccontextmanager
async def heard_within(span_s: float, look_s: float = LOOK_S) -> AsyncIterator[None]:
    """As `asyncio.timeout`, but only time in which the loop ran counts, in steps of `look_s`.

    The timer of a loop that was frozen is the first thing to run when it wakes, long before what came meanwhile is
    read: all peers would be given up at once for the node's own sleep.
    """
    loop = asyncio.get_running_loop()
    left_s = span_s
    handle: asyncio.TimerHandle

    def look() -> None:
        nonlocal left_s, handle
        left_s -= look_s
        if left_s <= 0:
            limit.reschedule(loop.time())
        else:
            handle = loop.call_later(min(look_s, left_s), look)

    async with asyncio.timeout(None) as limit:
        handle = loop.call_later(min(look_s, span_s), look)
        try:
            yield
        finally:
            handle.cancel()
