"""The listener of a node: its one application behind its doors."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable

from aiohttp import web

from node.doors.door import Doors, DoorSettings
from node.doors.patience import Patience
from node.doors.protocol import DoorHandler
from node.half_open import HalfOpen, quiet

CLOSE_S = 5.0
LINGER_S = 2.0
"""So long is read on, and thrown away, what comes after a refusal: who is still sending would not see it otherwise."""
LINE_BYTES_MAX = 32 * 1024
"""The longest question that a search takes, in characters of four bytes, percent-encoded, and then some."""
FIELD_BYTES_MAX = 16 * 1024
"""Of one header: a token with the groups of a large company in it is half of that."""
FIELDS_MAX = 100


class Listener:
    """Serves `app` at host and port once started. Every request passes `doors`; no route can be added beside them.

    Requests are cancelled when their client is gone: a modern client's disconnect is its cancellation. The legacy
    ingress shields its calls from it.
    """

    def __init__(
        self,
        app: web.Application,
        settings: DoorSettings,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        barred: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.app = app
        self.doors = Doors(settings, barred)
        self._settings = settings
        self._host = host
        self._port = port
        self._tls = tls
        app.on_response_prepare.append(self.doors.prepared)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=CLOSE_S)
        self._watches: list[HalfOpen | Patience] = []

    @property
    def port(self) -> int:
        return int(self._runner.addresses[0][1])

    async def start(self) -> None:
        """Raises OSError where the port is taken or the host is none of this machine's."""
        await self._runner.setup()
        server = self._runner.server
        assert server is not None  # noqa: S101 - set up just now
        logging.getLogger("aiohttp.server").addFilter(quiet)
        server.request_handler = self.doors.guarded(server.request_handler)
        self._watches = [HalfOpen(server, self._settings.head_s), Patience(self.doors.reading, self._settings.body_s)]
        for watch in self._watches:
            watch.start()
        await _Site(self._runner, self.doors, self._settings, self._host, self._port, self._tls).start()

    async def stop(self) -> None:
        """Answers that are being given get `CLOSE_S`."""
        for watch in self._watches:
            watch.stop()
        await self._runner.cleanup()

    def __repr__(self) -> str:
        return f"Listener({self._host}, {self.doors!r})"


class _Site(web.BaseSite):
    def __init__(
        self,
        runner: web.AppRunner,
        doors: Doors,
        settings: DoorSettings,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        super().__init__(runner, ssl_context=tls)
        self._doors = doors
        self._settings = settings
        self._host = host
        self._port = port

    @property
    def name(self) -> str:
        return f"{'https' if self._ssl_context else 'http'}://{self._host}:{self._port}"

    async def start(self) -> None:
        await super().start()
        loop = asyncio.get_running_loop()
        manager = self._runner.server
        assert manager is not None  # noqa: S101 - the runner is set up

        def connection() -> DoorHandler:
            return DoorHandler(
                self._doors,
                manager,
                loop=loop,
                access_log=None,
                keepalive_timeout=self._settings.idle_s,
                lingering_time=LINGER_S,
                max_line_size=LINE_BYTES_MAX,
                max_field_size=FIELD_BYTES_MAX,
                max_headers=FIELDS_MAX,
            )

        self._server = await loop.create_server(
            connection,
            self._host,
            self._port,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=self._settings.handshake_s if self._ssl_context else None,
        )
