"""Lists that hold for a time which the server said (`ttlMs`, 2026-07-28), where it does not say when they change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

HOLDS_MIN_S = 60.0
"""A shorter time, none at all included, counts as this: nobody is asked for all that it offers without pause."""


class Expiry:
    """`on_expired` hears which capability's lists are to be listed again. One timer each, set anew by each listing."""

    def __init__(self, on_expired: Callable[[str], None]) -> None:
        self._on_expired = on_expired
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def listed(self, capabilities: Mapping[str, Any], ttls_ms: Mapping[str, float]) -> None:
        """After a listing: `ttls_ms` are by capability. Those of which the server announces changes need no timer."""
        for capability, ttl_ms in ttls_ms.items():
            if (timer := self._timers.pop(capability, None)) is not None:
                timer.cancel()
            declared = capabilities.get(capability)
            if isinstance(declared, dict) and declared.get("listChanged") is True:
                continue
            wait_s = max(ttl_ms / 1000, HOLDS_MIN_S)
            self._timers[capability] = asyncio.get_running_loop().call_later(wait_s, self._on_expired, capability)

    def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
