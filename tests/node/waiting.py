"""Waiting for what a node's catalogue comes to hold: on its changes, never on the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import wraps
from typing import Any

from node.app import App

WAIT_S = 60.0


async def until(app: App, holds: Callable[[], bool]) -> None:
    """Waits for a change of servers or of their owners that makes it true, `WAIT_S` at most."""
    changed = asyncio.Event()

    def watched(change: Callable[..., None]) -> Callable[..., None]:
        @wraps(change)
        def then_tell(*args: Any, **more: Any) -> None:
            change(*args, **more)
            changed.set()

        return then_tell

    # A listener of the catalogue does not hear of health alone.
    catalog = app.catalog
    catalog.apply, catalog.set_liveness = (  # type: ignore[method-assign]
        watched(catalog.apply),
        watched(catalog.set_liveness),
    )
    async with asyncio.timeout(WAIT_S):
        while not holds():
            changed.clear()
            await changed.wait()
