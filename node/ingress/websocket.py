"""WebSocket for agents: `/ws`, `/ws/{name}`, `/ws-all`. One JSON-RPC message is one text frame, both ways.

MCP names no such transport; the subprotocol `mcp` is chosen where a client offers it. A frame longer than
`body_bytes_max` ends the connection with 1009; the bound is in the header `Toolmesh-Message-Bytes-Max` of the opening.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from aiohttp import WSCloseCode, WSMsgType, web
from mcp_types.jsonrpc import INVALID_REQUEST

from node.ingress.connections import CLOSE_S, Connections
from node.ingress.door import Door, refusal
from node.ingress.duplex import Duplex
from node.ingress.settings import IngressSettings
from node.ports import EVERYTHING
from proto.errors import Unavailable

log = logging.getLogger("toolmesh.ingress")

SUBPROTOCOL = "mcp"
BYTES_MAX_HEADER = "Toolmesh-Message-Bytes-Max"


class WebSocketTransport:
    def __init__(self, door: Door, connections: Connections, settings: IngressSettings) -> None:
        self._door = door
        self._connections = connections
        self._settings = settings

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/ws", partial(self._serve, None), allow_head=False),
            web.get("/ws-all", partial(self._serve, EVERYTHING), allow_head=False),
            web.get("/ws/{name:[^/*]+}", self._serve_named, allow_head=False),
        ]

    async def _serve_named(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request.match_info["name"], request)

    async def _serve(self, name: str | None, request: web.Request) -> web.StreamResponse:
        if (turned_away := self._door.turned_away()) is not None:
            return turned_away
        principal = await self._door.authenticate(request)
        if isinstance(principal, web.Response):
            return principal
        socket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,),
            heartbeat=self._settings.ping_s,
            timeout=CLOSE_S,
            # A frame of the very size is one too many for aiohttp.
            max_msg_size=self._settings.body_bytes_max + 1,
            # Nothing is gained next door, and a small frame cannot become a large message.
            compress=False,
            decode_text=False,
        )
        if not socket.can_prepare(request):
            why = "this address is dialled by WebSocket; the upgrade is missing or malformed"
            return refusal(426, INVALID_REQUEST, why, {"Upgrade": "websocket", "Connection": "Upgrade"})
        try:
            async with self._connections.opened(name, principal) as duplex:
                socket.headers[BYTES_MAX_HEADER] = str(self._settings.body_bytes_max)
                await socket.prepare(request)
                await self._converse(request, socket, duplex)
        except Unavailable as e:
            return refusal(503, INVALID_REQUEST, e.message)
        return socket

    async def _converse(self, request: web.Request, socket: web.WebSocketResponse[bool], duplex: Duplex) -> None:
        writing = asyncio.get_running_loop().create_task(_write(request, socket, duplex))
        try:
            while duplex.open:
                frame = await socket.receive()
                if frame.type is WSMsgType.TEXT:
                    await duplex.receive(frame.data)
                elif frame.type is WSMsgType.BINARY:
                    duplex.junk("a message is a text frame, and this one is binary")
                else:
                    log.debug("%r is over: %s", duplex, frame.type.name)
                    break
            if duplex.open:
                writing.cancel()
        except BaseException:
            # Nobody reads any more: what is written would have no end.
            writing.cancel()
            raise
        finally:
            await asyncio.wait((writing,))
            if not writing.cancelled() and (fault := writing.exception()) is not None:
                log.error("%r: writing failed", duplex, exc_info=fault)


async def _write(request: web.Request, socket: web.WebSocketResponse[bool], duplex: Duplex) -> None:
    """The connection's only writer; closes it once nothing more is to be said."""
    try:
        await duplex.pump(lambda message: socket.send_frame(message, WSMsgType.TEXT))
        await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the node ends this connection")
    except ConnectionError as e:
        log.debug("%r is lost: %s", duplex, e)
        if request.transport is not None:
            request.transport.abort()
