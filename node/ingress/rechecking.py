"""Proofs end by themselves: every few seconds what is open is held against them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

log = logging.getLogger("toolmesh.ingress")

EVERY_S = 5.0
"""So long may a stream outlive the proof that opened it. What is revoked is looked at when the node hears of it."""


class Rechecks:
    """Calls `recheck` every `every_s` seconds from `start` to `stop`."""

    def __init__(self, recheck: Callable[[], None], every_s: float = EVERY_S) -> None:
        self._recheck = recheck
        self._every_s = every_s
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._due)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self.start()
        try:
            self._recheck()
        except Exception:
            log.exception("what is open could not be held against its proofs")
