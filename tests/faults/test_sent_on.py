"""A published fault about what a gateway makes of a call when it sends it on over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.faults.conftest import Node, call, ready
from tests.node.working import app_of


class Upstream:
    """A server of 2026-07-28 whose tool takes an argument as a header, and which keeps what it is sent."""

    def __init__(self) -> None:
        self.heads: list[tuple[str, list[tuple[bytes, bytes]]]] = []

    async def handle(self, request: web.Request) -> web.Response:
        message = await request.json()
        self.heads.append((request.raw_path, list(request.raw_headers)))
        match message.get("method"):
            case "server/discover":
                result: dict[str, Any] = {
                    "supportedVersions": ["2026-07-28"],
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "heads", "version": "1"},
                }
            case "tools/list":
                schema = {"type": "object", "properties": {"q": {"type": "string", "x-mcp-header": "Q"}}}
                result = {"tools": [{"name": "find", "description": "find", "inputSchema": schema}]}
            case _:
                result = {"content": []}
        meta = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        return web.json_response({"jsonrpc": "2.0", "id": message.get("id"), "result": {**meta, **result}})


HOSTILE = ["../../admin", "a\r\nX-Admin: 1", "a\nb", "?x=1&y=2#z", "a b", "\u2028", "%0d%0aX: 1", "é", "\x7f", "a;b",
           "=?base64?Zm9v?=", " lead", "\tx", "x" * 5_000]  # fmt: skip


async def test_cve_2026_29791_what_a_caller_writes_changes_neither_path_nor_headers_of_what_is_sent_on(
    tmp_path: Path,
) -> None:
    """Here arguments become headers where a tool of 2026-07-28 asks for them; no OpenAPI document is read yet."""
    upstream = Upstream()
    site = web.Application()
    site.router.add_route("*", "/{tail:.*}", upstream.handle)
    runner = web.AppRunner(site)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0)
    await listening.start()
    port = runner.addresses[0][1]
    settings = {
        "node": {"name": "solo", "data_dir": str(tmp_path / "data")},
        "servers": {"heads": {"url": f"http://127.0.0.1:{port}/mcp"}},
    }
    app = app_of(settings, tmp_path)
    try:
        await app.start()
        await ready(app, "solo", "heads")
        async with aiohttp.ClientSession() as http:
            node = Node(app, http)
            session = await node.session("/mcp/heads")
            await node.post("/mcp/heads", call("find", q="plain"), **session)
            assert (b"Mcp-Param-Q", b"plain") in upstream.heads[-1][1]
            for hostile in HOSTILE:
                upstream.heads.clear()
                _, said = await node.post("/mcp/heads", call("find", q=hostile), **session)
                for path, headers in upstream.heads:
                    assert path == "/mcp"
                    names = [name.lower() for name, _ in headers]
                    assert len(names) == len(set(names))
                    assert not {b"x-admin", b"x"} & set(names)
                    assert all(32 <= byte < 127 for _, value in headers for byte in value), headers
                assert upstream.heads or "error" in said
    finally:
        await app.stop()
        await runner.cleanup()
