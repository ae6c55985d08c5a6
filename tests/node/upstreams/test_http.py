"""Streamable HTTP against a server written by hand (for the edges) and one on the SDK (for the truth)."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from node.upstreams import expiry as expiry_module
from node.upstreams import http as http_module
from node.upstreams import keeping as keeping_module
from node.upstreams.spec import UpstreamSpec
from proto.errors import Expired, OutcomeUnknown, Unavailable

SERVERS = Path(__file__).parent / "servers"


class Hand:
    """A Streamable HTTP server that does as a test tells it. `asked` keeps (HTTP method, headers, body)."""

    def __init__(self):
        self.asked = []
        self.tools = [{"name": "echo", "inputSchema": {"type": "object"}, "x-unknown": [1]}]
        self.session = "s1"
        self.modern_only = False
        self.announces = False
        self.ttl_ms = 0
        self.initialize_status = 200
        self.get_stream = None
        self.hold_initialize = None
        self.initializing = asyncio.Event()
        self.deleted = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.hung_up = asyncio.Event()
        self.resumed_with = None
        self.polls = 0
        self.get_refusals = []

    async def handle(self, request):
        body = json.loads(await request.read() or b"null")
        self.asked.append((request.method, request.headers, body))
        if request.method == "DELETE":
            self.deleted.set()
            return web.Response(status=204)
        if request.method == "GET":
            return await self.on_get(request)
        return await self.on_post(request, body)

    async def on_get(self, request):
        if "Last-Event-ID" in request.headers:
            self.resumed_with = request.headers["Last-Event-ID"]
            if self.polls:
                self.polls -= 1
                return await self.stream(request)
            response = await self.stream(request)
            await response.write(self.event({"jsonrpc": "2.0", "id": self.waiting, "result": {"resumed": True}}))
            return response
        if self.get_refusals:
            return web.Response(status=self.get_refusals.pop())
        if self.get_stream is None:
            return web.Response(status=405)
        response = await self.stream(request)
        while True:
            await response.write(self.event(await self.get_stream.get()))

    @staticmethod
    async def stream(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        return response

    @staticmethod
    def event(message, **fields):
        head = "".join(f"{k}: {v}\n" for k, v in fields.items())
        return f"{head}data: {json.dumps(message) if message else ''}\n\n".encode()

    def answer(self, body, result, **kwargs):
        return web.json_response({"jsonrpc": "2.0", "id": body["id"], "result": result}, **kwargs)

    async def on_post(self, request, body):
        method = body.get("method")
        if self.modern_only:
            return self.modern(request, body)
        if method == "initialize":
            if self.hold_initialize is not None:
                self.initializing.set()
                await self.hold_initialize.wait()
            if self.initialize_status != 200:
                return web.Response(status=self.initialize_status, text="go away")
            result = {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {"listChanged": True}},
                "serverInfo": {"name": "hand"},
            }
            return self.answer(body, result, headers={"Mcp-Session-Id": self.session})
        if request.headers.get("Mcp-Session-Id") != self.session:
            return web.json_response(
                {"jsonrpc": "2.0", "id": None, "error": {"code": -32001, "message": "Session not found"}}, status=404
            )
        if method == "notifications/cancelled":
            self.cancelled.set()
        if "id" not in body:
            return web.Response(status=202)
        if method == "tools/list":
            return self.answer(body, {"tools": self.tools})
        if method == "ping":
            return self.answer(body, {})
        if method == "tools/call":
            return await getattr(self, f"tool_{body['params']['name']}")(request, body)
        return self.answer(body, {})

    def modern(self, request, body):
        meta = body.get("params", {}).get("_meta", {})
        version = meta.get("io.modelcontextprotocol/protocolVersion")
        if version is None:
            error = {"code": -32602, "message": "_meta is missing"}
            return web.json_response({"jsonrpc": "2.0", "id": body["id"], "error": error}, status=400)
        if body["method"] == "server/discover":
            result = {
                "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {"listChanged": True} if self.announces else {}},
                "serverInfo": {"name": "modern-hand"},
                "resultType": "complete",
            }
            return self.answer(body, result)
        if body["method"] == "tools/list":
            return self.answer(body, {"tools": self.tools, "ttlMs": self.ttl_ms, "cacheScope": "public"})
        return self.answer(body, {"headers": dict(request.headers), "params": body["params"]})

    async def tool_echo(self, request, body):
        return self.answer(body, {"content": [], "params": body["params"], "n": 2**70})

    async def tool_stream(self, request, body):
        response = await self.stream(request)
        token = body["params"].get("_meta", {}).get("progressToken")
        progress = {"progressToken": token, "progress": 1}
        await response.write(self.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}))
        log = {"level": "info", "data": "working"}
        await response.write(self.event({"jsonrpc": "2.0", "method": "notifications/message", "params": log}))
        answer = self.event({"jsonrpc": "2.0", "id": body["id"], "result": {"big": "x" * body["params"]["size"]}})
        for at in range(0, len(answer), 100_000):
            await response.write(answer[at : at + 100_000])
        return response

    async def tool_hang(self, request, body):
        try:
            await asyncio.Event().wait()
        finally:
            self.hung_up.set()

    async def tool_drop(self, request, body):
        request.transport.abort()
        return web.Response()

    async def tool_half(self, request, body):
        return await self.stream(request)

    async def tool_resumable(self, request, body):
        self.waiting = body["id"]
        response = await self.stream(request)
        await response.write(self.event(None, id="e-7", retry=1))
        return response

    async def tool_status(self, request, body):
        headers = {"Location": "/elsewhere"} if body["params"]["status"] < 400 else {}
        return web.Response(status=body["params"]["status"], text="no luck", headers=headers)

    async def tool_refuse(self, request, body):
        error = {"code": -32602, "message": "bad", "data": {"x": 1}}
        return web.json_response({"jsonrpc": "2.0", "id": None, "error": error}, status=400)

    async def tool_nameless(self, request, body):
        return web.json_response({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "what?"}})

    async def tool_html(self, request, body):
        return web.Response(text="<html>", content_type="text/html")

    async def tool_accepted(self, request, body):
        return web.Response(status=202)

    async def tool_batch(self, request, body):
        log = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "in a batch"}}
        return web.json_response([log, {"jsonrpc": "2.0", "id": body["id"], "result": {"batch": True}}])


@pytest.fixture
async def hand():
    server = Hand()
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/mcp", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
    server.stop = runner.cleanup
    yield server
    await runner.cleanup()


def spec(hand, **more):
    return UpstreamSpec("hand", url=hand.url, **more)


async def test_it_comes_up_and_every_later_request_carries_session_version_and_our_headers(watch, hand):
    w = await watch(spec(hand, headers={"Authorization": "Bearer t0p"}))
    offer = await w.until_up()
    assert offer.tools == ({"name": "echo", "inputSchema": {"type": "object"}, "x-unknown": [1]},)
    answer = await w.tool("echo", {"n": None})
    assert answer["result"]["n"] == 2**70
    assert answer["result"]["params"] == {"name": "echo", "arguments": {"n": None}}
    probe, first, *later = hand.asked
    assert [body["method"] for _, _, body in (probe, first)] == ["server/discover", "initialize"]
    assert "Mcp-Session-Id" not in first[1]
    assert all(h["Mcp-Session-Id"] == "s1" and h["MCP-Protocol-Version"] == "2025-11-25" for _, h, _ in later)
    assert all(h["Authorization"] == "Bearer t0p" for _, h, _ in hand.asked)
    assert all("text/event-stream" in h["Accept"] for _, h, _ in hand.asked)
    assert "t0p" not in repr(w.upstream.spec)


async def test_events_of_megabytes_with_progress_and_log_reach_their_call(watch, hand, recorder):
    w = await watch(spec(hand))
    await w.until_up()
    heard = recorder()
    params = {"size": 3_000_000, "_meta": {"progressToken": "t"}}
    answer = await w.tool("stream", exchange=heard, params=params)
    assert len(answer["result"]["big"]) == 3_000_000
    assert [n["method"] for n in heard.heard] == ["notifications/progress", "notifications/message"]
    assert heard.heard[0]["params"]["progressToken"] == "t"


async def test_log_lines_of_concurrent_calls_stay_apart(watch, hand, recorder):
    w = await watch(spec(hand))
    await w.until_up()
    heard = [recorder() for _ in range(3)]
    await asyncio.gather(*(w.tool("stream", exchange=r, params={"size": 1}) for r in heard))
    assert [len(r.heard) for r in heard] == [1, 1, 1]


async def test_a_message_beyond_the_bound_is_refused_and_the_server_stays_up(watch, hand):
    w = await watch(spec(hand, message_bytes_max=100_000))
    await w.until_up()
    with pytest.raises(OutcomeUnknown, match="longer than 100000 bytes"):
        await w.tool("stream", params={"size": 200_000})
    assert "result" in await w.tool("echo")


async def test_a_lost_session_is_renewed_and_the_call_repeated(watch, hand):
    w = await watch(spec(hand))
    await w.until_up()
    hand.session = "s2"
    hand.tools.append({"name": "new", "inputSchema": {}})
    answers = await asyncio.gather(*(w.tool("echo", {"i": i}) for i in range(3)))
    assert [a["result"]["params"]["arguments"]["i"] for a in answers] == [0, 1, 2]
    assert sum(b["method"] == "initialize" for m, _, b in hand.asked if m == "POST") == 2
    assert len((await w.until(lambda o: len(o.tools) == 2)).tools) == 2
    assert w.upstream.health.restarts == 0


async def test_a_caller_who_leaves_while_the_session_is_renewed_takes_nothing_along(watch, hand):
    w = await watch(spec(hand))
    await w.until_up()
    hand.session = "s2"
    hand.hold_initialize = asyncio.Event()
    first, second = (asyncio.create_task(w.tool("echo", {"i": i})) for i in range(2))
    async with asyncio.timeout(10):
        await hand.initializing.wait()
    third = asyncio.create_task(w.tool("echo", {"i": 2}))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    hand.hold_initialize.set()
    assert [(await t)["result"]["params"]["arguments"]["i"] for t in (second, third)] == [1, 2]
    calls = [h.get("Mcp-Session-Id") for _, h, b in hand.asked if b and b.get("method") == "tools/call"]
    assert None not in calls


async def test_the_get_stream_is_opened_again_under_a_renewed_session(watch, hand):
    hand.get_stream = asyncio.Queue()
    w = await watch(spec(hand))
    await w.until_up()
    hand.session = "s2"
    await w.tool("echo")
    hand.tools.append({"name": "later", "inputSchema": {}})
    hand.get_stream.put_nowait({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    await w.until(lambda o: len(o.tools) == 2)
    streams = [h.get("Mcp-Session-Id") for m, h, _ in hand.asked if m == "GET"]
    assert streams == ["s1", "s2"]


async def test_a_cancelled_call_is_cancelled_at_the_server(watch, hand):
    w = await watch(spec(hand))
    await w.until_up()
    with pytest.raises(Expired) as e:
        await w.tool("hang", budget_ms=100)
    assert e.value.data["started"] is True
    async with asyncio.timeout(10):
        await hand.cancelled.wait()
    body = next(b for _, _, b in hand.asked if b and b.get("method") == "notifications/cancelled")
    hung = next(b for _, _, b in hand.asked if b and b.get("params", {}).get("name") == "hang")
    assert body["params"]["requestId"] == hung["id"]


async def test_a_connection_that_breaks_after_sending_leaves_the_outcome_unknown(watch, hand):
    w = await watch(spec(hand))
    await w.until_up()
    with pytest.raises(OutcomeUnknown, match="after the request was sent"):
        await w.tool("drop")
    with pytest.raises(OutcomeUnknown, match="before it answered"):
        await w.tool("half")


async def test_a_broken_answer_stream_is_taken_up_where_it_ended(watch, hand):
    w = await watch(spec(hand))
    await w.until_up()
    assert await w.tool("resumable") == {"result": {"resumed": True}}
    assert hand.resumed_with == "e-7"


async def test_a_server_that_says_when_to_come_back_is_polled_for_as_long_as_the_call_lasts(watch, hand, monkeypatch):
    monkeypatch.setattr(http_module, "RESUME_AFTER_MIN_MS", 1)
    w = await watch(spec(hand))
    await w.until_up()
    hand.polls = 2 * http_module.RESUMES_MAX
    assert await w.tool("resumable") == {"result": {"resumed": True}}
    assert hand.polls == 0


async def test_a_server_that_still_holds_the_stream_before_is_asked_for_one_again(watch, hand, monkeypatch):
    monkeypatch.setattr(http_module, "REOPEN_FIRST_S", 0.01)
    hand.get_stream = asyncio.Queue()
    hand.get_refusals = [409, 429, 503]
    w = await watch(spec(hand))
    await w.until_up()
    hand.tools.append({"name": "later", "inputSchema": {}})
    hand.get_stream.put_nowait({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    await w.until(lambda o: len(o.tools) == 2)


async def test_a_session_id_that_no_header_can_repeat_is_refused_by_name(watch, hand):
    hand.session = "caf\xe9"
    assert "session id holds other than visible ASCII" in (await (await watch(spec(hand))).until_down()).health.cause


async def test_a_request_of_megabytes_leaves_whole(watch, hand):
    w = await watch(spec(hand))
    await w.until_up()
    text = "ü" * 1_500_000
    assert (await w.tool("echo", {"text": text}))["result"]["params"]["arguments"] == {"text": text}


async def test_a_request_that_is_taken_for_a_notification_does_not_wait_for_its_deadline(watch, hand):
    w = await watch(spec(hand))
    await w.until_up()
    with pytest.raises(OutcomeUnknown, match="202"):
        await w.tool("accepted")


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (401, Unavailable, "credentials in its 'headers'"),
        (429, Unavailable, "HTTP status 429: no luck"),
        (500, OutcomeUnknown, "HTTP status 500"),
        (502, OutcomeUnknown, "HTTP status 502"),
        (503, Unavailable, "HTTP status 503"),
        (307, Unavailable, "redirects to /elsewhere"),
    ],
)
async def test_a_status_is_read_as_refused_or_unknown(watch, hand, status, error, says):
    w = await watch(spec(hand))
    await w.until_up()
    with pytest.raises(error, match=says):
        await w.tool("status", params={"status": status})


async def test_an_error_in_the_body_of_a_refusal_is_the_answer(watch, hand):
    w = await watch(spec(hand))
    await w.until_up()
    assert await w.tool("refuse") == {"error": {"code": -32602, "message": "bad", "data": {"x": 1}}}


async def test_an_error_without_an_id_belongs_to_the_only_request_of_its_exchange(watch, hand):
    w = await watch(spec(hand))
    await w.until_up()
    assert await w.tool("nameless") == {"error": {"code": -32700, "message": "what?"}}


async def test_an_answer_that_is_not_mcp_says_so(watch, hand):
    w = await watch(spec(hand))
    await w.until_up()
    with pytest.raises(OutcomeUnknown, match="is 'url' an MCP endpoint"):
        await w.tool("html")


async def test_a_batch_as_answer_is_understood(watch, hand, recorder):
    w = await watch(spec(hand))
    await w.until_up()
    heard = recorder()
    assert await w.tool("batch", exchange=heard) == {"result": {"batch": True}}
    assert heard.heard[0]["params"] == {"data": "in a batch"}


async def test_changes_announced_on_the_get_stream_are_listed_again(watch, hand):
    hand.get_stream = asyncio.Queue()
    w = await watch(spec(hand))
    await w.until_up()
    hand.tools.append({"name": "later", "inputSchema": {}})
    hand.get_stream.put_nowait({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    assert [t["name"] for t in (await w.until(lambda o: len(o.tools) == 2)).tools] == ["echo", "later"]


async def test_stopping_ends_the_session(watch, hand):
    w = await watch(spec(hand))
    await w.until_up()
    await w.upstream.stop()
    assert hand.deleted.is_set()


async def test_an_address_where_nothing_listens_says_so_without_the_query(watch, hand):
    await hand.stop()
    w = await watch(UpstreamSpec("hand", url=f"{hand.url}?key=hush"))
    cause = (await w.until_down()).health.cause
    assert cause.startswith(f"server 'hand' cannot be reached at {hand.url}: ")
    assert "hush" not in cause


async def test_a_server_that_goes_away_is_noticed_by_the_next_call(watch, hand, monkeypatch):
    w = await watch(spec(hand))
    await w.until_up()
    await hand.stop()
    with pytest.raises((Unavailable, OutcomeUnknown)):
        await w.tool("echo")
    assert "cannot be reached" in (await w.until_down()).health.cause


async def test_a_refused_initialize_is_the_cause(watch, hand):
    hand.initialize_status = 403
    assert "refused with status 403" in (await (await watch(spec(hand))).until_down()).health.cause


async def test_a_modern_only_server_gets_envelope_and_headers_and_no_session(watch, hand):
    hand.modern_only = True
    region = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    broken = {"type": "object", "properties": {"r": {"type": "number", "x-mcp-header": "R"}}}
    hand.tools = [{"name": "tö", "inputSchema": region}, {"name": "broken", "inputSchema": broken}]
    w = await watch(spec(hand))
    offer = await w.until_up()
    assert offer.protocol_version == "2026-07-28"
    assert offer.server_info == {"name": "modern-hand"}
    assert [t["name"] for t in offer.tools] == ["tö"]
    result = (await w.tool("tö", {"region": "eu west"}, params={"_meta": {"kept": 1}}))["result"]
    headers = result["headers"]
    assert headers["Mcp-Method"] == "tools/call"
    assert headers["Mcp-Name"] == "=?base64?dMO2?="
    assert headers["Mcp-Param-Region"] == "eu west"
    assert headers["MCP-Protocol-Version"] == "2026-07-28"
    assert "Mcp-Session-Id" not in headers
    assert result["params"]["_meta"]["kept"] == 1
    assert all(method == "POST" for method, _, _ in hand.asked)


async def test_lists_of_a_modern_server_that_announces_nothing_are_listed_again_when_they_expire(
    watch, hand, monkeypatch
):
    monkeypatch.setattr(expiry_module, "HOLDS_MIN_S", 0.01)
    hand.modern_only, hand.ttl_ms = True, 20
    w = await watch(spec(hand))
    await w.until_up()
    hand.tools.append({"name": "after", "inputSchema": {}})
    await w.until(lambda o: len(o.tools) == 2)


async def test_calls_list_nothing_however_short_the_lists_hold(watch, hand):
    hand.modern_only, hand.ttl_ms = True, 0
    w = await watch(spec(hand))
    await w.until_up()
    for _ in range(5):
        await w.tool("echo")
    assert sum(b["method"] == "tools/list" for _, _, b in hand.asked) == 1


async def test_idle_connections_are_probed(watch, hand, monkeypatch):
    monkeypatch.setattr(keeping_module, "PROBE_TIMEOUT_S", 5.0)
    w = await watch(spec(hand, probe_every_s=0.02))
    await w.until_up()
    hand.tools.append({"name": "after", "inputSchema": {}})
    hand.session = "gone"
    offer = await w.until(lambda o: len(o.tools) == 2)
    assert offer.health.state == "up"


@pytest.fixture(scope="module", params=[(), ("json",), ("stateless",)], ids=["sse", "json", "stateless"])
def sdk_url(request):
    import subprocess

    process = subprocess.Popen(
        [sys.executable, str(SERVERS / "sdk_http.py"), *request.param], stdout=subprocess.PIPE, text=True
    )
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/mcp"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_a_server_on_the_sdk_is_listed_and_called(watch, sdk_url, recorder, request):
    w = await watch(UpstreamSpec("sdk", url=sdk_url))
    # uvicorn binds first and accepts later: an attempt that came too early is repeated.
    offer = await w.until_up()
    assert offer.server_info["name"] == "sdk"
    assert offer.protocol_version == "2026-07-28"
    assert [t["name"] for t in offer.tools] == ["add", "count"]
    assert [r["uri"] for r in offer.resources] == ["sdk://greeting"]
    assert [p["name"] for p in offer.prompts] == ["greet"]
    answers = await asyncio.gather(*(w.tool("add", {"a": i, "b": 1}) for i in range(20)))
    assert [a["result"]["structuredContent"]["result"] for a in answers] == list(range(1, 21))
    heard = recorder()
    await w.tool("count", {"to": 3}, exchange=heard, params={"_meta": {"progressToken": "p"}})
    # With JSON answers there is no stream on which progress could come.
    expected = [] if "[json]" in request.node.name else [1, 2, 3]
    assert [n["params"]["progress"] for n in heard.heard] == expected
    assert (await w.tool("add", {"a": "x"}))["result"]["isError"] is True
    assert (await w.ask("resources/read", {"uri": "sdk://greeting"}))["result"]["contents"][0]["text"] == "hello"
    assert "error" in await w.ask("no/such", {})


async def test_the_client_of_a_stopped_upstream_is_closed(watch, hand):
    w = await watch(spec(hand))
    await w.until_up()
    client = w.upstream._keeper.connection.channel.wire._client
    assert isinstance(client, aiohttp.ClientSession)
    await w.upstream.stop()
    assert client.closed
