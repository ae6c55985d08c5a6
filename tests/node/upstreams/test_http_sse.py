"""HTTP+SSE of 2024-11-05 against a server written by hand, and against one on the SDK."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from node.upstreams.spec import UpstreamSpec
from proto.errors import OutcomeUnknown, Unavailable


class Old:
    """A server of 2024-11-05: GET /sse, POST /messages. `posts` keeps (headers, body)."""

    def __init__(self):
        self.posts = []
        self.gets = []
        self.endpoint = "/messages?session_id=s1"
        self.get_status = 200
        self.post_status = 202
        self.stream = None
        self.hung_up = asyncio.Event()

    async def on_get(self, request):
        self.gets.append(request.headers)
        if self.get_status != 200:
            return web.Response(status=self.get_status, headers={"Location": "http://elsewhere.test/sse"})
        response = self.stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if self.endpoint is not None:
            await response.write(f"event: endpoint\ndata: {self.endpoint}\n\n".encode())
        try:
            await asyncio.Event().wait()
        finally:
            self.hung_up.set()

    async def say(self, message):
        text = message if isinstance(message, str) else json.dumps({"jsonrpc": "2.0", **message})
        await self.stream.write(f"event: message\ndata: {text}\n\n".encode())

    async def on_post(self, request):
        body = json.loads(await request.read())
        self.posts.append((request.headers, body))
        if body.get("method") == "initialize":
            result = {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": {"name": "old"}}
            await self.say({"id": body["id"], "result": result})
        elif body.get("method") == "tools/list":
            await self.say({"id": body["id"], "result": {"tools": [{"name": "echo", "inputSchema": {}, "x": None}]}})
        elif body.get("method") == "tools/call":
            return await getattr(self, f"tool_{body['params']['name']}")(request, body)
        elif "id" in body and "method" in body:
            await self.say({"id": body["id"], "result": {}})
        return web.Response(status=202, text="Accepted")

    async def tool_echo(self, request, body):
        await self.say({"id": body["id"], "result": {"echo": body["params"]["arguments"], "n": 2**70}})
        return web.Response(status=202)

    async def tool_end(self, request, body):
        await self.stream.write_eof()
        return web.Response(status=202)

    async def tool_forgotten(self, request, body):
        return web.Response(status=404, text="Could not find session")

    async def tool_refused(self, request, body):
        error = {"code": -32602, "message": "bad", "data": [1]}
        return web.json_response({"jsonrpc": "2.0", "id": body["id"], "error": error}, status=400)

    async def tool_garbage(self, request, body):
        await self.say("{not json")
        return await self.tool_echo(request, body)

    async def tool_big(self, request, body):
        await self.say({"id": body["id"], "result": {"big": "x" * body["params"]["arguments"]["size"]}})
        return web.Response(status=202)


@pytest.fixture
async def old():
    server = Old()
    app = web.Application(client_max_size=0)
    app.router.add_get("/sse", server.on_get)
    app.router.add_post("/messages", server.on_post)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/sse"
    yield server
    await runner.cleanup()


def spec(old, **more):
    return UpstreamSpec("old", url=old.url, transport="sse", **more)


async def test_it_is_listed_and_called_and_every_request_carries_our_headers(watch, old):
    w = await watch(spec(old, headers={"Authorization": "Bearer t0p"}))
    offer = await w.until_up()
    assert offer.protocol_version == "2024-11-05"
    assert offer.tools == ({"name": "echo", "inputSchema": {}, "x": None},)
    answers = await asyncio.gather(*(w.tool("echo", {"i": i}) for i in range(20)))
    assert [a["result"] for a in answers] == [{"echo": {"i": i}, "n": 2**70} for i in range(20)]
    assert all(h["Authorization"] == "Bearer t0p" for h in [*old.gets, *(h for h, _ in old.posts)])


@pytest.mark.parametrize("endpoint", ["messages?x=1", "HOST/messages", "?"])
async def test_the_endpoint_is_read_relative_to_the_address(watch, old, endpoint):
    old.endpoint = endpoint.replace("HOST", old.url.removesuffix("/sse")) if endpoint != "?" else "/messages"
    w = await watch(spec(old))
    await w.until_up()
    assert (await w.tool("echo"))["result"]["echo"] == {}


@pytest.mark.parametrize("endpoint", ["http://elsewhere.test/messages", "//elsewhere.test/m", "https://127.0.0.1/m"])
async def test_an_endpoint_of_another_origin_is_refused_before_anything_is_sent_to_it(watch, old, endpoint):
    old.endpoint = endpoint
    cause = (await (await watch(spec(old))).until_down()).health.cause
    assert "an endpoint of another origin" in cause
    assert old.posts == []


async def test_a_stream_that_ends_fails_its_calls_at_once_and_is_opened_anew(watch, old):
    w = await watch(spec(old))
    await w.until_up()
    with pytest.raises(OutcomeUnknown, match="it ended its event stream"):
        await w.tool("end")
    await w.until(lambda o: o.health.state == "up" and o.health.restarts == 1)
    assert "result" in await w.tool("echo")
    assert len(old.gets) == 2


async def test_a_forgotten_session_is_opened_anew(watch, old):
    w = await watch(spec(old))
    await w.until_up()
    with pytest.raises(Unavailable, match="404: Could not find session"):
        await w.tool("forgotten")
    await w.until(lambda o: o.health.state == "up" and o.health.restarts == 1)
    assert "result" in await w.tool("echo")


async def test_an_error_in_the_answer_to_the_post_is_the_answer(watch, old):
    w = await watch(spec(old))
    await w.until_up()
    assert await w.tool("refused") == {"error": {"code": -32602, "message": "bad", "data": [1]}}


async def test_an_event_that_is_not_json_harms_nobody(watch, old):
    w = await watch(spec(old))
    await w.until_up()
    assert "result" in await w.tool("garbage")


async def test_an_event_of_megabytes_comes_whole_and_one_beyond_the_bound_ends_the_stream(watch, old):
    w = await watch(spec(old, message_bytes_max=4_000_000))
    await w.until_up()
    assert len((await w.tool("big", {"size": 3_000_000}))["result"]["big"]) == 3_000_000
    with pytest.raises(OutcomeUnknown, match="longer than 4000000 bytes"):
        await w.tool("big", {"size": 5_000_000})
    await w.until_up()


async def test_a_stream_that_never_names_its_endpoint_is_given_up_with_the_start(watch, old):
    old.endpoint = None
    w = await watch(spec(old, start_timeout_s=0.2))
    assert "did not finish its start within 0.2 s" in (await w.until_down()).health.cause


@pytest.mark.parametrize(
    ("status", "says"), [(401, "credentials in its 'headers'"), (307, "redirects to http://elsewhere.test/sse")]
)
async def test_a_refused_stream_says_why(watch, old, status, says):
    old.get_status = status
    assert says in (await (await watch(spec(old))).until_down()).health.cause


async def test_an_upstream_that_stops_ends_the_stream(watch, old):
    w = await watch(spec(old))
    await w.until_up()
    await w.upstream.stop()
    async with asyncio.timeout(10):
        await old.hung_up.wait()
