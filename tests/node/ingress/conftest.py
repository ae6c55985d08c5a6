"""A real server on port 0, and behind it the in-memory twin of `Endpoints`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from node.doors.door import DoorSettings
from node.doors.listener import Listener
from node.ingress.http import IngressSettings, McpIngress
from node.ports import EVERYTHING, Caller, Carrier, ChangeListener, Credentials
from proto.calls import Answer, Exchange
from proto.errors import Forbidden, Unauthenticated, Unknown
from proto.records import ANONYMOUS, Principal

Tool = Callable[[dict[str, Any], Caller, Exchange], Awaitable[Answer]]

MODERN = "2026-07-28"
BOTH = "application/json, text/event-stream"


class TwinEndpoint:
    """Tools by name; records every call it saw."""

    def __init__(self) -> None:
        self.tools: dict[str, Tool] = {}
        self.seen: list[tuple[str, dict[str, Any], Caller]] = []
        self.listed: list[dict[str, Any]] = []
        self.listened: list[tuple[dict[str, Any], Caller]] = []
        self.listening: list[Exchange] = []
        self.notified: list[tuple[str, dict[str, Any], Caller]] = []
        self.capabilities: dict[str, Any] = {"tools": {}, "resources": {"subscribe": True}, "logging": {}}
        self.schemas: dict[str, dict[str, Any]] = {}
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()
        self.heard = asyncio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Until it is true; looked at whenever a listen begins or ends or a notification comes."""
        async with asyncio.timeout(10):
            while not holds():
                self.heard.clear()
                await self.heard.wait()

    def describe(self, caller: Caller) -> dict[str, Any]:
        if caller.principal.subject == "blind":
            raise Forbidden("policy 7 hides this from 'blind'")
        return {
            "serverInfo": {"name": "twin", "version": "1"},
            "capabilities": self.capabilities,
            "instructions": "Speak up.",
        }

    def header_schema(self, tool: str, caller: Caller) -> dict[str, Any] | None:
        return self.schemas.get(tool)

    async def handle(self, method: str, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        self.seen.append((method, params, caller))
        if method == "tools/list":
            return {"result": {"tools": self.listed}}
        if method == "vendor/echo":
            return {"result": {"params": params}}
        if method == "resources/read":
            raise Unknown(f"no resource {params.get('uri')!r}")
        if method != "tools/call":
            raise Unknown(f"no method {method!r}", method=method)
        tool = self.tools.get(params.get("name", ""))
        if tool is None:
            raise Unknown("nothing by that name")
        return await tool(params.get("arguments") or {}, caller, exchange)

    async def listen(self, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        """Honours every resource subscription; `tell` speaks to whoever listens; `release` ends all."""
        self.listened.append((params, caller))
        asked = params["notifications"]
        honoured = {"resourceSubscriptions": uris} if (uris := asked.get("resourceSubscriptions")) else {}
        exchange.event({"method": "notifications/subscriptions/acknowledged", "params": {"notifications": honoured}})
        self.listening.append(exchange)
        self.heard.set()
        try:
            await self.release.wait()
            return {"result": {}}
        finally:
            self.listening.remove(exchange)
            self.cancelled.set()
            self.heard.set()

    def tell(self, notification: dict[str, Any]) -> None:
        for exchange in self.listening:
            exchange.event(notification)

    async def notify(self, method: str, params: dict[str, Any], caller: Caller) -> None:
        self.notified.append((method, params, caller))
        self.heard.set()


class TwinEndpoints:
    def __init__(self) -> None:
        self.by_name: dict[str | None, TwinEndpoint] = {
            None: TwinEndpoint(),
            "time": TwinEndpoint(),
            EVERYTHING: TwinEndpoint(),
        }
        self.listeners: list[ChangeListener] = []
        self.starting: dict[str | None, asyncio.Event] = {}
        self.awaited = asyncio.Event()

    def endpoint(self, name: str | None) -> TwinEndpoint:
        found = self.by_name.get(name)
        if found is None:
            raise Unknown(f"no server {name!r}")
        return found

    async def started(self, name: str | None, principal: Principal) -> None:
        """Whoever asks for what `starting` names waits for its event."""
        if (event := self.starting.get(name)) is not None:
            self.awaited.set()
            await event.wait()

    def subscribe_changes(self, listener: ChangeListener) -> None:
        self.listeners.append(listener)

    def unsubscribe_changes(self, listener: ChangeListener) -> None:
        self.listeners.remove(listener)

    def change(self, server: str, *kinds: str, seen_by: Callable[[Principal], bool] | None = None) -> None:
        for listener in self.listeners:
            listener((server,), frozenset(kinds), seen_by)


class TwinAuthenticator:
    """Anonymous without credentials; `TOKEN` otherwise names the subject, except `wrong`."""

    def __init__(self) -> None:
        self.seen: list[Credentials] = []
        self.open = True
        self.revoked: set[str] = set()
        self.ends_s: dict[str, int] = {}

    async def authenticate(self, credentials: Credentials) -> Principal:
        self.seen.append(credentials)
        token = credentials.bearer or credentials.api_key or credentials.basic.partition(":")[0]
        if token == "wrong" or (not token and not self.open):
            raise Unauthenticated("show a token")
        if not token:
            return ANONYMOUS
        return Principal(token, "twin", kind="user", expires_s=self.ends_s.get(token, 0))

    def valid(self, principal: Principal) -> bool:
        return principal.subject not in self.revoked and not 0 < principal.expires_s <= time.time()

    def principals(self) -> dict[str, Principal]:
        return {}


@dataclass
class Served:
    """A running ingress, and a raw client for it."""

    url: str
    ingress: McpIngress
    endpoints: TwinEndpoints
    authenticator: TwinAuthenticator
    http: aiohttp.ClientSession
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> TwinEndpoint:
        return self.endpoints.endpoint(None)

    @property
    def time(self) -> TwinEndpoint:
        return self.endpoints.endpoint("time")

    def post(self, body: Any, path: str = "", **headers: str | None) -> aiohttp.client._RequestContextManager:
        """POST as it is. Header names with underscores; None removes one."""
        sent = {"Accept": BOTH, "Content-Type": "application/json", **self.headers}
        for name, value in headers.items():
            key = name.replace("_", "-")
            sent.pop(key, None)
            if value is not None:
                sent[key] = value
        # A path beginning with // is of the server's root, any other goes on from /mcp.
        url = self.url.removesuffix("/mcp") + path[1:] if path.startswith("//") else self.url + path
        if isinstance(body, bytes):
            return self.http.post(url, data=body, headers=sent)
        return self.http.post(url, json=body, headers=sent)

    def modern(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        request_id: Any = 1,
        path: str = "",
        meta: dict[str, Any] | None = None,
        capabilities: dict[str, Any] | None = None,
        **headers: str | None,
    ) -> aiohttp.client._RequestContextManager:
        """A well-formed 2026-07-28 request, headers and all."""
        prefix = "io.modelcontextprotocol/"
        params = dict(params or {})
        params["_meta"] = {
            f"{prefix}protocolVersion": MODERN,
            f"{prefix}clientCapabilities": capabilities or {},
            **(meta or {}),
        }
        routing: dict[str, str | None] = {"MCP_Protocol_Version": MODERN, "Mcp_Method": method}
        for key in ("name", "uri"):
            if isinstance(params.get(key), str):
                routing["Mcp_Name"] = params[key]
        body = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        return self.post(body, path, **{**routing, **headers})

    async def session(
        self, version: str = "2025-11-25", path: str = "", capabilities: dict[str, Any] | None = None, **headers: str
    ) -> dict[str, str]:
        """Initialise; the headers that later requests of the session carry, names as `post` wants them."""
        params = {
            "protocolVersion": version,
            "capabilities": capabilities or {},
            "clientInfo": {"name": "t", "version": "1"},
        }
        async with self.post(self.call("initialize", params, 0), path, **headers) as r:
            assert r.status == 200, await r.text()
            negotiated = (await r.json())["result"]["protocolVersion"]
            kept = {"Mcp_Session_Id": r.headers["Mcp-Session-Id"], "MCP_Protocol_Version": negotiated, **headers}
        async with self.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, path, **kept) as r:
            assert r.status == 202
        return kept

    # ---- shapes ---------------------------------------------------------------------------------

    @staticmethod
    def text(words: str, **more: Any) -> Answer:
        return {"result": {"content": [{"type": "text", "text": words}], **more}}

    @staticmethod
    def call(method: str, params: dict[str, Any] | None = None, request_id: Any = 1) -> dict[str, Any]:
        body: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id, "method": method}
        if params is not None:
            body["params"] = params
        return body

    @staticmethod
    def tool_call(name: str, request_id: Any = 1, **arguments: Any) -> dict[str, Any]:
        return Served.call("tools/call", {"name": name, "arguments": arguments}, request_id)

    @staticmethod
    async def events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
        """The messages of an SSE response, as they come; comments, and events that have only an id, are skipped."""
        async for _, message in Served.identified(response):
            if message is not None:
                yield message

    @staticmethod
    async def identified(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
        """(id, message) of each SSE event, as they come; the message is None where it has none."""
        assert response.headers["Content-Type"] == "text/event-stream"
        event_id = ""
        async for line in response.content:
            if line.startswith(b"id: "):
                event_id = line[4:].strip().decode()
            elif line.startswith(b"data: "):
                yield event_id, orjson.loads(line[6:]) if line[6:].strip() else None

    @staticmethod
    async def next(stream: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
        async with asyncio.timeout(10):
            return await anext(stream)

    @staticmethod
    async def wait(event: asyncio.Event) -> None:
        async with asyncio.timeout(10):
            await event.wait()


@asynccontextmanager
async def served(settings: IngressSettings | None = None, carrier: Carrier | None = None) -> AsyncIterator[Served]:
    endpoints, authenticator = TwinEndpoints(), TwinAuthenticator()
    ingress = McpIngress(endpoints, authenticator, settings or IngressSettings(), carrier)
    app = web.Application()
    app.add_routes(ingress.routes())
    app.on_shutdown.append(lambda _: ingress.close())
    listener = Listener(app, DoorSettings(), "127.0.0.1", 0)
    await listener.start()
    async with aiohttp.ClientSession(read_bufsize=2**24) as http:
        try:
            yield Served(f"http://127.0.0.1:{listener.port}/mcp", ingress, endpoints, authenticator, http)
        finally:
            await listener.stop()


@pytest.fixture
async def edge() -> AsyncIterator[Served]:
    async with served() as s:
        yield s


@pytest.fixture
def serve() -> Callable[[IngressSettings], AbstractAsyncContextManager[Served]]:
    """For a test that needs other settings."""
    return served
