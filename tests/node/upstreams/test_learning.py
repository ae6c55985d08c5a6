"""A server at a URL that speaks both eras is met in the newer one, and asked for the older when a client needs it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from aiohttp import web

from node.upstreams import learning as learning_module
from node.upstreams import survey as survey_module
from node.upstreams.spec import UpstreamSpec

MODERN = "2026-07-28"
OLDER = {"tools": {}, "logging": {}, "tasks": {"list": {}}}
NEWER = {"tools": {}, "extensions": {"x/y": {}}}
PATIENCE_S = 20


class Server:
    """Keeps (method, session id) of what came. `greets` is set while it answers `initialize`."""

    def __init__(self):
        self.came = []
        self.greets = asyncio.Event()
        self.greets.set()
        self.greeted = asyncio.Event()

    def count(self, method):
        return [name for name, _ in self.came].count(method)

    async def handle(self, request):
        session = request.headers.get("Mcp-Session-Id")
        if request.method != "POST":
            self.came.append((request.method, session))
            return web.Response(status=405)
        body = await request.json()
        self.came.append((body["method"], session))
        if "id" not in body:
            return web.Response(status=202)
        headers = {}
        result = {"method": body["method"], "version": request.headers.get("MCP-Protocol-Version")}
        if body["method"] == "initialize":
            self.greeted.set()
            await self.greets.wait()
            headers["Mcp-Session-Id"] = f"s{self.count('initialize')}"
            result = {"protocolVersion": "2025-11-25", "capabilities": OLDER, "serverInfo": {"name": "both"}}
        elif body["method"] == "server/discover":
            result = {"supportedVersions": [MODERN], "capabilities": NEWER, "serverInfo": {"name": "both"}}
        elif body["method"] == "tools/list":
            result = {"tools": [{"name": "t", "inputSchema": {"type": "object"}}], "ttlMs": 60_000}
        return web.json_response({"jsonrpc": "2.0", "id": body["id"], "result": result}, headers=headers)


@pytest.fixture
async def server():
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/mcp", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.spec = UpstreamSpec("both", url=f"http://127.0.0.1:{runner.addresses[0][1]}/mcp")
    yield made
    await runner.cleanup()


def version(answer):
    return answer["result"]["version"]


async def test_who_needs_the_newer_era_alone_has_no_handshake_made(watch, server):
    w = await watch(replace(server.spec, probe_every_s=0.01, survey=True))
    offer = await w.until_up()
    assert version(await w.tool("t", era=MODERN, client_capabilities={"sampling": {}})) == MODERN
    await w.ask("notifications/roots/list_changed", {}, era="2025-11-25")
    async with asyncio.timeout(PATIENCE_S):
        while server.count("server/discover") < 4:  # noqa: ASYNC110 - probes that go by tell nobody
            await asyncio.sleep(0.005)
    assert server.count("initialize") == 0
    assert (w.upstream.modern, w.upstream.legacy) == (True, None)
    assert (offer.protocol_version, offer.capabilities) == (MODERN, NEWER)


async def test_the_first_calls_of_older_clients_have_it_learnt_once_and_the_offer_mended(watch, server):
    w = await watch(server.spec)
    await w.until_up()
    calls = (w.tool("t", era="2025-11-25", session_key=key) for key in "abc")
    assert [version(a) for a in await asyncio.gather(*calls)] == ["2025-11-25"] * 3
    assert server.count("initialize") == 2, "one to learn, one for the session of their principal"
    assert ("DELETE", "s1") in server.came
    assert ("tools/call", "s2") in server.came
    offer = w.upstream.offer
    assert (offer.protocol_version, offer.capabilities, offer.modern_capabilities) == ("2025-11-25", OLDER, NEWER)
    assert version(await w.tool("t", era=MODERN)) == MODERN
    assert version(await w.tool("t", era="2025-11-25", client_capabilities={"roots": {}})) == "2025-11-25"
    assert server.count("initialize") == 3, "a client that declares something has a session of its own"


async def test_what_only_capable_older_clients_see_is_looked_for_once_there_are_older_clients(
    watch, server, monkeypatch
):
    monkeypatch.setattr(survey_module, "AFTER_S", 0.0)
    w = await watch(replace(server.spec, survey=True))
    await w.until_up()
    assert w.upstream._keeper._survey._task is None
    await w.upstream.learn_legacy()
    async with asyncio.timeout(PATIENCE_S):
        await w.upstream._keeper._survey._task
    assert server.count("initialize") == 2


async def test_a_server_that_leaves_the_handshake_unanswered_serves_older_clients_as_a_modern_one(
    watch, server, monkeypatch
):
    monkeypatch.setattr(learning_module, "HANDSHAKE_TIMEOUT_S", 0.05)
    server.greets.clear()
    w = await watch(server.spec)
    await w.until_up()
    for _ in range(2):
        assert version(await w.tool("t", era="2025-11-25")) == MODERN
    assert (server.count("initialize"), w.upstream.legacy) == (1, False)


async def test_who_stops_waiting_for_it_takes_it_from_nobody_and_a_stop_leaves_nothing(watch, server):
    before = set(asyncio.all_tasks())
    server.greets.clear()
    w = await watch(server.spec)
    await w.until_up()
    first = asyncio.create_task(w.tool("t", era="2025-11-25"))
    async with asyncio.timeout(PATIENCE_S):
        await server.greeted.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert w.upstream.legacy is None
    server.greets.set()
    assert version(await w.tool("t", era="2025-11-25")) == "2025-11-25"
    assert server.count("initialize") == 2
    server.greets.clear()
    server.greeted.clear()
    other = asyncio.create_task(w.tool("t", era="2025-11-25", client_capabilities={"roots": {}}))
    async with asyncio.timeout(PATIENCE_S):
        await server.greeted.wait()
    await w.upstream.stop()
    await asyncio.gather(other, return_exceptions=True)
    assert {t for t in asyncio.all_tasks() if "handle" not in repr(t)} <= before | {asyncio.current_task()}
