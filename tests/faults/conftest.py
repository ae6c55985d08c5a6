"""Two real nodes with keys and tenants, agents at one and servers at the other; and one node as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from federation.ca import init_ca
from node.app import App
from tests.node.waiting import until
from tests.node.working import MESH, app_of, settings_of

WITNESS = Path(__file__).parent / "servers" / "witness.py"
PATIENCE_S = 20.0
BOTH = "application/json, text/event-stream"
KEYS = {name: f"{name}-{secrets.token_urlsafe(24)}" for name in ("ann", "bob", "admin")}
MODERN = "2026-07-28"
LEGACY = "2025-11-25"


def witness(**more: Any) -> dict[str, Any]:
    return {"command": [sys.executable, str(WITNESS)], "sessions": "shared", **more}


@dataclass
class Node:
    app: App
    http: aiohttp.ClientSession

    @property
    def port(self) -> int:
        return self.app.http_port

    def headers(self, who: str | None, **more: str) -> dict[str, str]:
        key = {"Authorization": f"Bearer {KEYS[who]}"} if who else {}
        return {"Accept": BOTH, **key, **more}

    async def post(self, path: str, message: Any, who: str | None = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """(status, what was said: the last message of a stream). `message` may be bytes, sent as they are."""
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        asked = self.headers(who, **{"Content-Type": "application/json"}, **headers)
        async with (
            asyncio.timeout(PATIENCE_S),
            self.http.post(self.app.url + path, data=data, headers=asked) as answer,
        ):
            text = await answer.text()
        if answer.content_type == "text/event-stream":
            text = next(line[6:] for line in reversed(text.splitlines()) if line.startswith("data: "))
        return answer.status, json.loads(text) if text.startswith("{") else {}

    async def modern(
        self, path: str, method: str, params: dict[str, Any], who: str | None = None, *, id_: Any = 1, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            **params.pop("_meta", {}),
        }
        names = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        if "name" in params:
            names["Mcp-Name"] = params["name"]
        message = {"jsonrpc": "2.0", "id": id_, "method": method, "params": {**params, "_meta": meta}}
        return await self.post(path, message, who, **names, **headers)

    async def session(self, path: str, who: str | None = None, **headers: str) -> dict[str, str]:
        """The headers that a session of 2025-11-25 is asked with."""
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        asked = self.headers(who, **{"Content-Type": "application/json"}, **headers)
        async with self.http.post(self.app.url + path, json=message, headers=asked) as answer:
            assert answer.status == 200, await answer.text()
            return {"Mcp-Session-Id": answer.headers["Mcp-Session-Id"], "MCP-Protocol-Version": LEGACY}

    async def raw(self, request: str | bytes) -> bytes:
        """What the node answers to these bytes; the head and as much of the body as has come with it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request.encode() if isinstance(request, str) else request)
        try:
            async with asyncio.timeout(PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(v) for k, _, v in (line.partition(b":") for line in head.splitlines())
                     if k.lower() == b"content-length"), 0
                )  # fmt: skip
                return head + await reader.readexactly(length)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@dataclass
class World:
    """Agents ask `entry`; the servers `open` (everybody's), `vault` (of tenant acme) and `shut` (whose tool `secret`
    is blocked) are at `owner`."""

    entry: Node
    owner: Node


async def ready(node: App, owner: str, *servers: str) -> None:
    def there() -> bool:
        found = [node.catalog.find(owner, name) for name in servers]
        return all(f is not None and f.up for f in found)

    await until(node, there)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    base = tmp_path_factory.mktemp("faults")
    init_ca(base / "ca", MESH)
    more: dict[str, dict[str, Any]] = {
        "ann": {"tenant": "acme"},
        "bob": {"tenant": "beta"},
        "admin": {"scopes": ["operator"]},
    }
    keys = [{"name": n, "sha256": hashlib.sha256(k.encode()).hexdigest(), **more[n]} for n, k in KEYS.items()]
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        nodes: list[App] = []
        known: list[str] = []
        for region in ("ap", "eu"):
            settings = settings_of(region, base, static=known, auth={"keys": keys})
            settings["limits"] = {"address": {"failures_per_min": 0}}
            if region == "ap":
                shut = witness(tools={"block": ["secret"]})
                settings["servers"] = {"open": witness(), "vault": witness(tenant="acme"), "shut": shut}
            app = app_of(settings, base / f"{region}-1")
            stack.push_async_callback(app.stop)
            await app.start()
            assert app.federation is not None
            known.append(f"127.0.0.1:{app.federation.bound_port}")
            nodes.append(app)
        owner, entry = nodes
        for app in nodes:
            await ready(app, "ap-1", "open", "vault", "shut")
        yield World(Node(entry, http), Node(owner, http))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alone(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """A node on loopback as it comes: no key, no setting but where its data lies and what it serves."""
    base = tmp_path_factory.mktemp("alone")
    settings = {"node": {"name": "solo", "data_dir": str(base / "data")}, "servers": {"open": witness()}}
    app = app_of(settings, base)
    async with aiohttp.ClientSession() as http:
        try:
            await app.start()
            await ready(app, "solo", "open")
            yield Node(app, http)
        finally:
            await app.stop()


def echoed(answer: dict[str, Any]) -> dict[str, Any]:
    """What the witness told of the request that reached it."""
    told: dict[str, Any] = json.loads(answer["result"]["content"][0]["text"])
    return told


def call(name: str, method: str = "tools/call", **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": name, "arguments": arguments}}
