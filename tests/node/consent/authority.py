"""A strict authorization server with one protected resource, of the tests' own: every rule of the flow is checked."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from aiohttp import web


@dataclass
class Code:
    client: str
    redirect: str
    challenge: str
    resource: str
    scope: str
    account: str


@dataclass
class Refresh:
    client: str
    resource: str
    scope: str
    account: str
    family: str


@dataclass
class Authority:
    """`account` is who is signed in there, in whatever browser comes. Set an attribute to have it misbehave."""

    account: str = "someone"
    says_iss: str | None = "own"
    pkce: tuple[str, ...] = ("S256",)
    expires_in: int = 3600
    rotates: bool = True
    documents: bool = False
    error: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    clients: dict[str, dict[str, Any]] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    refreshes: dict[str, Refresh] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    """Access token → account."""
    asked: list[dict[str, str]] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    """Whose the calls were that came as far as the server."""
    revoked: list[str] = field(default_factory=list)
    proofs: list[str] = field(default_factory=list)
    """The Authorization of each request to revoke."""
    refreshed: int = 0
    registered: int = 0
    described: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """A refresh or a revocation has come in, and waits for `go_on` or `revoke_on`."""
    revoke_on: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """A grant was revoked."""
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    base: str = ""
    resource_path: str = "/mcp"
    audience: str = ""
    """The one resource that tokens are given for; empty: the protected one here."""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/.well-known/oauth-protected-resource/mcp", self._resource),
            web.get("/.well-known/oauth-authorization-server", self._metadata),
            web.get("/authorize", self._authorize),
            web.post("/token", self._token),
            web.post("/register", self._register),
            web.post("/revoke", self._revoke),
            web.post("/mcp", self._mcp),
        ]

    async def serve(self) -> web.AppRunner:
        self.go_on.set()
        self.revoke_on.set()
        app = web.Application()
        app.add_routes(self.routes())
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    def account_of(self, authorization: str) -> str | None:
        return self.tokens.get(authorization.removeprefix("Bearer "))

    async def _mcp(self, request: web.Request) -> web.Response:
        """The protected resource: an MCP server of 2025-11-25 whose tool `whoami` tells whose token it was shown."""
        account = self.account_of(request.headers.get("Authorization", ""))
        if account is None:
            where = f"{self.base}/.well-known/oauth-protected-resource/mcp"
            return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer resource_metadata="{where}"'})
        message = await request.json()
        if "id" not in message:
            return web.Response(status=202)
        answers: dict[str, Any] = {
            "initialize": {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}, "logging": {}},
                "serverInfo": {"name": "files", "version": "1"},
            },
            "tools/list": {"tools": [{"name": "whoami", "inputSchema": {"type": "object"}}]},
            "tools/call": {"content": [{"type": "text", "text": account}]},
            "logging/setLevel": {},
            "ping": {},
        }
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] in answers:
            answer["result"] = answers[message["method"]]
        else:
            answer["error"] = {"code": -32601, "message": "no such method"}
        if message["method"] == "tools/call":
            self.ran.append(account)
        return web.json_response(answer)

    async def _resource(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "resource": self.base + self.resource_path,
                "authorization_servers": [self.base],
                "scopes_supported": ["read", "write"],
            }
        )

    async def _metadata(self, _: web.Request) -> web.Response:
        self.described += 1
        said: dict[str, Any] = {
            "issuer": self.base,
            "authorization_endpoint": f"{self.base}/authorize",
            "token_endpoint": f"{self.base}/token",
            "registration_endpoint": f"{self.base}/register",
            "revocation_endpoint": f"{self.base}/revoke",
            "code_challenge_methods_supported": list(self.pkce),
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic"],
            "authorization_response_iss_parameter_supported": self.says_iss is not None,
            "client_id_metadata_document_supported": self.documents,
            "scopes_supported": ["read", "write", "offline_access"],
        }
        return web.json_response({**said, **self.more})

    async def _register(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if not asked.get("redirect_uris") or asked.get("token_endpoint_auth_method") != "none":
            return web.json_response({"error": "invalid_client_metadata"}, status=400)
        self.registered += 1
        client_id = f"client-{secrets.token_hex(4)}"
        self.clients[client_id] = asked
        return web.json_response({**asked, "client_id": client_id}, status=201)

    async def _authorize(self, request: web.Request) -> web.Response:
        q = request.query
        self.asked.append(dict(q))
        client = self.clients.get(q.get("client_id", ""))
        if client is None or q.get("redirect_uri") not in client["redirect_uris"]:
            return web.Response(status=400, text="no such client or redirect URI")
        back: dict[str, str] = {"state": q["state"]}
        if self.says_iss is not None:
            back["iss"] = self.base if self.says_iss == "own" else self.says_iss
        good = q.get("response_type") == "code" and q.get("code_challenge_method") == "S256"
        good = good and q.get("resource") == (self.audience or self.base + self.resource_path)
        good = good and len(q["state"]) >= 32
        if not good or self.error:
            back["error"] = self.error or "invalid_request"
        else:
            code = back["code"] = secrets.token_urlsafe(16)
            self.codes[code] = Code(
                q["client_id"],
                q["redirect_uri"],
                q["code_challenge"],
                q["resource"],
                q.get("scope", ""),
                self.account,
            )
        raise web.HTTPFound(f"{q['redirect_uri']}?{urlencode(back)}")

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("client_id") not in self.clients:
            return web.json_response({"error": "invalid_client"}, status=401)
        if form.get("grant_type") == "authorization_code":
            code = self.codes.pop(str(form.get("code")), None)
            digest = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
            if (
                code is None
                or code.client != form["client_id"]
                or code.redirect != form.get("redirect_uri")
                or code.resource != form.get("resource")
                or base64.urlsafe_b64encode(digest).decode().rstrip("=") != code.challenge
            ):
                return web.json_response({"error": "invalid_grant"}, status=400)
            held = Refresh(code.client, code.resource, code.scope, code.account, secrets.token_hex(4))
            return self._given(held)
        self.arrived.set()
        await self.go_on.wait()
        token = str(form.get("refresh_token"))
        if token in self.used:
            # RFC 9700 §4.14.2: one that comes twice was stolen; the whole family ends.
            for other in [t for t, r in self.refreshes.items() if r.family == self.used[token]]:
                del self.refreshes[other]
            return web.json_response({"error": "invalid_grant"}, status=400)
        found = self.refreshes.get(token)
        if found is None or found.client != form["client_id"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.refreshed += 1
        if self.rotates:
            del self.refreshes[token]
            self.used[token] = found.family
        return self._given(found)

    def _given(self, held: Refresh) -> web.Response:
        access, refresh = f"at-{held.account}-{secrets.token_urlsafe(12)}", secrets.token_urlsafe(24)
        self.tokens[access] = held.account
        given: dict[str, Any] = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": self.expires_in,
            "scope": held.scope,
            "issued": time.time(),
        }
        if self.rotates or not any(r.family == held.family for r in self.refreshes.values()):
            self.refreshes[refresh] = held
            given["refresh_token"] = refresh
        return web.json_response(given)

    async def _revoke(self, request: web.Request) -> web.Response:
        self.arrived.set()
        await self.revoke_on.wait()
        form = await request.post()
        self.revoked.append(str(form["token"]))
        self.proofs.append(request.headers.get("Authorization", ""))
        self.refreshes.pop(str(form["token"]), None)
        self.ended.set()
        return web.Response()
