"""A strict authorization server and a strict MCP server of the tests' own, on one loopback listener each.

The MCP server serves the same three things over Streamable HTTP, HTTP+SSE and WebSocket, keeps the headers of every
request, and refuses a session to anybody but who opened it.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import WSMsgType, web
from joserfc import jwt
from joserfc.jwk import ECKey

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
SECRET = "correct horse:battery/staple"
CLIENT = "node-client"


async def serve(app: web.Application) -> tuple[web.AppRunner, str]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


@dataclass
class Given:
    """A token that the authorization server has given out."""

    subject: str
    scopes: frozenset[str]
    resource: str
    expires_at: float


@dataclass
class Issuer:
    """`override` may replace any answer: it gets the request's path and form, and gives a response or None."""

    url: str = ""
    life_s: float = 3600.0
    grants: frozenset[str] = frozenset({"read", "write", "admin"})
    key: ECKey | None = None
    forms: list[dict[str, str]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    tokens: dict[str, Given] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    override: Callable[[str, dict[str, str]], web.Response | None] = lambda _path, _form: None
    before: Callable[[], Awaitable[None]] | None = None
    _count: itertools.count[int] = field(default_factory=itertools.count)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/.well-known/oauth-authorization-server", self._describe)
        app.router.add_post("/token", self._token)
        return app

    def revoke_all(self) -> None:
        self.tokens.clear()

    async def _describe(self, request: web.Request) -> web.Response:
        replaced = self.override(request.path, {})
        if replaced is not None:
            return replaced
        return web.json_response(
            {
                "issuer": self.url,
                "token_endpoint": f"{self.url}/token",
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt"],
                **self.metadata,
            }
        )

    async def _token(self, request: web.Request) -> web.Response:
        form = {str(k): str(v) for k, v in (await request.post()).items()}
        self.forms.append(form)
        self.authorizations.append(request.headers.get("Authorization", ""))
        if self.before is not None:
            await self.before()
        replaced = self.override(request.path, form)
        if replaced is not None:
            return replaced
        if not self._is_client(request):
            return web.json_response({"error": "invalid_client"}, status=401)
        match form.get("grant_type"):
            case "client_credentials":
                subject = CLIENT
            case grant if grant == EXCHANGE:
                subject = self._exchanged(form)
            case _:
                return web.json_response({"error": "unsupported_grant_type"}, status=400)
        asked = frozenset(form.get("scope", "").split())
        token = f"issued-{next(self._count)}-{base64.urlsafe_b64encode(subject.encode()).decode().rstrip('=')}"
        self.tokens[token] = Given(subject, asked & self.grants, form.get("resource", ""), time.time() + self.life_s)
        return web.json_response(
            {
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": self.life_s,
                "scope": " ".join(sorted(asked & self.grants)),
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            }
        )

    def _is_client(self, request: web.Request) -> bool:
        scheme, _, pair = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic":
            return False
        name, _, secret = base64.b64decode(pair).decode().partition(":")
        return (unquote_plus(name), unquote_plus(secret)) == (CLIENT, SECRET)

    def _exchanged(self, form: dict[str, str]) -> str:
        """Who the token is for: by the assertion's own words, or the caller's token as text."""
        if form["subject_token_type"].endswith(":jwt"):
            assert self.key is not None
            claims = jwt.decode(form["subject_token"], self.key, algorithms=["ES256"]).claims
            assert claims["aud"] == self.url
            assert claims["exp"] - claims["iat"] <= 60
            said = claims["sub_id"]
            return json.dumps([said["iss"], claims.get("tenant", ""), claims["sub"]])
        return form["subject_token"]


@dataclass
class McpServer:
    """`modern`: it speaks 2026-07-28 too. `needs` are the scopes of a tools/call. `challenge` goes with a 401, beside
    where its metadata is.
    """

    issuer: Issuer
    url: str = ""
    needs: frozenset[str] = frozenset()
    lists_openly: bool = False
    modern: bool = False
    resource: dict[str, Any] = field(default_factory=dict)
    challenge: str = ', scope="read"'
    seen: list[dict[str, str]] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    sessions: dict[str, str] = field(default_factory=dict)
    strangers: list[tuple[str, str]] = field(default_factory=list)
    _streams: dict[str, asyncio.Queue[str]] = field(default_factory=dict)
    _count: itertools.count[int] = field(default_factory=itertools.count)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/.well-known/oauth-protected-resource/{rest:.*}", self._describe)
        app.router.add_post("/mcp", self._post)
        app.router.add_get("/sse", self._sse)
        app.router.add_post("/messages/{stream}", self._message)
        app.router.add_get("/ws", self._ws)
        return app

    async def _describe(self, request: web.Request) -> web.Response:
        rest = request.match_info["rest"]
        return web.json_response(
            {"resource": f"{self.url}/{rest}", "authorization_servers": [self.issuer.url], **self.resource}
        )

    def _who(self, request: web.Request) -> str | None:
        """The subject of the request's token; None: it has none that is good here."""
        self.seen.append(dict(request.headers))
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = self.issuer.tokens.get(token)
        if scheme != "Bearer" or given is None or given.expires_at <= time.time():
            return None
        return given.subject

    def _scopes(self, request: web.Request) -> frozenset[str]:
        return self.issuer.tokens[request.headers["Authorization"].partition(" ")[2]].scopes

    def _unauthorized(self, request: web.Request) -> web.Response:
        path = "/sse" if request.path.startswith("/messages") else request.path
        at = f"{self.url}/.well-known/oauth-protected-resource{path}"
        said = f'Bearer error="invalid_token", resource_metadata="{at}"{self.challenge}'
        return web.Response(status=401, headers={"WWW-Authenticate": said})

    async def _post(self, request: web.Request) -> web.Response:
        text = await request.text()
        self.bodies.append(text)
        message = json.loads(text)
        method = message.get("method")
        subject = self._who(request)
        if subject is None:
            if not (self.lists_openly and method != "tools/call"):
                return self._unauthorized(request)
            subject = "nobody"
        if method == "tools/call" and not self.needs <= self._scopes(request):
            said = f'Bearer error="insufficient_scope", scope="{" ".join(sorted(self.needs))}"'
            return web.Response(status=403, headers={"WWW-Authenticate": said})
        headers = {}
        if method == "initialize":
            headers["Mcp-Session-Id"] = f"s{next(self._count)}"
            self.sessions[headers["Mcp-Session-Id"]] = subject
        elif (session := request.headers.get("Mcp-Session-Id")) and self.sessions.get(session) != subject:
            self.strangers.append((self.sessions.get(session, ""), subject))
        if "id" not in message:
            return web.Response(status=202)
        return web.json_response(self._answer(message, subject), headers=headers)

    def _answer(self, message: dict[str, Any], subject: str) -> dict[str, Any]:
        result: dict[str, Any]
        match message["method"]:
            case "initialize":
                result = {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "strict", "version": "1"},
                }
            case "tools/list":
                result = {"tools": [{"name": "whoami", "inputSchema": {"type": "object"}}]}
            case "tools/call":
                result = {"content": [{"type": "text", "text": subject}]}
            case "server/discover" if self.modern:
                result = {
                    "resultType": "complete",
                    "supportedVersions": ["2026-07-28"],
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "strict", "version": "1"},
                    "ttlMs": 60_000,
                    "cacheScope": "private",
                }
            case "ping":
                result = {}
            case _:
                error = {"code": -32601, "message": "unknown"}
                return {"jsonrpc": "2.0", "id": message["id"], "error": error}
        return {"jsonrpc": "2.0", "id": message["id"], "result": result}

    async def _sse(self, request: web.Request) -> web.StreamResponse:
        if (subject := self._who(request)) is None:
            return self._unauthorized(request)
        name = f"{next(self._count)}"
        queue = self._streams[name] = asyncio.Queue()
        self.sessions[name] = subject
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"event: endpoint\ndata: /messages/{name}\n\n".encode())
        while True:
            await response.write(f"data: {await queue.get()}\n\n".encode())

    async def _message(self, request: web.Request) -> web.Response:
        text = await request.text()
        self.bodies.append(text)
        stream = request.match_info["stream"]
        subject = self._who(request)
        if subject is None:
            return self._unauthorized(request)
        if self.sessions[stream] != subject:
            self.strangers.append((self.sessions[stream], subject))
        message = json.loads(text)
        if "id" in message:
            self._streams[stream].put_nowait(json.dumps(self._answer(message, subject)))
        return web.Response(status=202)

    async def _ws(self, request: web.Request) -> web.StreamResponse:
        if (subject := self._who(request)) is None:
            return self._unauthorized(request)
        socket = web.WebSocketResponse(protocols=("mcp",))
        await socket.prepare(request)
        async for frame in socket:
            if frame.type is WSMsgType.TEXT:
                self.bodies.append(frame.data)
                message = json.loads(frame.data)
                if "id" in message:
                    await socket.send_str(json.dumps(self._answer(message, subject)))
        return socket
