"""Where agents come in: `/mcp`, `/mcp/{name}` and `/mcp-all` over Streamable HTTP, both eras of MCP at each.

The application must run with `web.AppRunner(app, handler_cancellation=True)`: a 2026-07-28 client cancels by closing
its POST. Calls of legacy sessions are shielded from it.
"""

from __future__ import annotations

import logging
import time

from aiohttp import web
from mcp_types.jsonrpc import INVALID_REQUEST, PARSE_ERROR
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from multidict import istr

from node.ingress import envelope, ladder
from node.ingress.changes import ChangeFeed
from node.ingress.connections import Connections
from node.ingress.door import Door, refusal
from node.ingress.incoming import Incoming, accepted
from node.ingress.legacy import LegacyEdge
from node.ingress.modern import ModernEdge
from node.ingress.settings import IngressSettings
from node.ingress.sse_transport import SseTransport
from node.ingress.streamable import SessionsOverHttp
from node.ingress.websocket import WebSocketTransport
from node.ports import EVERYTHING, Authenticator, Carrier, Endpoints
from node.sdk import inbound
from proto import jsons
from proto.errors import Invalid

__all__ = ["IngressSettings", "McpIngress"]

log = logging.getLogger("toolmesh.ingress")

ALLOW = "GET, POST, DELETE"
NAMED_PATHS = ("/mcp/{name}", "/mcp", "/v1/mcp/{name}", "/v1/mcp")
"""`/v1/…` is the same address under another path: a session opened at one may go on at the other. aiohttp tries those
that begin alike in this order: most calls are for a server."""
EVERYTHING_PATH = "/mcp-all"
_VERSION = istr(inbound.MCP_PROTOCOL_VERSION_HEADER)
_ACCEPT = istr("Accept")
_CONTENT_TYPE = istr("Content-Type")


class McpIngress:
    """The agents' edge of a node. Make one per node, add `routes()` to the application, `close()` on shutdown.

    `carrier` reaches the other nodes of a mesh, which may hold the session that a request names; None: there are none.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        authenticator: Authenticator,
        settings: IngressSettings | None = None,
        carrier: Carrier | None = None,
    ) -> None:
        self._settings = settings or IngressSettings()
        self._endpoints = endpoints
        self._authenticator = authenticator
        self._door = Door(authenticator, self._settings)
        self._feed = ChangeFeed()
        self._modern = ModernEdge(endpoints, self._settings, self._feed)
        node = carrier.me if carrier is not None else ""
        self._legacy = LegacyEdge(endpoints, self._settings, self._feed, node)
        self.connections = Connections(self._legacy, self._modern, self._settings)
        self._web_socket = WebSocketTransport(self._door, self.connections, self._settings)
        self._sse = SseTransport(self._door, self.connections, self._settings)
        self._sessions = SessionsOverHttp(self._legacy, self._settings, carrier)
        endpoints.subscribe_changes(self._feed)

    def routes(self) -> list[web.RouteDef]:
        named = [web.route("*", path, self._serve_named) for path in NAMED_PATHS]
        everything = web.route("*", EVERYTHING_PATH, self._serve_everything)
        return [*named, everything, *self._sse.routes(), *self._web_socket.routes()]

    def stats(self) -> dict[str, int]:
        """`sessions`, `streams` and two-way `connections` open now, requests served since the start by era."""
        return {
            "sessions": len(self._legacy.sessions),
            "streams": self._legacy.sessions.streams + self._modern.streams,
            "connections": len(self.connections),
            "legacy_requests": self._legacy.served,
            "modern_requests": self._modern.served,
        }

    def recheck(self) -> None:
        """End what is open of callers that are not valid any more: sessions, streams, listens, connections.

        To be called where something was revoked, and every few seconds, since proofs end by themselves.
        """
        valid = self._authenticator.valid
        self._legacy.sessions.recheck(valid, time.time())
        self._modern.recheck(valid)
        self.connections.recheck(valid)

    async def close(self) -> None:
        """Take nothing more, end every stream and session. Call it from the application's `on_shutdown`."""
        if self._door.closed:
            return
        self._door.closed = True
        self._endpoints.unsubscribe_changes(self._feed)
        self._modern.close()
        await self._legacy.close()
        await self.connections.close()

    # ---- one request ----------------------------------------------------------------------------

    async def _serve_named(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info.get("name")
        if name == EVERYTHING:
            return refusal(404, INVALID_REQUEST, f"no server can be named {name!r}; {EVERYTHING_PATH} shows all")
        return await self._serve(request, name)

    async def _serve_everything(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, EVERYTHING)

    async def _serve(self, request: web.Request, name: str | None) -> web.StreamResponse:
        if (turned_away := self._door.turned_away()) is not None:
            return turned_away
        method = request.method
        version = request.headers.get(_VERSION, "")
        if method == "POST":
            return await self._post(request, name, version)
        if method not in ("GET", "DELETE") or version in MODERN_PROTOCOL_VERSIONS:
            allow = "POST" if version in MODERN_PROTOCOL_VERSIONS else ALLOW
            return refusal(405, INVALID_REQUEST, f"{method} is not served here", {"Allow": allow})
        accepts_sse = accepted(request.headers.get(_ACCEPT, ""))[1]
        if method == "GET" and not accepts_sse:
            return refusal(406, INVALID_REQUEST, "Accept must include text/event-stream")
        principal = await self._door.authenticate(request)
        if isinstance(principal, web.Response):
            return principal
        incoming = Incoming(request.headers, name, principal, version, accepts_sse)
        serve = self._sessions.get if method == "GET" else self._sessions.delete
        return await serve(request, incoming)

    async def _post(self, request: web.Request, name: str | None, version: str) -> web.StreamResponse:
        headers = request.headers
        if headers.get(_CONTENT_TYPE) != "application/json" and request.content_type != "application/json":
            return refusal(415, INVALID_REQUEST, "Content-Type must be application/json")
        # Only here may Accept be absent (RFC 9110: anything goes): the earlier revisions leave that open.
        accepts_json, accepts_sse = accepted(headers.get(_ACCEPT, "" if version in MODERN_PROTOCOL_VERSIONS else "*/*"))
        principal = await self._door.authenticate(request)
        if isinstance(principal, web.Response):
            return principal
        body = await self._door.body(request)
        if isinstance(body, web.Response):
            return body
        try:
            message = jsons.loads(body)
        except Invalid as e:
            return refusal(400, PARSE_ERROR, e.message)
        modern = version in MODERN_PROTOCOL_VERSIONS or ladder.has_envelope(message)
        if not accepts_json or (modern and not accepts_sse):
            return refusal(406, INVALID_REQUEST, "Accept must include application/json and text/event-stream")
        incoming = Incoming(request.headers, name, principal, version, accepts_sse)
        if isinstance(message, list) and not modern:
            return await self._sessions.batch(request, incoming, message)
        try:
            shape = envelope.shape_of(message)
        except Invalid as e:
            return refusal(400, INVALID_REQUEST, e.message)
        edge = self._modern if modern else self._sessions
        return await edge.post(request, incoming, message, shape)
