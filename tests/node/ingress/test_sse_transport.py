"""HTTP+SSE of 2024-11-05: the stream, the address it names, and who may post there."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest
from mcp import Client
from mcp.client.sse import sse_client
from yarl import URL

from node.ingress.http import IngressSettings
from node.ports import EVERYTHING
from tests.node.ingress.conftest import TwinEndpoint, served
from tests.node.ingress.talking import cut, gone, pulls_cables


class Stream:
    """An open stream: its events, and the address that it named."""

    def __init__(self, edge, response):
        self.edge = edge
        self.response = response
        self.address = ""

    async def event(self):
        """(event, data) of the next event; a comment is ("", its line)."""
        event = ""
        async with asyncio.timeout(10):
            while line := (await self.response.content.readline()).decode().rstrip("\n"):
                if line.startswith(":"):
                    await self.response.content.readline()
                    return "", line
                if line.startswith("event: "):
                    event = line[7:]
                else:
                    data = line[6:]
        return event, data

    async def message(self):
        event, data = await self.event()
        assert event == "message"
        return orjson.loads(data)

    def post(self, body, address=None, **headers):
        sent = {"Content-Type": "application/json", **headers}
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        return self.edge.http.post(base(self.edge) + (address or self.address), data=data, headers=sent)

    async def say(self, body, status=202, address=None, **headers):
        async with self.post(body, address, **headers) as r:
            assert r.status == status, await r.text()
            return await r.read()


def base(edge):
    return edge.url.removesuffix("/mcp")


@asynccontextmanager
async def streaming(edge, path="/sse", **headers):
    async with edge.http.get(base(edge) + path, headers={"Accept": "text/event-stream", **headers}) as r:
        assert r.status == 200
        stream = Stream(edge, r)
        event, stream.address = await stream.event()
        assert event == "endpoint"
        yield stream


def initialize(edge, version="2024-11-05"):
    return edge.call("initialize", {"protocolVersion": version, "capabilities": {}}, 0)


async def test_the_first_event_names_the_address_to_post_to_and_answers_come_on_the_stream(edge):
    edge.endpoints.by_name[EVERYTHING] = TwinEndpoint()
    for path, name in (("/sse", None), ("/sse/time", "time"), ("/sse-all", EVERYTHING)):
        async with streaming(edge, path) as stream:
            assert stream.address.startswith(f"{path}?sessionId=")
            assert len(stream.address.partition("=")[2]) >= 32
            assert await stream.say(initialize(edge)) == b""
            assert (await stream.message())["result"]["protocolVersion"] == "2024-11-05"
            await stream.say(edge.call("tools/list", {}, 1))
            assert "result" in await stream.message()
        assert [method for method, _, _ in edge.endpoints.endpoint(name).seen] == ["tools/list"]
    await gone(edge)


@pytest.mark.parametrize(
    ("mode", "version"), [("legacy", "2025-11-25"), ("auto", "2026-07-28"), ("2026-07-28", "2026-07-28")]
)
async def test_the_sdk_client_calls_and_hears(edge, mode, version):
    edge.root.listed = [{"name": "echo", "inputSchema": {"type": "object"}}]

    async def echo(arguments, caller, exchange):
        token = edge.root.seen[-1][1]["_meta"]["progressToken"]
        exchange.event({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
        return edge.text(f"{caller.era} {arguments['word']}")

    edge.root.tools["echo"] = echo
    steps = []

    async def progress(done, total, message):
        steps.append(done)

    async with Client(sse_client(f"{base(edge)}/sse"), mode=mode) as client:
        result = await client.call_tool("echo", {"word": "größe"}, progress_callback=progress)
    assert (result.content[0].text, steps) == (f"{version} größe", [1])
    await gone(edge)


async def test_silence_is_filled_with_comments():
    async with served(IngressSettings(ping_s=0.02)) as edge, streaming(edge) as stream:
        assert [await stream.event() for _ in range(2)] == [("", ": ping")] * 2


async def test_what_another_principal_posts_is_404(edge):
    async with streaming(edge, Authorization="Bearer ada") as stream:
        for authorization in ("Bearer eve", ""):
            said = await stream.say(initialize(edge), 404, Authorization=authorization)
            assert b"no stream with this id" in said
        await stream.say(initialize(edge), Authorization="Bearer ada")
        assert (await stream.message())["id"] == 0


async def test_what_is_posted_for_another_address_or_an_ended_stream_is_404(edge):
    async with streaming(edge, "/sse/time") as stream:
        await stream.say(initialize(edge), 404, stream.address.replace("/sse/time", "/sse"))
    await gone(edge)
    async with streaming(edge) as other:
        await other.say(initialize(edge), 404, stream.address)


async def test_a_post_without_an_id_is_400(edge):
    async with streaming(edge) as stream:
        assert b"sessionId" in await stream.say(initialize(edge), 400, "/sse")


async def test_what_is_no_json_is_refused_where_it_was_posted(edge):
    async with streaming(edge) as stream:
        assert orjson.loads(await stream.say(b"{}{}", 400))["error"]["code"] == -32700
        await stream.say({}, 202)
        assert (await stream.message())["error"]["code"] == -32600
        assert b"application/json" in await stream.say(b"{}", 415, **{"Content-Type": "text/plain"})


async def test_a_body_beyond_the_bound_is_413_and_the_stream_stays():
    async with served(IngressSettings(body_bytes_max=2_000)) as edge, streaming(edge) as stream:
        await stream.say(b" " * 2_001, 413)
        await stream.say(initialize(edge))
        assert (await stream.message())["id"] == 0


async def test_the_opening_is_refused_like_any_request(edge):
    for headers, status in (
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Origin": "https://evil.example.org"}, 403),
        ({"Accept": "application/json"}, 406),
    ):
        async with edge.http.get(f"{base(edge)}/sse", headers=headers) as r:
            assert r.status == status
    async with edge.http.delete(f"{base(edge)}/sse") as r:
        assert (r.status, r.headers["Allow"]) == (405, "GET, POST")


async def test_one_stream_beyond_the_bound_is_503():
    settings = IngressSettings(connections_max=1)
    async with served(settings) as edge, streaming(edge), edge.http.get(f"{base(edge)}/sse") as r:
        assert r.status == 503


async def test_an_agent_that_goes_away_ends_its_calls_and_its_session(edge):
    async def slow(arguments, caller, exchange):
        edge.root.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            edge.root.cancelled.set()

    edge.root.tools["slow"] = slow
    async with streaming(edge) as stream:
        await stream.say(initialize(edge))
        await stream.message()
        await stream.say(edge.tool_call("slow"))
        await edge.wait(edge.root.started)
        stream.response.connection.transport.abort()
    await edge.wait(edge.root.cancelled)
    await gone(edge)


async def test_an_agent_that_stops_reading_is_cut_off():
    settings = IngressSettings(stall_s=0.2, stream_bytes_max=64 * 1024 * 1024)
    async with served(settings) as edge:

        async def flood(arguments, caller, exchange):
            for i in range(200):
                data = f"{i}" * 64 * 1024
                exchange.event({"method": "notifications/message", "params": {"level": "error", "data": data}})
            return edge.text("done")

        edge.root.tools["flood"] = flood
        async with aiohttp.ClientSession() as deaf, deaf.get(f"{base(edge)}/sse") as r:
            stream = Stream(edge, r)
            _, stream.address = await stream.event()
            await stream.say(initialize(edge))
            r.connection.transport.pause_reading()
            status = 202
            while status == 202:
                async with stream.post(edge.tool_call("flood")) as posted:
                    status = posted.status
            assert status == 404
            await gone(edge)


async def test_a_closing_node_ends_its_streams(edge):
    async with streaming(edge) as stream:
        await stream.say(initialize(edge))
        await stream.message()
        await edge.ingress.close()
        assert await stream.response.content.read() == b""


@pulls_cables
async def test_a_machine_that_vanished_without_a_word_is_missed():
    # Two comments are on their way, and then nobody takes them or refuses them.
    settings = IngressSettings(ping_s=0.1, stall_s=0.5)
    async with asyncio.timeout(60), served(settings) as edge, streaming(edge):
        with cut(URL(edge.url).port):
            await gone(edge)
