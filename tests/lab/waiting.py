"""Waiting for what happens in other processes, which can only be asked again and again; always within a bound."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

EVERY_S = 0.02


async def until(
    holds: Callable[[], object | Awaitable[object]], what: str, within_s: float, every_s: float = EVERY_S
) -> float:
    """Ask until it holds; how long that took, in seconds. Fails the test with `what` when the bound is passed."""
    began = time.monotonic()
    while True:
        answer = holds()
        if await answer if inspect.isawaitable(answer) else answer:
            return time.monotonic() - began
        if time.monotonic() - began > within_s:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        await asyncio.sleep(every_s)
