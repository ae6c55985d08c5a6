"""A server of both eras that tells of changed lists in the newer one alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from aiohttp import web

from node.upstreams import survey as survey_module
from node.upstreams.spec import UpstreamSpec
from tests.node.upstreams.conftest import Recorder
from tests.node.upstreams.test_sessions import spec as asking

MODERN = "2026-07-28"
CAPABILITIES = {"tools": {"listChanged": True}}


class Server:
    """Over HTTP. `heard` is set while somebody listens as 2026-07-28 has it."""

    def __init__(self, capabilities):
        self.capabilities = capabilities
        self.tools = [{"name": "first", "inputSchema": {"type": "object"}}]
        self.heard = asyncio.Event()
        self.changes = asyncio.Queue()
        self.asked = []

    async def handle(self, request):
        if request.method != "POST":
            return web.Response(status=405)
        body = await request.json()
        self.asked.append(body["method"])
        if "id" not in body:
            return web.Response(status=202)
        if body["method"] == "subscriptions/listen":
            return await self.listen(request, body)
        listed = {"tools": self.tools}
        if request.headers.get("MCP-Protocol-Version") == MODERN:
            listed |= {"resultType": "complete", "ttlMs": 3_600_000, "cacheScope": "public"}
        results = {
            "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "x"}},
            "server/discover": {"supportedVersions": [MODERN, "2025-11-25"], "capabilities": self.capabilities},
            "tools/list": listed,
        }
        return web.json_response({"jsonrpc": "2.0", "id": body["id"], "result": results[body["method"]]})

    async def listen(self, request, body):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        meta = {"_meta": {"io.modelcontextprotocol/subscriptionId": body["id"]}}
        await self.say(response, "subscriptions/acknowledged", {"notifications": {"toolsListChanged": True}, **meta})
        self.heard.set()
        while True:
            await self.say(response, await self.changes.get(), meta)

    async def say(self, response, method, params):
        message = web.json_response({"jsonrpc": "2.0", "method": f"notifications/{method}", "params": params})
        await response.write(b"data: " + message.body + b"\n\n")


@pytest.fixture
async def serve():
    runners = []

    async def start(server):
        app = web.Application()
        app.router.add_route("*", "/mcp", server.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return UpstreamSpec("both", url=f"http://127.0.0.1:{runner.addresses[0][1]}/mcp", session_idle_s=0.01)

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.mark.parametrize(("sessions_max", "version"), [(16, MODERN), (0, "2025-11-25")])
async def test_its_changes_are_heard_in_whichever_era_its_main_session_is(watch, serve, sessions_max, version):
    server = Server(CAPABILITIES)
    w = await watch(replace(await serve(server), sessions_max=sessions_max))
    assert (await w.until_up()).protocol_version == version
    async with asyncio.timeout(10):
        await server.heard.wait()
    server.tools = [*server.tools, {"name": "second", "inputSchema": {"type": "object"}}]
    server.changes.put_nowait("tools/list_changed")
    offer = await w.until(lambda o: len(o.tools) == 2)
    assert offer.protocol_version == version
    assert ("initialize" in server.asked) == (version != MODERN)


async def test_where_no_changes_are_announced_nothing_is_kept_open(watch, serve):
    server = Server({"tools": {}})
    w = await watch(await serve(server))
    await w.until_up()
    await w.ask("tools/list", {}, era=MODERN)
    assert "subscriptions/listen" not in server.asked
    assert len(w.upstream._sessions.pool) == 0


async def test_the_era_of_a_command_is_learnt_in_the_background(monkeypatch):
    monkeypatch.setattr(survey_module, "AFTER_S", 0.0)
    learnt = asyncio.Event()

    async def learn():
        learnt.set()

    survey = survey_module.Survey(asking(survey=True), asyncio.Lock(), learn, lambda _: None)
    survey.begin({}, "stdio")
    async with asyncio.timeout(10):
        await learnt.wait()
    await survey.end()


async def test_those_who_listen_keep_no_connection_from_those_who_call(watch, serve):
    server = Server(CAPABILITIES)
    w = await watch(replace(await serve(server), concurrency=1))
    await w.until_up()
    wanted = {"notifications": {"resourceSubscriptions": ["x://1"]}}
    heard = [Recorder() for _ in range(20)]
    listens = [
        asyncio.create_task(w.ask("subscriptions/listen", wanted, r, era=MODERN, call_id=f"l{n}"))
        for n, r in enumerate(heard)
    ]
    async with asyncio.timeout(10):
        await asyncio.gather(*(r.first.wait() for r in heard))
        assert "result" in await w.ask("tools/list", {}, era=MODERN)
    for task in listens:
        task.cancel()
