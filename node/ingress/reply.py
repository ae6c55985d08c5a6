"""The HTTP response of one POST: plain JSON, unless something must be told before the answer is there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from node.ingress.settings import IngressSettings
from node.ingress.sse import HEADERS, EventStream

JSON_TYPE = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished message: its JSON text, and the HTTP face that it has if nothing was streamed before."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        headers = {**JSON_TYPE, **self.headers} if self.headers else JSON_TYPE
        return web.Response(body=self.body, status=self.status, headers=headers)


class Out(Protocol):
    """Where messages go that come ahead of an answer, or belong to none."""

    def send(self, message: bytes, *, keep: bool = False) -> bool:
        """Take one JSON text. Never blocks; False: it could not be taken.

        Where too much waits, what need not arrive (not `keep`) is dropped first.
        """


class Reply:
    """An `Out`. Becomes an SSE stream at the first message sent before the answer, or after `promote_after_s`.

    A client that does not accept SSE gets JSON, and nothing but the answer.
    """

    def __init__(self, request: web.Request, settings: IngressSettings, streams: bool) -> None:
        self._request = request
        self._settings = settings
        self._streams = streams
        self._stream: EventStream | None = None
        self._writer: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        if streams:
            self._timer = asyncio.get_running_loop().call_later(settings.promote_after_s, self._promote)

    @property
    def open(self) -> bool:
        """May something still be sent?"""
        return self._streams and not self._over and not (self._stream is not None and self._stream.lost)

    def send(self, message: bytes, *, keep: bool = False) -> bool:
        """Stream one JSON text ahead of the answer. Never blocks; False: it could not be taken."""
        if not self.open:
            return False
        return self._promote().outbox.push(message, keep=keep)

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

    def abandon(self) -> None:
        """The client is gone: write no more."""
        self._stop_timer()
        self._over = True
        if self._writer is not None:
            self._writer.cancel()

    def _promote(self) -> EventStream:
        if self._stream is None:
            self._stop_timer()
            self._stream = EventStream(self._request, self._settings)
            self._writer = asyncio.get_running_loop().create_task(self._stream.run())
        return self._stream

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
