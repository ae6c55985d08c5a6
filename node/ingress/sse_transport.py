"""HTTP+SSE of 2024-11-05: GET `/sse`, `/sse/{name}`, `/sse-all` is the way down; a POST to the address it names, up.

The stream's first event, `endpoint`, holds that address with an id that nobody can guess. The id is known to the node
that holds the stream alone; elsewhere a POST gets 404.
"""

from __future__ import annotations

import logging
import secrets
from functools import partial

from aiohttp import web
from mcp_types.jsonrpc import INVALID_REQUEST, PARSE_ERROR

from node.ingress.connections import Connections
from node.ingress.door import Door, refusal
from node.ingress.duplex import Duplex
from node.ingress.incoming import accepted
from node.ingress.settings import IngressSettings
from node.ingress.sse import HEADERS, PING, miss_the_dead
from node.ports import EVERYTHING
from proto import jsons
from proto.errors import Invalid, Unavailable
from proto.records import Principal

log = logging.getLogger("toolmesh.ingress")

SESSION_PARAMETER = "sessionId"


class SseTransport:
    def __init__(self, door: Door, connections: Connections, settings: IngressSettings) -> None:
        self._door = door
        self._settings = settings
        self._connections = connections
        self._by_id: dict[str, Duplex] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.route("*", "/sse", partial(self._serve, None)),
            web.route("*", "/sse-all", partial(self._serve, EVERYTHING)),
            web.route("*", "/sse/{name:[^/*]+}", self._serve_named),
        ]

    async def _serve_named(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request.match_info["name"], request)

    async def _serve(self, name: str | None, request: web.Request) -> web.StreamResponse:
        if (turned_away := self._door.turned_away()) is not None:
            return turned_away
        if request.method not in ("GET", "POST"):
            return refusal(405, INVALID_REQUEST, f"{request.method} is not served here", {"Allow": "GET, POST"})
        principal = await self._door.authenticate(request)
        if isinstance(principal, web.Response):
            return principal
        return await (self._get if request.method == "GET" else self._post)(request, name, principal)

    async def _get(self, request: web.Request, name: str | None, principal: Principal) -> web.StreamResponse:
        if not accepted(request.headers.get("Accept", "*/*"))[1]:
            return refusal(406, INVALID_REQUEST, "Accept must include text/event-stream")
        try:
            async with self._connections.opened(name, principal) as duplex:
                return await self._stream(request, duplex)
        except Unavailable as e:
            return refusal(503, INVALID_REQUEST, e.message)

    async def _stream(self, request: web.Request, duplex: Duplex) -> web.StreamResponse:
        session_id = secrets.token_urlsafe(24)
        response = web.StreamResponse(headers=HEADERS)

        async def write(message: bytes) -> None:
            await response.write(b"event: message\ndata: %b\n\n" % message)

        self._by_id[session_id] = duplex
        try:
            await response.prepare(request)
            miss_the_dead(request, self._settings.stall_s)
            # A path without scheme and host: whatever name the agent dialled stays the one that it posts to.
            address = f"{request.rel_url.raw_path}?{SESSION_PARAMETER}={session_id}"
            await response.write(f"event: endpoint\ndata: {address}\n\n".encode())
            await duplex.pump(write, lambda: response.write(PING))
        except ConnectionError as e:
            log.debug("%r is lost: %s", duplex, e)
            if request.transport is not None:
                request.transport.abort()
        finally:
            del self._by_id[session_id]
        return response

    async def _post(self, request: web.Request, name: str | None, principal: Principal) -> web.StreamResponse:
        session_id = request.query.get(SESSION_PARAMETER)
        if not session_id:
            return refusal(
                400, INVALID_REQUEST, f"?{SESSION_PARAMETER}= is missing; GET this address for a stream first"
            )
        if request.content_type != "application/json":
            return refusal(415, INVALID_REQUEST, "Content-Type must be application/json")
        duplex = self._by_id.get(session_id)
        # Another's stream is as good as none.
        if duplex is None or not duplex.belongs_to(name, principal):
            why = "no stream with this id is open at this node; GET a new one, and send both to the same node"
            return refusal(404, INVALID_REQUEST, why)
        duplex.renew(principal)
        body = await self._door.body(request)
        if isinstance(body, web.Response):
            return body
        try:
            message = jsons.loads(body)
        except Invalid as e:
            return refusal(400, PARSE_ERROR, e.message)
        await duplex.room()
        if not duplex.open:
            return refusal(404, INVALID_REQUEST, "the stream has ended; GET a new one")
        duplex.take(message)
        return web.Response(status=202)
