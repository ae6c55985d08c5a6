"""A server may ask or tell something on its GET stream as soon as a call has come: by then the stream must be there."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web

from node.upstreams import http as http_module
from node.upstreams.spec import UpstreamSpec

ROUND_TRIPS = 20
PATIENCE_S = 20.0


class Server:
    """Answers GET when `answers` is set; `heard` tells which methods have come."""

    def __init__(self):
        self.answers = asyncio.Event()
        self.initialized = asyncio.Event()
        self.heard = []

    async def get(self, request):
        await self.answers.wait()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await asyncio.Event().wait()

    async def nothing(self, request):
        return web.Response()

    async def post(self, request):
        body = await request.json()
        self.heard.append(body["method"])
        if "id" not in body:
            self.initialized.set()
            return web.Response(status=202)
        if body["method"] == "server/discover":
            return web.Response(status=400)
        hello = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}}
        result = hello if body["method"] == "initialize" else {"tools": []}
        return web.json_response({"jsonrpc": "2.0", "id": body["id"], "result": result})


@pytest.fixture
async def served():
    server = Server()
    app = web.Application()
    app.router.add_post("/mcp", server.post)
    app.router.add_get("/mcp", server.get)
    app.router.add_get("/nothing", server.nothing)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield server, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_no_request_is_sent_before_the_get_stream_is_there(watch, served, monkeypatch):
    monkeypatch.setattr(http_module, "TUNE_IN_S", PATIENCE_S)
    server, url = served
    w = await watch(UpstreamSpec("asks", url=f"{url}/mcp"))
    async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as session:
        await server.initialized.wait()
        for _ in range(ROUND_TRIPS):
            async with session.get(f"{url}/nothing"):
                pass
    assert server.heard[-1] == "notifications/initialized"
    server.answers.set()
    await w.until_up()
    assert "tools/list" in server.heard


async def test_a_server_that_keeps_back_its_get_stream_is_waited_for_a_moment_only(watch, served, monkeypatch):
    monkeypatch.setattr(http_module, "TUNE_IN_S", 0.01)
    server, url = served
    await (await watch(UpstreamSpec("mute", url=f"{url}/mcp"))).until_up()
    assert not server.answers.is_set()
