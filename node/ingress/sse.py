"""Server-sent events: what waits to be written on one stream, and the one writer of it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import web

from node.ingress import envelope
from node.ingress.settings import IngressSettings
from node.sdk import subscriptions
from proto import jsons

log = logging.getLogger("toolmesh.ingress")

PING = b": ping\n\n"
HEADERS: Mapping[str, str] = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    # nginx would hold events back otherwise.
    "X-Accel-Buffering": "no",
}

_CHANGED = tuple(envelope.notification({"method": method})[:-1] for method in subscriptions.LISTEN_STREAM_METHODS)
"""How a message begins that tells of a change: a list's, or a resource's."""


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
    request to the client) is refused only when nothing else is left to drop and the count is reached. A message longer
    than all that may wait is taken where it waits alone. That a thing has changed waits once, however often it is told.
    """

    __slots__ = ("_bytes", "_bytes_max", "_frames", "_frames_max", "_reader", "closed", "dropped")

    def __init__(self, frames_max: int, bytes_max: int) -> None:
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        # There are thousands of these, nearly all empty: neither a deque nor an Event, which take 760 bytes each.
        self._frames: list[Frame] = []
        self._bytes = 0
        self._reader: asyncio.Future[bool] | None = None
        self.dropped = 0
        self.closed = False

    def __repr__(self) -> str:
        return f"Outbox({len(self._frames)} waiting, {self.dropped} dropped{', closed' if self.closed else ''})"

    def push(self, message: bytes, *, keep: bool = False, event_id: str = "") -> bool:
        """Queue one JSON text. False: it was not taken (closed, or no room)."""
        if self.closed:
            return False
        if self._frames and message.startswith(_CHANGED):
            self._take_out(message)
        while self._full_with(message):
            if not self._drop_oldest():
                break
        if not keep and self._full_with(message):
            self._count_drop()
            return False
        if keep and len(self._frames) >= 2 * self._frames_max:
            return False
        self._frames.append(Frame(jsons.compact(message), keep, event_id))
        self._bytes += len(message)
        self._wake(True)
        return True

    def prime(self, event_id: str, retry_ms: int) -> None:
        """Queue an event without a message: the id to resume from, and how long to wait before that."""
        self._frames.append(Frame(b"", True, event_id, retry_ms))
        self._wake(True)

    def close(self) -> None:
        """Nothing more is taken; what waits is still written."""
        self.closed = True
        self._wake(True)

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
        frames, self._frames = self._frames, []
        self._bytes = 0
        return frames

    async def woken(self, within_s: float | None = None) -> bool:
        """Until something waits or this is closed; False: not `within_s` seconds. For one reader at a time."""
        if self._frames or self.closed:
            return True
        loop = asyncio.get_running_loop()
        self._reader = loop.create_future()
        timer = None if within_s is None else loop.call_later(within_s, self._wake, False)
        try:
            return await self._reader
        finally:
            self._reader = None
            if timer is not None:
                timer.cancel()

    def _wake(self, woken: bool) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(woken)

    def _full_with(self, message: bytes) -> bool:
        too_long = self._bytes > 0 and self._bytes + len(message) > self._bytes_max
        return too_long or len(self._frames) >= self._frames_max

    def _take_out(self, message: bytes) -> None:
        """The same text, if it waits already."""
        for i, frame in enumerate(self._frames):
            if frame.message == message:
                del self._frames[i]
                self._bytes -= len(message)
                return

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


def miss_the_dead(request: web.Request, patience_s: float) -> None:
    """A machine that vanished says nothing: comments would be written to it for a quarter of an hour."""
    connection = request.transport.get_extra_info("socket") if request.transport is not None else None
    # Linux has it, and Linux is where nodes run; elsewhere the system's own patience holds.
    if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(patience_s * 1000))


class EventStream:
    """One SSE response. `run` is its only writer and returns when the stream is closed or the client is gone."""

    __slots__ = ("_ping_s", "_request", "_stall_s", "lost", "outbox", "response")

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
            miss_the_dead(self._request, self._stall_s)
            while True:
                if frames := outbox.take_frames():
                    await self._write(b"".join([frame.encoded() for frame in frames]))
                elif outbox.closed:
                    return
                elif not await outbox.woken(self._ping_s):
                    await self._write(PING)
        except ConnectionError as e:
            log.debug("event stream lost: %s", e)
            self._lose()
        except asyncio.CancelledError:
            self._lose()
            raise

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
