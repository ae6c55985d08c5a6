"""Clean-up that no cancellation cuts short: a process that is half put down is a process left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def to_the_end(ending: Coroutine[Any, Any, None]) -> None:
    """Run it until it has ended, which it does within a bound of its own; a cancellation is passed on after that."""
    task = asyncio.create_task(ending)
    cut: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as e:
            cut = e
    if cut is not None:
        raise cut
    task.result()
