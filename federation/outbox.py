"""What one side of a Forward stream has still to write: `Lanes`, with a way to wait for the next frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from federation.chunks import Lanes

F = TypeVar("F")


class Outbox(Lanes[F]):
    """Iterating yields frames until `close`. One reader; writers never block."""

    def __init__(self, chunk: Callable[[str, bytes], F]) -> None:
        super().__init__(chunk)
        self._wake = asyncio.Event()
        self._closed = False
        self._last: F | None = None
        self._idle = asyncio.Event()
        self._room = asyncio.Event()

    def _queue(self, call_id: str, lane: object) -> None:
        super()._queue(call_id, lane)  # type: ignore[arg-type]
        self._wake.set()

    def close(self, *, after: F | None = None) -> None:
        """Nothing more is written, but for one last frame; what still waits is not."""
        if not self._closed:
            self._last = after
        self._closed = True
        self._wake.set()
        self._idle.set()
        self._room.set()

    async def fewer(self, calls: int) -> None:
        """Until fewer than so many calls have something to be written, or the outbox is closed."""
        while len(self) >= calls and not self._closed:
            self._room.clear()
            await self._room.wait()

    async def drained(self) -> None:
        """Until nothing waits to be written, or the outbox is closed."""
        while not (self.idle or self._closed):
            self._idle.clear()
            await self._idle.wait()

    def __aiter__(self) -> AsyncIterator[F]:
        return self

    async def __anext__(self) -> F:
        while not self._closed:
            frame = self.next()
            if frame is not None:
                self._room.set()
                return frame
            self._idle.set()
            self._wake.clear()
            await self._wake.wait()
        self._idle.set()
        last, self._last = self._last, None
        if last is not None:
            return last
        raise StopAsyncIteration
