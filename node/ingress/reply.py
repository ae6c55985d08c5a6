"""The HTTP response of one request: plain JSON, unless something must be told before the answer is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from aiohttp import web

from node.ingress.settings import IngressSettings
from node.ingress.sse import HEADERS, EventStream, Outbox
from proto import jsons

JSON_TYPE = {"Content-Type": "application/json"}

T = TypeVar("T", covariant=True)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished message: its JSON text, and the HTTP face that it has if nothing was streamed before.

    Without a text it is a status alone.
    """

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        if not self.body:
            return web.Response(status=self.status, headers=self.headers)
        headers = {**JSON_TYPE, **self.headers} if self.headers else JSON_TYPE
        # The server holds on to it until the next request of the connection.
        return web.Response(body=jsons.compact(self.body), status=self.status, headers=headers)


class Out(Protocol):
    """Where messages go that come ahead of an answer, or belong to none."""

    def send(self, message: bytes, *, keep: bool = False) -> bool:
        """Take one JSON text. Never blocks; False: it could not be taken.

        Where too much waits, what need not arrive (not `keep`) is dropped first.
        """


class Connection(Protocol):
    """What carries a stream's events to the client for the time being. Over for good once `close`d."""

    def push(self, message: bytes, *, keep: bool = False, event_id: str = "") -> bool: ...

    def prime(self, event_id: str, retry_ms: int) -> None: ...

    def close(self) -> None: ...

    def unsent(self) -> list[tuple[bytes, str]]:
        """Messages that never left, with their events' ids."""


Opened = Callable[[Connection], None]


class Way(Protocol[T]):
    """The way back of one HTTP request: a response that is not begun yet, or a stream. `T` is what becomes of it."""

    def on_stream(self, opened: Opened) -> None:
        """`opened` is called with the connection should this become a stream, before anything is pushed."""

    def promote(self) -> bool:
        """Become a stream. False: it cannot; the client takes none, or is gone."""

    def promote_after(self, delay_s: float) -> None:
        """Become a stream then, unless the answer is there before."""

    async def finish(self, outcome: Outcome) -> T:
        """The answer; where this is a stream, its last event."""

    async def finish_silent(self) -> T:
        """End without an answer, as MCP asks for a cancelled request."""

    async def run(self) -> T:
        """Be nothing but a stream, until its connection is closed or the client is gone."""

    def abandon(self) -> None:
        """The client is gone: write no more."""


class Reply:
    """An `Out` and a `Way`. Becomes an SSE stream at the first message sent before the answer, or after some time:
    `promote_after_s`, or (not `promotes`) when it is told to.

    A client that does not accept SSE gets JSON, and nothing but the answer.
    """

    __slots__ = ("_opened", "_over", "_request", "_settings", "_stream", "_streams", "_timer", "_writer")

    def __init__(
        self, request: web.Request, settings: IngressSettings, streams: bool, *, promotes: bool = True
    ) -> None:
        self._request = request
        self._settings = settings
        self._streams = streams
        self._stream: EventStream | None = None
        self._opened: Opened | None = None
        self._writer: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        if promotes:
            self.promote_after(settings.promote_after_s)

    @property
    def open(self) -> bool:
        """May something still be sent?"""
        return self._streams and not self._over and not (self._stream is not None and self._stream.lost)

    def send(self, message: bytes, *, keep: bool = False) -> bool:
        """Stream one JSON text ahead of the answer. Never blocks; False: it could not be taken."""
        if not self.open:
            return False
        return self._promote().push(message, keep=keep)

    def on_stream(self, opened: Opened) -> None:
        self._opened = opened

    def promote(self) -> bool:
        if not self.open:
            return False
        self._promote()
        return True

    def promote_after(self, delay_s: float) -> None:
        if self._streams and self._timer is None and self._stream is None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._promote)

    async def finish(self, outcome: Outcome) -> web.StreamResponse:
        """The answer."""
        self._stop_timer()
        if self._stream is None:
            self._over = True
            return outcome.response()
        self._stream.outbox.push(outcome.body, keep=True)
        return await self._end(self._stream)

    async def finish_silent(self) -> web.StreamResponse:
        """End without an answer, as MCP asks for a cancelled request.

        An empty stream is what clients of every SDK take quietly; without SSE it is a 202.
        """
        self._stop_timer()
        if self._stream is not None:
            return await self._end(self._stream)
        self._over = True
        if not self._streams:
            return web.Response(status=202)
        return web.Response(headers=HEADERS)

    async def run(self) -> web.StreamResponse:
        """Be nothing but a stream."""
        self._stop_timer()
        stream = self._stream = EventStream(self._request, self._settings)
        if self._opened is not None:
            self._opened(stream.outbox)
        try:
            await stream.run()
        finally:
            self._over = True
        return stream.response

    def abandon(self) -> None:
        """The client is gone: write no more."""
        self._stop_timer()
        self._over = True
        # It holds whoever holds this: the request and all of its buffers would wait for the garbage collector.
        self._opened = None
        if self._writer is not None:
            self._writer.cancel()

    def _promote(self) -> Outbox:
        if self._stream is None:
            self._stop_timer()
            self._stream = EventStream(self._request, self._settings)
            if self._opened is not None:
                self._opened(self._stream.outbox)
            self._writer = asyncio.get_running_loop().create_task(self._stream.run())
        return self._stream.outbox

    async def _end(self, stream: EventStream) -> web.StreamResponse:
        stream.outbox.close()
        if self._writer is not None:
            await self._writer
        self._over = True
        return stream.response

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
