"""Server-sent events: what waits to be written on one stream, and the one writer of it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import web

from node.ingress.settings import IngressSettings

log = logging.getLogger("toolmesh.ingress")

PING = b": ping\n\n"
HEADERS: Mapping[str, str] = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    # nginx would hold events back otherwise.
    "X-Accel-Buffering": "no",
}


class Frame(NamedTuple):
    """One event: a JSON text, or none where only the id is to be known; `keep`: it must arrive."""

    message: bytes
    keep: bool = False
    event_id: str = ""
    retry_ms: int = 0

    def encoded(self) -> bytes:
        head = f"id: {self.event_id}\n".encode() if self.event_id else b""
        if self.retry_ms:
            head += b"retry: %d\n" % self.retry_ms
        return b"event: message\n%bdata: %b\n\n" % (head, self.message)


class Outbox:
    """Messages waiting for one stream: at most so many, at most so many bytes.

    At the bound the oldest messages that may be lost make room. A message that must arrive (`keep`: a response, a
    request to the client) is refused only when nothing else is left to drop and the count is reached.
    """

    def __init__(self, frames_max: int, bytes_max: int) -> None:
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self.dropped = 0
        self.closed = False
        self.wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"Outbox({len(self._frames)} waiting, {self.dropped} dropped{', closed' if self.closed else ''})"

    def push(self, message: bytes, *, keep: bool = False, event_id: str = "") -> bool:
        """Queue one JSON text. False: it was not taken (closed, or no room)."""
        if self.closed:
            return False
        while len(self._frames) >= self._frames_max or (self._frames and self._bytes + len(message) > self._bytes_max):
            if not self._drop_oldest():
                break
        if not keep and (len(self._frames) >= self._frames_max or self._bytes + len(message) > self._bytes_max):
            self._count_drop()
            return False
        if keep and len(self._frames) >= 2 * self._frames_max:
            return False
        self._frames.append(Frame(message, keep, event_id))
        self._bytes += len(message)
        self.wake.set()
        return True

    def prime(self, event_id: str, retry_ms: int) -> None:
        """Queue an event without a message: the id to resume from, and how long to wait before that."""
        self._frames.append(Frame(b"", True, event_id, retry_ms))
        self.wake.set()

    def close(self) -> None:
        """Nothing more is taken; what waits is still written."""
        self.closed = True
        self.wake.set()

    @property
    def full(self) -> bool:
        """Is either bound reached? What is pushed now may cost something that waits."""
        return len(self._frames) >= self._frames_max or self._bytes >= self._bytes_max

    def take(self) -> list[bytes]:
        """The messages of everything that waits."""
        return [frame.message for frame in self.take_frames() if frame.message]

    def unsent(self) -> list[tuple[bytes, str]]:
        """Messages that never left, with their events' ids; the outbox is empty then."""
        return [(frame.message, frame.event_id) for frame in self.take_frames() if frame.message]

    def take_frames(self) -> list[Frame]:
        """Everything that waits."""
        frames = list(self._frames)
        self._frames.clear()
        self._bytes = 0
        self.wake.clear()
        return frames

    def _drop_oldest(self) -> bool:
        for i, frame in enumerate(self._frames):
            if not frame.keep:
                del self._frames[i]
                self._bytes -= len(frame.message)
                self._count_drop()
                return True
        return False

    def _count_drop(self) -> None:
        self.dropped += 1
        if self.dropped == 1:
            log.warning("an agent reads its event stream too slowly: notifications are being dropped")


class EventStream:
    """One SSE response. `run` is its only writer and returns when the stream is closed or the client is gone."""

    def __init__(self, request: web.Request, settings: IngressSettings) -> None:
        self.outbox = Outbox(settings.stream_frames_max, settings.stream_bytes_max)
        self.response = web.StreamResponse(headers=HEADERS)
        self.lost = False
        self._request = request
        self._ping_s = settings.ping_s
        self._stall_s = settings.stall_s

    async def run(self) -> None:
        """Write until closed. Never raises for a client that went away: `lost` tells."""
        outbox = self.outbox
        try:
            await self.response.prepare(self._request)
            while True:
                if frames := outbox.take_frames():
                    await self._write(b"".join([frame.encoded() for frame in frames]))
                elif outbox.closed:
                    return
                elif not await self._woken():
                    await self._write(PING)
        except ConnectionError as e:
            log.debug("event stream lost: %s", e)
            self._lose()
        except asyncio.CancelledError:
            self._lose()
            raise

    async def _woken(self) -> bool:
        try:
            async with asyncio.timeout(self._ping_s):
                await self.outbox.wake.wait()
        except TimeoutError:
            return False
        return True

    async def _write(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._stall_s):
                await self.response.write(data)
        except TimeoutError:
            log.info("an agent took nothing from its event stream for %s s and is cut off", self._stall_s)
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ConnectionAbortedError("the client stopped reading") from None

    def _lose(self) -> None:
        self.lost = True
        self.outbox.close()
