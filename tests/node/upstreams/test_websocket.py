"""MCP over a WebSocket, both eras, against a server written by hand."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import WSMsgType, web

from node.upstreams.spec import UpstreamSpec
from proto.errors import OutcomeUnknown


class Socket:
    """`asked` keeps the bodies, `headers` those of the last handshake."""

    def __init__(self):
        self.asked = []
        self.headers = None
        self.opened = 0
        self.modern = False
        self.status = 101
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.closed = asyncio.Event()

    async def handle(self, request):
        self.headers = request.headers
        if self.status != 101:
            return web.Response(status=self.status, headers={"Location": "http://elsewhere.test/ws"})
        self.opened += 1
        ws = self.ws = web.WebSocketResponse(protocols=("mcp",), max_msg_size=0)
        await ws.prepare(request)
        async for frame in ws:
            if frame.type is WSMsgType.TEXT:
                await self.on_message(ws, json.loads(frame.data))
        self.closed.set()
        return ws

    async def on_message(self, ws, body):
        self.asked.append(body)
        method, params = body.get("method"), body.get("params", {})
        if method == "notifications/cancelled":
            self.cancelled.set()
        if "id" not in body or method is None:
            return
        if method == "initialize" and not self.modern:
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "ws"}}
        elif method == "server/discover" and self.modern:
            result = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
        elif method == "tools/list":
            result = {"tools": [{"name": "echo", "inputSchema": {}}]}
        elif method == "tools/call":
            result = await getattr(self, f"tool_{params['name']}")(ws, params)
            if result is None:
                return
        elif method == "ping":
            result = {}
        else:
            error = {"code": -32601, "message": f"no {method}"}
            await ws.send_str(json.dumps({"jsonrpc": "2.0", "id": body["id"], "error": error}))
            return
        await ws.send_str(json.dumps({"jsonrpc": "2.0", "id": body["id"], "result": result}))

    async def tool_echo(self, ws, params):
        return {"params": params, "n": 2**70}

    async def tool_big(self, ws, params):
        return {"big": "x" * params["arguments"]["size"]}

    async def tool_never(self, ws, params):
        self.begun.set()

    async def tool_close(self, ws, params):
        await ws.close(code=1011, message=b"oops")

    async def tool_garbage(self, ws, params):
        await ws.send_str("{no json")
        await ws.send_bytes(b"\xff")
        return {}


@pytest.fixture
async def socket():
    server = Socket()
    app = web.Application()
    app.router.add_get("/ws", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"
    yield server
    await runner.cleanup()


def spec(socket, **more):
    return UpstreamSpec("socket", url=socket.url, **more)


async def test_it_is_listed_and_called_with_our_headers_and_the_subprotocol(watch, socket):
    w = await watch(spec(socket, headers={"Authorization": "Bearer t0p"}))
    offer = await w.until_up()
    assert [t["name"] for t in offer.tools] == ["echo"]
    answers = await asyncio.gather(*(w.tool("echo", {"i": i}) for i in range(20)))
    assert [a["result"]["params"]["arguments"] for a in answers] == [{"i": i} for i in range(20)]
    assert answers[0]["result"]["n"] == 2**70
    assert socket.headers["Authorization"] == "Bearer t0p"
    assert socket.headers["Sec-WebSocket-Protocol"] == "mcp"


async def test_a_modern_server_gets_its_envelope_and_is_told_of_a_cancelled_call_by_notification(watch, socket):
    socket.modern = True
    w = await watch(spec(socket))
    assert (await w.until_up()).protocol_version == "2026-07-28"
    meta = (await w.tool("echo", client_capabilities={"sampling": {}}))["result"]["params"]["_meta"]
    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    call = asyncio.create_task(w.tool("never"))
    async with asyncio.timeout(10):
        await socket.begun.wait()
        call.cancel()
        await socket.cancelled.wait()
    with pytest.raises(asyncio.CancelledError):
        await call
    cancelled = next(b for b in socket.asked if b.get("method") == "notifications/cancelled")
    asked = next(b for b in socket.asked if b.get("params", {}).get("name") == "never")
    assert cancelled["params"]["requestId"] == asked["id"]


async def test_a_closed_connection_fails_its_calls_at_once_and_is_opened_anew(watch, socket):
    w = await watch(spec(socket))
    await w.until_up()
    waiting = asyncio.create_task(w.tool("never"))
    with pytest.raises(OutcomeUnknown, match=r"it closed its WebSocket \(code 1011\)"):
        await w.tool("close")
    with pytest.raises(OutcomeUnknown):
        await waiting
    await w.until(lambda o: o.health.state == "up" and o.health.restarts == 1)
    assert "result" in await w.tool("echo")
    assert socket.opened == 2


async def test_a_message_of_megabytes_comes_whole_and_one_beyond_the_bound_ends_the_connection(watch, socket):
    w = await watch(spec(socket, message_bytes_max=4_500_000))
    await w.until_up()
    assert len((await w.tool("big", {"size": 4_400_000}))["result"]["big"]) == 4_400_000
    with pytest.raises(OutcomeUnknown, match="code 1009"):
        await w.tool("big", {"size": 5_000_000})
    await w.until_up()


async def test_frames_that_are_not_json_harm_nobody(watch, socket):
    w = await watch(spec(socket))
    await w.until_up()
    assert await w.tool("garbage") == {"result": {}}


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "credentials in its 'headers'"),
        (404, "answered with status 404; is"),
        (307, "redirects to http://elsewhere.test/ws"),
    ],
)
async def test_a_refused_handshake_says_why(watch, socket, status, says):
    socket.status = status
    assert says in (await (await watch(spec(socket))).until_down()).health.cause


async def test_an_upstream_that_stops_closes_the_connection(watch, socket):
    w = await watch(spec(socket))
    await w.until_up()
    await w.upstream.stop()
    async with asyncio.timeout(10):
        await socket.closed.wait()
