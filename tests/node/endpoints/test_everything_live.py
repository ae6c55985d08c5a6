"""`/mcp-all` on two real nodes, asked by the SDK's own client in both eras: what one node owns, the other shows."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import mcp_types as types
import pytest
import pytest_asyncio
from mcp.client import Client
from mcp.client.subscriptions import ToolsListChanged, listen
from mcp_types import PromptReference, ResourceTemplateReference

from federation.ca import init_ca
from node.app import App
from tests.node.waiting import until
from tests.node.working import MESH, app_of, settings_of

SERVER = """
import sys
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import Completion

name = sys.argv[1]
server = MCPServer(name, log_level="WARNING")

for i in range(5):
    @server.tool(name=f"{name}-{i}")
    async def tool(said: str = "", i: int = i) -> str:
        return f"{name} {i} {said}"

@server.tool()
async def slowly(ctx: Context) -> str:
    await ctx.report_progress(1, 2)
    return "done"

@server.prompt()
def greet(who: str) -> str:
    return f"{name} greets {who}"

@server.resource(f"{name}://fixed")
def fixed() -> str:
    return name

@server.resource(name + "://items/{item}")
def templated(item: str) -> str:
    return f"{name} has {item}"

@server.completion()
async def complete(ref, argument, context):
    return Completion(values=[name, argument.value])

server.run()
"""

ERAS = ["legacy", "2026-07-28"]


def up(app: App, owner: str, server: str) -> bool:
    found = app.catalog.find(owner, server)
    return found is not None and found.up and len(found.tools) == 6


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[App]]:
    """ap-1 owns red and blue, eu-1 owns green; a page holds four things."""
    base = tmp_path_factory.mktemp("mesh")
    init_ca(base / "ca", MESH)

    def settings(region: str, *servers: str, **more: Any) -> dict[str, Any]:
        hosted = {name: {"command": [sys.executable, "-c", SERVER, name]} for name in servers}
        http = {"listen": "127.0.0.1:0", "page_items": 4}
        late = {"yellow": {"command": [sys.executable, "-c", SERVER, "yellow"]}}
        return settings_of(region, base, servers=hosted, catalogue=late, http=http, **more)

    async with AsyncExitStack() as stack:
        first = app_of(settings("ap", "red", "blue"), base)
        stack.push_async_callback(first.stop)
        await first.start()
        assert first.federation is not None
        second = app_of(settings("eu", "green", static=[f"127.0.0.1:{first.federation.bound_port}"]), base)
        stack.push_async_callback(second.stop)
        await second.start()
        for app in (first, second):
            for owner, server in (("ap-1", "red"), ("ap-1", "blue"), ("eu-1", "green")):
                await until(app, lambda app=app, owner=owner, server=server: up(app, owner, server))
        yield [first, second]


def all_tools() -> list[str]:
    named = [f"{server}__{server}-{i}" for server in ("blue", "green", "red") for i in range(5)]
    return sorted([*named, *(f"{server}__slowly" for server in ("blue", "green", "red"))])


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.asyncio(loop_scope="module")
async def test_pages_asked_of_two_nodes_in_turn_make_one_list(nodes: list[App], era: str) -> None:
    found: list[str] = []
    async with AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(Client(f"{app.url}/mcp-all", mode=era)) for app in nodes]
        cursor, turn = None, 0
        while True:
            page = await agents[turn % 2].list_tools(cursor=cursor)
            assert len(page.tools) <= 4
            found += [tool.name for tool in page.tools]
            cursor, turn = page.next_cursor, turn + 1
            if cursor is None:
                break
    assert found == all_tools()
    assert turn == 5


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.asyncio(loop_scope="module")
async def test_everything_that_is_listed_can_be_used_on_either_node(nodes: list[App], era: str) -> None:
    for app in nodes:
        async with Client(f"{app.url}/mcp-all", mode=era) as agent:
            for server in ("blue", "green", "red"):
                result = await agent.call_tool(f"{server}__{server}-3", {"said": "hi"})
                assert [c.text for c in result.content] == [f"{server} 3 hi"]
                prompt = await agent.get_prompt(f"{server}__greet", {"who": "Ada"})
                assert prompt.messages[0].content.text == f"{server} greets Ada"
                for uri, text in ((f"{server}://fixed", server), (f"{server}://items/7", f"{server} has 7")):
                    assert (await agent.read_resource(uri)).contents[0].text == text
                for ref in (
                    PromptReference(type="ref/prompt", name=f"{server}__greet"),
                    ResourceTemplateReference(type="ref/resource", uri=f"{server}://items/{{item}}"),
                ):
                    completed = await agent.complete(ref, {"name": "x", "value": "typed"})
                    assert completed.completion.values == [server, "typed"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.asyncio(loop_scope="module")
async def test_other_lists_hold_each_thing_once(nodes: list[App], era: str) -> None:
    for app in nodes:
        async with Client(f"{app.url}/mcp-all", mode=era) as agent:
            prompts = await agent.list_prompts()
            assert [p.name for p in prompts.prompts] == [f"{s}__greet" for s in ("blue", "green", "red")]
            resources = await agent.list_resources()
            assert [str(r.uri) for r in resources.resources] == [f"{s}://fixed" for s in ("blue", "green", "red")]
            templates = await agent.list_resource_templates()
            assert [t.uri_template for t in templates.resource_templates] == [
                f"{s}://items/{{item}}" for s in ("blue", "green", "red")
            ]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.asyncio(loop_scope="module")
async def test_progress_comes_through(nodes: list[App], era: str) -> None:
    for app in nodes:
        came = asyncio.Event()

        async def progress(done: float, total: float | None, message: str | None, came: asyncio.Event = came) -> None:
            came.set()

        async with Client(f"{app.url}/mcp-all", mode=era) as agent:
            await agent.call_tool("green__slowly", {}, progress_callback=progress)
            async with asyncio.timeout(10):
                await came.wait()


@pytest.mark.asyncio(loop_scope="module")
async def test_whoever_listens_on_another_node_hears_of_a_server_that_joins(nodes: list[App]) -> None:
    """The last: from here on there is one server more."""
    came = asyncio.Event()

    async def on_message(message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            came.set()

    first, second = nodes
    async with (
        Client(f"{first.url}/mcp", mode="legacy") as adding,
        Client(f"{second.url}/mcp-all", mode="2026-07-28") as modern,
        Client(f"{second.url}/mcp-all", mode="legacy", message_handler=on_message) as legacy,
        listen(modern.session, tools_list_changed=True) as events,
    ):
        added = await adding.call_tool("add_mcp_server", {"mcp_server_name": "yellow"})
        assert not added.is_error
        async with asyncio.timeout(30):
            assert isinstance(await anext(aiter(events)), ToolsListChanged)
            await came.wait()
        for agent in (modern, legacy):
            result = await agent.call_tool("yellow__yellow-0", {"said": "hello"})
            assert isinstance(result.content[0], types.TextContent)
            assert result.content[0].text == "yellow 0 hello"
