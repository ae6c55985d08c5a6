"""Which transport and which era a server speaks, found out without harm to the one that will serve."""

from __future__ import annotations

import asyncio
import json
import sys

import psutil
import pytest
from aiohttp import WSMsgType, web

from node.upstreams import era as era_module
from node.upstreams.era import Era, detect
from node.upstreams.spec import UpstreamSpec
from proto.errors import Unavailable


def result(versions):
    return 200, {"jsonrpc": "2.0", "id": 1, "result": {"supportedVersions": versions, "capabilities": {}}}


def error(status, code, **data):
    said = {"code": code, "message": "no", **({"data": data} if data else {})}
    return status, {"jsonrpc": "2.0", "id": None, "error": said}


class Web:
    """Answers `server/discover` on POST as told, serves /sse if told to, and a WebSocket."""

    def __init__(self):
        self.answer = result(["2026-07-28"])
        self.sse = False
        self.asked = []
        self.silent = False

    async def on_post(self, request):
        self.asked.append((request.headers, json.loads(await request.read())))
        if self.silent:
            await asyncio.Event().wait()
        status, body = self.answer
        return web.json_response(body, status=status) if body is not None else web.Response(status=status, text="?")

    async def on_get(self, request):
        if request.headers.get("Upgrade") == "websocket":
            ws = web.WebSocketResponse(protocols=("mcp",))
            await ws.prepare(request)
            frame = await ws.receive()
            if frame.type is WSMsgType.TEXT and self.answer[1] is not None:
                await ws.send_str(json.dumps({**self.answer[1], "id": json.loads(frame.data)["id"]}))
            await ws.close()
            return ws
        if not self.sse:
            return web.Response(status=405)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"event: endpoint\ndata: /messages\n\n")
        await asyncio.Event().wait()
        return response


@pytest.fixture
async def served():
    server = Web()
    app = web.Application()
    app.router.add_post("/mcp", server.on_post)
    app.router.add_get("/mcp", server.on_get)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.address = f"127.0.0.1:{runner.addresses[0][1]}/mcp"
    server.spec = UpstreamSpec("served", url=f"http://{server.address}", headers={"X-Key": "k"})
    yield server
    await runner.cleanup()


@pytest.mark.parametrize(
    ("answer", "modern"),
    [
        (result(["2026-07-28"]), True),
        (result(["2025-11-25", "2026-07-28", "2031-01-01"]), True),
        (result(["2025-06-18"]), False),
        (result("2026-07-28"), False),
        (error(400, -32020), True),
        (error(400, -32021), True),
        (error(400, -32022, supported=["2025-11-25"], requested="2026-07-28"), False),
        (error(400, -32022, supported=["2026-07-28"], requested="?"), True),
        (error(400, -32600), False),
        (error(400, -32000), False),
        (error(404, -32601), False),
        (error(200, -32601), False),
        ((500, None), False),
        ((406, None), False),
        ((405, None), False),
    ],
)
async def test_the_era_of_a_server_over_http_is_read_from_its_answer_to_discover(served, answer, modern):
    served.answer = answer
    assert await detect(served.spec) == Era("http", modern)
    headers, body = served.asked[0]
    assert len(served.asked) == 1
    assert headers["MCP-Protocol-Version"] == "2026-07-28"
    assert headers["Mcp-Method"] == "server/discover"
    assert headers["X-Key"] == "k"
    assert body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {}


async def test_a_server_of_revisions_that_nobody_here_speaks_says_so(served):
    served.answer = error(400, -32022, supported=["2031-01-01"], requested="2026-07-28")
    with pytest.raises(Unavailable, match="supports the revisions 2031-01-01; supported here are 2024-11-05, "):
        await detect(served.spec)


@pytest.mark.parametrize("status", [400, 404, 405])
async def test_an_address_that_takes_no_post_but_streams_is_http_with_sse(served, status):
    served.answer = (status, None)
    served.sse = True
    assert await detect(served.spec) == Era("sse", modern=False)


async def test_where_the_configuration_says_http_no_stream_is_looked_for(served):
    served.answer = (404, None)
    served.sse = True
    assert await detect(UpstreamSpec("served", url=served.spec.url, transport="http")) == Era("http", modern=False)


async def test_where_the_configuration_says_sse_nothing_is_asked(served):
    assert await detect(UpstreamSpec("served", url=served.spec.url, transport="sse")) == Era("sse", modern=False)
    assert served.asked == []


@pytest.mark.parametrize("status", [401, 403])
async def test_credentials_that_are_refused_are_the_cause(served, status):
    served.answer = (status, None)
    with pytest.raises(Unavailable, match="credentials"):
        await detect(served.spec)


async def test_an_address_where_nobody_listens_is_the_cause():
    with pytest.raises(Unavailable, match=r"cannot be reached at http://127\.0\.0\.1:1/mcp: connection refused"):
        await detect(UpstreamSpec("served", url="http://127.0.0.1:1/mcp"))


async def test_a_server_that_says_nothing_to_it_is_taken_for_an_old_one(served, monkeypatch):
    monkeypatch.setattr(era_module, "PROBE_TIMEOUT_S", 0.1)
    served.silent = True
    assert await detect(served.spec) == Era("http", modern=False)


@pytest.mark.parametrize(("answer", "modern"), [(result(["2026-07-28"]), True), ((200, None), False)])
async def test_a_websocket_is_asked_on_a_connection_of_its_own(served, answer, modern):
    served.answer = answer
    assert await detect(UpstreamSpec("served", url=f"ws://{served.address}")) == Era("websocket", modern)
    spec = UpstreamSpec("served", url=f"http://{served.address}", transport="websocket")
    assert await detect(spec) == Era("websocket", modern)


@pytest.mark.parametrize(
    ("modes", "modern"), [(("modern",), True), ((), False), (("fragile",), False), (("mute",), False)]
)
async def test_a_command_is_asked_in_a_process_that_is_gone_afterwards(raw, monkeypatch, modes, modern):
    monkeypatch.setattr(era_module, "PROBE_START_S", 15.0 if modes != ("mute",) else 0.5)
    before = set(psutil.Process().children(recursive=True))
    assert await detect(raw(*modes)) == Era("stdio", modern)
    assert set(psutil.Process().children(recursive=True)) <= before


async def test_a_command_that_does_not_exist_is_the_cause():
    with pytest.raises(Unavailable, match="was not found on PATH"):
        await detect(UpstreamSpec("none", command=("no-such-program-here",)))


async def test_a_server_on_the_sdk_understands_the_modern_era_over_pipes():
    code = "from mcp.server.mcpserver import MCPServer; MCPServer('x', log_level='ERROR').run()"
    assert await detect(UpstreamSpec("sdk", command=(sys.executable, "-c", code))) == Era("stdio", modern=True)
