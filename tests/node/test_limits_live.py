"""Limits at a whole node: told in each era's words, the same by every road, and counted by who calls."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from node.app import App
from node.config import parse
from tests.node.waiting import until

SERVERS = Path(__file__).parents[2] / "deploy" / "examples" / "servers"
KEYS = {"ann": "key-of-ann-4fJ81hQz0pYc", "bob": "key-of-bob-9sWm27RkLx3T"}
MODERN = {
    "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
}


@asynccontextmanager
async def node(base: Path, limits: dict[str, Any]) -> AsyncIterator[tuple[App, aiohttp.ClientSession]]:
    keys = [
        {"name": n, "sha256": hashlib.sha256(k.encode()).hexdigest(), "scopes": ["operator"]} for n, k in KEYS.items()
    ]
    settings = {
        "node": {"data_dir": str(base)},
        "http": {"listen": "127.0.0.1:0"},
        "search": {"embedder": "none"},
        "auth": {"keys": keys},
        "limits": limits,
        "servers": {"finance": {"command": ["{python}", str(SERVERS / "finance.py")], "stateless": True}},
    }
    app = App(parse(settings, base))
    await app.start()
    try:
        await until(app, lambda: bool(tools(app)))
        async with aiohttp.ClientSession() as http:
            yield app, http
    finally:
        await app.stop()


def tools(app: App) -> list[str]:
    server = app.catalog.find(app.catalog.me.name, "finance")
    return list(server.tools) if server is not None else []


async def called(app: App, http: aiohttp.ClientSession, who: str, path: str, tool: str, arguments: Any) -> Any:
    """(status, Retry-After, JSON-RPC answer) of a 2026-07-28 tools/call."""
    headers = {
        "Authorization": f"Bearer {KEYS[who]}",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
    }
    params = {"name": tool, "arguments": arguments, **MODERN}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    async with http.post(f"{app.url}{path}", json=body, headers=headers) as response:
        return response.status, response.headers.get("Retry-After"), await response.json()


async def test_a_caller_over_its_rate_is_told_when_by_every_road_and_others_are_not(tmp_path: Path) -> None:
    async with node(tmp_path, {"principal": {"requests_per_min": 2, "burst": 2}}) as (app, http):
        tool = tools(app)[0]
        inner = {"mcp_server_name": "finance", "mcp_tool_name": tool, "params": {}}
        roads = [("/mcp/finance", tool, {}), ("/mcp", "use_tool", inner), ("/mcp-all", f"finance__{tool}", {})]
        for path, name, arguments in roads[:2]:
            status, _, _ = await called(app, http, "ann", path, name, arguments)
            assert status == 200
        for path, name, arguments in roads:
            status, after, answer = await called(app, http, "ann", path, name, arguments)
            told = answer.get("error") or answer["result"]
            assert "limits.principal.requests_per_min" in str(told), path
            if path != "/mcp":
                assert (status, answer["error"]["code"]) == (429, -32053)
                assert 0 < int(after) <= 30
        status, _, _ = await called(app, http, "bob", *roads[0])
        assert status == 200


@pytest.mark.parametrize("limit", [{"server": {"payload_bytes": 60}}, {"pair": {"payload_bytes": 60}}])
async def test_parameters_that_are_too_long_run_nothing(tmp_path: Path, limit: dict[str, Any]) -> None:
    async with node(tmp_path, limit) as (app, http):
        tool = tools(app)[0]
        status, after, answer = await called(app, http, "ann", "/mcp/finance", tool, {"x": "y" * 100})
        assert (status, after) == (429, None)
        assert "payload_bytes is 60; send less at once" in answer["error"]["message"]
