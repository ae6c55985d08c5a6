"""Log lines of the federation as events, for tests that wait for one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

WAIT_S = 20.0


class Lines(logging.Handler):
    """What was logged, to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._more = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self._more.set()

    async def until(self, text: str) -> str:
        async with asyncio.timeout(WAIT_S):
            while not (found := [line for line in self.lines if text in line]):
                self._more.clear()
                await self._more.wait()
        return found[0]


@contextmanager
def listening() -> Iterator[Lines]:
    """Every line of the federation, of any level."""
    handler, logger = Lines(), logging.getLogger("toolmesh.federation")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)
