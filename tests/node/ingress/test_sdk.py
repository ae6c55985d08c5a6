"""The Python SDK's client, in both eras, against a running ingress."""

import asyncio
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from node.ingress.settings import IngressSettings
from proto.errors import Conflict

ERAS = [("legacy", "2025-11-25"), ("auto", "2026-07-28"), ("2026-07-28", "2026-07-28")]


@pytest.fixture(autouse=True)
def listed(edge):
    for endpoint in (edge.root, edge.time):
        endpoint.listed = [{"name": "echo", "inputSchema": {"type": "object"}}]


@pytest.mark.parametrize(("mode", "version"), ERAS)
async def test_it_lists_and_calls(edge, mode, version):
    async def echo(arguments, caller, exchange):
        return edge.text(f"{caller.era} {arguments['word']}")

    edge.time.tools["echo"] = echo
    async with Client(f"{edge.url}/time", mode=mode) as client:
        assert client.protocol_version == version
        if mode != "2026-07-28":  # there the client asks nothing before it calls
            assert client.instructions == "Speak up."
            assert client.server_info.name == "twin"
            assert client.server_capabilities.tools.list_changed
        assert [t.name for t in (await client.list_tools()).tools] == ["echo"]
        result = await client.call_tool("echo", {"word": "größe"})
        assert result.content[0].text == f"{version} größe"
    assert edge.ingress.stats()["sessions"] == 0


@pytest.mark.parametrize(("mode", "version"), ERAS[:2])
async def test_it_hears_progress_and_logs(edge, mode, version):
    async def slow(arguments, caller, exchange):
        token = edge.root.seen[-1][1]["_meta"]["progressToken"]
        for step in (1, 2):
            exchange.event(
                {"method": "notifications/progress", "params": {"progressToken": token, "progress": step, "total": 2}}
            )
        exchange.event({"method": "notifications/message", "params": {"level": "error", "data": "careful"}})
        return edge.text("done")

    edge.root.tools["slow"] = slow
    steps, logs = [], []

    async def progress(done, total, message):
        steps.append((done, total))

    async def logged(params):
        logs.append(params.data)

    async with Client(edge.url, mode=mode, logging_callback=logged, log_level="info") as client:
        result = await client.call_tool("slow", {}, progress_callback=progress)
    assert result.content[0].text == "done"
    assert (steps, logs) == ([(1, 2), (2, 2)], ["careful"])


@pytest.mark.parametrize(("mode", "version"), ERAS)
async def test_it_gets_errors_with_their_kind(edge, mode, version):
    async def torn(arguments, caller, exchange):
        raise Conflict("'time' is served by two: time--eu, time--us", names=["time--eu", "time--us"])

    edge.root.tools["torn"] = torn
    async with Client(edge.url, mode=mode) as client:
        with pytest.raises(MCPError) as torn_error:
            await client.call_tool("torn", {})
        assert torn_error.value.error.data == {"names": ["time--eu", "time--us"], "kind": "conflict"}
        with pytest.raises(MCPError) as unknown:
            await client.call_tool("absent", {})
        assert (unknown.value.error.code, unknown.value.error.data) == (-32602, {"kind": "unknown"})
        # The connection outlives the errors.
        assert (await client.list_tools()).tools


@pytest.mark.parametrize(("mode", "version"), ERAS[:2])
async def test_it_gives_up_a_call_and_the_call_ends(edge, mode, version):
    async def endless(arguments, caller, exchange):
        edge.root.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            edge.root.cancelled.set()

    edge.root.tools["endless"] = endless
    async with Client(edge.url, mode=mode) as client:
        calling = asyncio.create_task(client.call_tool("endless", {}))
        await edge.wait(edge.root.started)
        calling.cancel()
        await edge.wait(edge.root.cancelled)
        assert (await client.list_tools()).tools


async def test_it_answers_a_servers_question(edge):
    async def curious(arguments, caller, exchange):
        asked = {"message": "name?", "requestedSchema": {"type": "object", "properties": {"n": {"type": "string"}}}}
        answer = await exchange.request({"method": "elicitation/create", "params": asked})
        return edge.text(answer["result"]["content"]["n"])

    async def elicited(context, params):
        return types.ElicitResult(action="accept", content={"n": params.message})

    edge.root.tools["curious"] = curious
    async with Client(edge.url, mode="legacy", elicitation_callback=elicited) as client:
        assert (await client.call_tool("curious", {})).content[0].text == "name?"


async def test_it_hears_list_changes_on_its_get_stream(edge):
    heard = asyncio.Event()

    async def message(incoming):
        if isinstance(incoming, types.ToolListChangedNotification):
            heard.set()

    async with Client(f"{edge.url}/time", mode="legacy", message_handler=message):
        # Kept for the stream if that is not open yet.
        edge.endpoints.change("time", "tools")
        await edge.wait(heard)


class Wire:
    """A way to the ingress that can be cut: all its connections at once."""

    def __init__(self, url):
        parts = urlsplit(url)
        self._there = parts.hostname, parts.port
        self._writers = set()

    @asynccontextmanager
    async def laid(self):
        """The address to dial."""
        server = await asyncio.start_server(self._came, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        finally:
            server.close()
            self.cut()

    def cut(self):
        for writer in self._writers:
            writer.transport.abort()

    async def _came(self, reader, writer):
        there, onward = await asyncio.open_connection(*self._there)
        self._writers |= {writer, onward}
        try:
            await asyncio.gather(self._pass(reader, onward), self._pass(there, writer))
        finally:
            self._writers -= {writer, onward}

    async def _pass(self, reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


async def test_it_gets_its_answer_though_its_connections_break(serve):
    async with serve(IngressSettings(retry_ms=1)) as edge:
        wire, told = Wire(edge.url), asyncio.Event()

        async def slow(arguments, caller, exchange):
            token = edge.root.seen[-1][1]["_meta"]["progressToken"]
            for step in (1, 2):
                exchange.event(
                    {"method": "notifications/progress", "params": {"progressToken": token, "progress": step}}
                )
                await told.wait()
                wire.cut()
            return edge.text("done")

        steps = []

        async def progress(done, total, message):
            steps.append(done)
            told.set()

        edge.root.tools["slow"] = slow
        async with wire.laid() as url, Client(url, mode="legacy") as client:
            async with asyncio.timeout(20):
                result = await client.call_tool("slow", {}, progress_callback=progress)
    assert result.content[0].text == "done"
    assert steps == [1, 2]


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
async def test_it_hears_of_a_resource_that_it_subscribed_to_and_logs_at_the_level_that_it_set(edge):
    heard = asyncio.Queue()

    async def message(incoming):
        if isinstance(incoming, types.ResourceUpdatedNotification):
            heard.put_nowait(str(incoming.params.uri))

    async def logged(params):
        heard.put_nowait(params.data)

    async with (
        Client(edge.url, mode="legacy", message_handler=message, logging_callback=logged) as client,
        asyncio.timeout(20),
    ):
        await client.subscribe_resource("a:b")
        edge.root.tell({"method": "notifications/resources/updated", "params": {"uri": "a:b"}})
        assert await heard.get() == "a:b"
        await client.set_logging_level("warning")
        await edge.root.until(lambda: len(edge.root.listening) == 2)
        for level in ("info", "error"):
            edge.root.tell({"method": "notifications/message", "params": {"level": level, "data": level}})
        assert await heard.get() == "error"
        await client.unsubscribe_resource("a:b")
        await edge.root.until(lambda: len(edge.root.listening) == 1)


async def test_it_listens(edge):
    async with (
        Client(f"{edge.url}/time") as client,
        client.listen(tools_list_changed=True, prompts_list_changed=True) as subscription,
    ):
        assert subscription.honored.tools_list_changed
        assert subscription.honored.prompts_list_changed is None
        edge.endpoints.change("time", "tools")
        async with asyncio.timeout(10):
            assert type(await anext(subscription)).__name__ == "ToolsListChanged"
        await edge.ingress.close()
        async with asyncio.timeout(10):
            assert [event async for event in subscription] == []


@pytest.mark.parametrize(("mode", "version"), ERAS[:2])
async def test_it_takes_an_answer_of_some_mebibytes(edge, mode, version):
    async def big(arguments, caller, exchange):
        token = edge.root.seen[-1][1]["_meta"]["progressToken"]
        exchange.event({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
        return edge.text("x" * 3 * 2**20)

    async def progress(done, total, message):
        pass

    edge.root.tools["big"] = big
    # Events beyond 1 MiB are refused by the client itself unless it is told otherwise.
    transport = streamable_http_client(edge.url, max_sse_event_size=None)
    async with Client(transport, mode=mode) as client:
        result = await client.call_tool("big", {}, progress_callback=progress)
    assert len(result.content[0].text) == 3 * 2**20


async def test_it_may_call_many_tools_without_one_being_listed(edge):
    async def echo(arguments, caller, exchange):
        return edge.text("hi")

    edge.root.tools["echo"] = echo
    async with Client(edge.url, mode="2026-07-28") as client:
        await client.list_tools()
        edge.root.seen.clear()
        await asyncio.gather(*(client.call_tool("echo", {}) for _ in range(20)))
    assert [method for method, _, _ in edge.root.seen] == ["tools/call"] * 20
