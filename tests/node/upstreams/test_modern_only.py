"""Servers of 2026-07-28 that answer `initialize` too, though they have no session: not one says that it declines."""

from __future__ import annotations

import pytest
from aiohttp import web

from node.upstreams.spec import UpstreamSpec

MODERN = "2026-07-28"
TOOL = {"name": "only", "inputSchema": {"type": "object"}}


class Server:
    """Answers `initialize` with `greeting`, and keeps the headers that came with it."""

    def __init__(self, greeting):
        self.greeting = greeting
        self.headers = None

    async def handle(self, request):
        if request.method != "POST":
            return web.Response(status=405)
        body = await request.json()
        results = {
            "initialize": self.greeting,
            "server/discover": {"supportedVersions": [MODERN], "capabilities": {"tools": {}}},
            "tools/list": {"tools": [TOOL], "ttlMs": 60_000, "cacheScope": "public"},
        }
        if "id" not in body:
            return web.Response(status=202)
        if body["method"] == "initialize":
            self.headers = request.headers
        return web.json_response({"jsonrpc": "2.0", "id": body["id"], "result": results[body["method"]]})


@pytest.fixture
async def serve():
    runners = []

    async def start(server):
        app = web.Application()
        app.router.add_route("*", "/mcp", server.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return UpstreamSpec("only", url=f"http://127.0.0.1:{runner.addresses[0][1]}/mcp")

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.mark.parametrize("greeting", [{}, {"protocolVersion": MODERN, "capabilities": {}}])
async def test_a_server_whose_handshake_names_no_revision_that_has_one_is_spoken_to_as_a_modern_one(
    watch, serve, greeting
):
    server = Server(greeting)
    w = await watch(await serve(server))
    offer = await w.until_up()
    assert offer.protocol_version == MODERN
    assert offer.tools == (TOOL,)
    await w.upstream.learn_legacy()
    assert w.upstream.legacy is False
    assert w.upstream.offer is offer


async def test_a_handshake_bears_the_header_that_a_modern_server_wants_with_every_request(watch, serve):
    server = Server({"protocolVersion": "2025-11-25", "capabilities": {}})
    w = await watch(await serve(server))
    await w.until_up()
    await w.upstream.learn_legacy()
    assert w.upstream.offer.protocol_version == "2025-11-25"
    assert server.headers["Mcp-Method"] == "initialize"
