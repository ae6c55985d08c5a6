"""Waiting for what happens in other processes, which can only be asked again and again; always within a bound."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

EVERY_S = 0.02

ENOUGH_S = 60.0
"""For anything that comes at all, on two processors that have much else to do. How long it took, tests tell."""


async def until(
    holds: Callable[[], object | Awaitable[object]], what: str, within_s: float = ENOUGH_S, every_s: float = EVERY_S
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
