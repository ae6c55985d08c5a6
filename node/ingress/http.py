"""Where agents come in: `/mcp` and `/mcp/{name}` over Streamable HTTP, both eras of MCP behind one path.

The application must run with `web.AppRunner(app, handler_cancellation=True)`: a 2026-07-28 client cancels by closing
its POST. Calls of legacy sessions are shielded from it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from mcp_types import PROTOCOL_VERSION_META_KEY
from mcp_types.jsonrpc import INVALID_REQUEST, PARSE_ERROR
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from multidict import istr

from node.ingress import envelope
from node.ingress.changes import ChangeFeed
from node.ingress.errors import refusal
from node.ingress.incoming import API_KEY, AUTHORIZATION, Incoming, accepted, credentials_of
from node.ingress.legacy import LegacyEdge
from node.ingress.modern import ModernEdge
from node.ingress.reply import Outcome
from node.ingress.settings import IngressSettings
from node.ingress.streamable import SessionsOverHttp
from node.ports import Authenticator, Endpoints
from node.sdk import inbound
from proto import jsons
from proto.errors import Invalid, Unauthenticated
from proto.records import Principal

__all__ = ["IngressSettings", "McpIngress"]

log = logging.getLogger("toolmesh.ingress")

ALLOW = "GET, POST, DELETE"
_VERSION = istr(inbound.MCP_PROTOCOL_VERSION_HEADER)
_ACCEPT = istr("Accept")
_CONTENT_TYPE = istr("Content-Type")
_ORIGIN = istr("Origin")


class McpIngress:
    """The agents' edge of a node. Make one per node, add `routes()` to the application, `close()` on shutdown."""

    def __init__(
        self, endpoints: Endpoints, authenticator: Authenticator, settings: IngressSettings | None = None
    ) -> None:
        self._settings = settings or IngressSettings()
        self._endpoints = endpoints
        self._authenticator = authenticator
        self._feed = ChangeFeed()
        self._modern = ModernEdge(endpoints, self._settings, self._feed)
        self._legacy = LegacyEdge(endpoints, self._settings, self._feed)
        self._sessions = SessionsOverHttp(self._legacy, self._settings)
        self._closed = False
        endpoints.subscribe_changes(self._feed)

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", "/mcp", self._serve), web.route("*", "/mcp/{name}", self._serve)]

    def stats(self) -> dict[str, int]:
        """`sessions` and `streams` open now, requests served since the start by era."""
        return {
            "sessions": len(self._legacy.sessions),
            "streams": self._legacy.sessions.streams + self._modern.streams,
            "legacy_requests": self._legacy.served,
            "modern_requests": self._modern.served,
        }

    async def close(self) -> None:
        """Take nothing more, end every stream and session. Call it from the application's `on_shutdown`."""
        if self._closed:
            return
        self._closed = True
        self._endpoints.unsubscribe_changes(self._feed)
        self._modern.close()
        await self._legacy.close()

    # ---- one request ----------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self._closed:
            return _refusal(503, INVALID_REQUEST, "this node is shutting down")
        if not self._origin_allowed(request):
            return _refusal(403, INVALID_REQUEST, "this Origin may not call; add it to allowed_origins")
        method = request.method
        version = request.headers.get(_VERSION, "")
        if method == "POST":
            return await self._post(request, version)
        if method not in ("GET", "DELETE") or version in MODERN_PROTOCOL_VERSIONS:
            allow = "POST" if version in MODERN_PROTOCOL_VERSIONS else ALLOW
            return _refusal(405, INVALID_REQUEST, f"{method} is not served here", {"Allow": allow})
        accepts_sse = accepted(request.headers.get(_ACCEPT, ""))[1]
        if method == "GET" and not accepts_sse:
            return _refusal(406, INVALID_REQUEST, "Accept must include text/event-stream")
        principal = await self._authenticate(request)
        if isinstance(principal, web.Response):
            return principal
        incoming = Incoming(request.headers, request.match_info.get("name"), principal, version, accepts_sse)
        return await (self._sessions.get(request, incoming) if method == "GET" else self._sessions.delete(incoming))

    async def _post(self, request: web.Request, version: str) -> web.StreamResponse:
        headers = request.headers
        if headers.get(_CONTENT_TYPE) != "application/json" and request.content_type != "application/json":
            return _refusal(415, INVALID_REQUEST, "Content-Type must be application/json")
        # Only here may Accept be absent (RFC 9110: anything goes): the earlier revisions leave that open.
        accepts_json, accepts_sse = accepted(headers.get(_ACCEPT, "" if version in MODERN_PROTOCOL_VERSIONS else "*/*"))
        principal = await self._authenticate(request)
        if isinstance(principal, web.Response):
            return principal
        body = await self._body(request)
        if isinstance(body, web.Response):
            return body
        try:
            message = jsons.loads(body)
        except Invalid as e:
            return _refusal(400, PARSE_ERROR, e.message)
        modern = version in MODERN_PROTOCOL_VERSIONS or _has_modern_meta(message)
        if not accepts_json or (modern and not accepts_sse):
            return _refusal(406, INVALID_REQUEST, "Accept must include application/json and text/event-stream")
        incoming = Incoming(request.headers, request.match_info.get("name"), principal, version, accepts_sse)
        if isinstance(message, list) and not modern:
            return await self._sessions.batch(request, incoming, message)
        try:
            shape = envelope.shape_of(message)
        except Invalid as e:
            return _refusal(400, INVALID_REQUEST, e.message)
        edge = self._modern if modern else self._sessions
        return await edge.post(request, incoming, message, shape)

    async def _authenticate(self, request: web.Request) -> Principal | web.Response:
        try:
            return await self._authenticator.authenticate(credentials_of(request))
        except Unauthenticated as e:
            if AUTHORIZATION in request.headers or API_KEY in request.headers:
                e.data["presented"] = True
            cause: Exception = e
        except Exception as e:  # the edge where every failure becomes protocol
            cause = e
        refused = refusal(cause, resource_metadata_url=self._settings.resource_metadata_url)
        body = envelope.error(None, refused.code, refused.message, refused.data)
        status = refused.status if refused.status != 200 else 500
        return Outcome(body, status, refused.headers).response()

    async def _body(self, request: web.Request) -> bytes | web.Response:
        """The whole body, bounded in size and time. Small ones are already there."""
        limit = self._settings.body_bytes_max
        content = request.content
        if (request.content_length or 0) > limit:
            return self._too_large()
        if content.is_eof():
            body = content.read_nowait()
            return body if len(body) <= limit else self._too_large()
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.body_read_s):
                async for part in content.iter_any():
                    size += len(part)
                    if size > limit:
                        return self._too_large()
                    parts.append(part)
        except TimeoutError:
            return _refusal(408, INVALID_REQUEST, f"the body took longer than {self._settings.body_read_s} s to arrive")
        return b"".join(parts)

    def _too_large(self) -> web.Response:
        return _refusal(413, INVALID_REQUEST, f"the body is longer than {self._settings.body_bytes_max} bytes")

    def _origin_allowed(self, request: web.Request) -> bool:
        """Against DNS rebinding (streamable-http, Security Warning): a browser always names the page's origin."""
        origin = request.headers.get(_ORIGIN)
        if origin is None or origin.lower() in self._settings.allowed_origins:
            return True
        return _is_loopback(_host_of(origin)) and _listens_on_loopback(request)


def _has_modern_meta(message: Any) -> bool:
    params = message.get("params") if isinstance(message, dict) else None
    meta = params.get("_meta") if isinstance(params, dict) else None
    return isinstance(meta, dict) and PROTOCOL_VERSION_META_KEY in meta


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listens_on_loopback(request: web.Request) -> bool:
    name = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return isinstance(name, tuple) and _is_loopback(str(name[0]))


def _refusal(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return Outcome(envelope.error(None, code, message), status, headers or {}).response()
