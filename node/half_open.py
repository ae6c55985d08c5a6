"""Connections that never say what they want, or not in HTTP: closed, and no traceback of the log's worth."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

log = logging.getLogger("toolmesh.http")

HEAD_S = 30.0
"""How long the head of a connection's first request may take. That of a later one: `KEEPALIVE_S`."""
KEEPALIVE_S = 75.0
"""How long a connection may be idle between two requests; aiohttp bounds that itself."""


class HalfOpen:
    """Looks at a server's connections every third of `head_s`; aiohttp has no such bound of its own."""

    def __init__(self, server: web.Server, head_s: float = HEAD_S) -> None:
        self._server = server
        self._head_s = head_s
        self._since: dict[web.RequestHandler, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._head_s / 3, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now_s = asyncio.get_running_loop().time()
        # The count has no public name; where a release of aiohttp has none, nothing is closed and a test fails.
        mute = [c for c in self._server.connections if not getattr(c, "_request_count", 1)]
        self._since = {connection: self._since.get(connection, now_s) for connection in mute}
        for connection, since_s in self._since.items():
            if now_s - since_s >= self._head_s * 2 / 3:
                log.info("a connection that asked nothing within %g s is closed", self._head_s)
                connection.force_close()
        self.start()


def quiet(record: logging.LogRecord) -> bool:
    """A filter of `aiohttp.server`: what anybody who reaches the port can send is no fault of ours and fills no log."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, BadHttpMessage | web.RequestPayloadError):
        return True
    record.msg, record.args, record.exc_info = "a request is no HTTP: %s", (error,), None
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return logging.getLogger("aiohttp.server").isEnabledFor(logging.DEBUG)
