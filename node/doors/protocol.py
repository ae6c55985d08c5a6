"""A connection as the doors see it: counted from its first moment, answered plainly where it does not speak HTTP."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from node.doors.answers import FULL, refusal
from node.doors.door import Doors, Visitor
from proto.errors import Fault

log = logging.getLogger("toolmesh.doors")

NOBODY = Visitor("", "", proxy=False)


class DoorHandler(web.RequestHandler):
    """aiohttp's own, with the three moments that it leaves to subclasses: made, lost, and what cannot be read."""

    __slots__ = ("_doors", "_in", "visitor")

    def __init__(self, doors: Doors, manager: web.Server, *, loop: asyncio.AbstractEventLoop, **more: Any) -> None:
        super().__init__(manager, loop=loop, **more)
        self._doors = doors
        self._in = False
        self.visitor = NOBODY

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        address, local = (_host_of(transport.get_extra_info(end)) for end in ("peername", "sockname"))
        visitor = self._doors.visitor(address, local)
        super().connection_made(transport)
        if visitor is not None:
            self.visitor, self._in = visitor, self._doors.enter(visitor)
            if self._in:
                miss_the_stalled(transport, self._doors.stall_s)
                return
            if isinstance(transport, asyncio.Transport):
                transport.write(FULL)
        self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._in:
            self._in = False
            self._doors.leave(self.visitor)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Neither what was sent nor what broke is repeated to the client."""
        if request.writer.output_size > 0:
            raise ConnectionError("it broke when a part of the answer was on its way")
        if status == 500:
            fault = Fault()
            fault_id = fault.data["fault_id"]
            log.error("fault %s in %s %s", fault_id, request.method, request.path, exc_info=exc)
            detail = f"internal error; the log has it under {fault_id}"
        elif isinstance(exc, LineTooLong):
            status, detail = 431, "the request line or a header is longer than this node takes"
        else:
            detail = "this is no HTTP request"
            # Anybody who reaches the port can send it: nothing that fills a log.
            level = logging.DEBUG if isinstance(exc, BadHttpMessage) else logging.INFO
            log.log(level, "a request of %s is no HTTP: %s", self.visitor.address, type(exc).__name__)
        response = refusal("", status, detail)
        response.force_close()
        return response


def miss_the_stalled(transport: asyncio.BaseTransport, stall_s: float) -> None:
    """A client that takes nothing of its answer for so long is cut off by the kernel (tcp(7), TCP_USER_TIMEOUT)."""
    connection = transport.get_extra_info("socket")
    if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall_s * 1000))


def _host_of(name: Any) -> str:
    return str(name[0]) if isinstance(name, tuple) and name else ""
