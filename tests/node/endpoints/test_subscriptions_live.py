"""Subscriptions to single resources, on two real nodes, in both eras, at a server's address and at that of all."""

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
from mcp.client.subscriptions import ResourceUpdated, listen

from federation.ca import init_ca
from node.app import App
from tests.node.waiting import until
from tests.node.working import MESH, app_of, settings_of

SERVER = """
import json, sys

name, subscribed = sys.argv[1], []

def send(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)

for line in sys.stdin:
    message = json.loads(line)
    method, params = message.get("method"), message.get("params") or {}
    if "id" not in message:
        continue
    result = {}
    if method == "initialize":
        result = {
            "protocolVersion": "2025-11-25",
            "serverInfo": {"name": name, "version": "1"},
            "capabilities": {"tools": {}, "resources": {"subscribe": True}},
        }
    elif method == "tools/list":
        result = {"tools": [{"name": n, "inputSchema": {"type": "object"}} for n in ("touch", "subscribed")]}
    elif method == "resources/list":
        result = {"resources": [{"uri": f"{name}://{i}", "name": str(i)} for i in range(3)]}
    elif method == "resources/subscribe":
        subscribed.append(params["uri"])
    elif method == "resources/unsubscribe":
        subscribed.remove(params["uri"])
    elif method == "tools/call":
        said = json.dumps(sorted(subscribed))
        if params["name"] == "touch":
            uri = params["arguments"]["uri"]
            if uri in subscribed:
                send({"method": "notifications/resources/updated", "params": {"uri": uri}})
            said = "touched"
        result = {"content": [{"type": "text", "text": said}]}
    send({"id": message["id"], "result": result})
"""


def up(app: App, owner: str, server: str) -> bool:
    found = app.catalog.find(owner, server)
    return found is not None and found.up and len(found.tools) == 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[App]]:
    """ap-1 owns red, eu-1 owns green. One session serves all callers, so that one can touch what another hears of."""
    base = tmp_path_factory.mktemp("mesh")
    init_ca(base / "ca", MESH)

    def settings(region: str, server: str, **more: Any) -> dict[str, Any]:
        hosted = {server: {"command": [sys.executable, "-S", "-E", "-c", SERVER, server], "sessions": "shared"}}
        return settings_of(region, base, servers=hosted, **more)

    async with AsyncExitStack() as stack:
        first = app_of(settings("ap", "red"), base)
        stack.push_async_callback(first.stop)
        await first.start()
        assert first.federation is not None
        second = app_of(settings("eu", "green", static=[f"127.0.0.1:{first.federation.bound_port}"]), base)
        stack.push_async_callback(second.stop)
        await second.start()
        for app in (first, second):
            for owner, server in (("ap-1", "red"), ("eu-1", "green")):
                await until(app, lambda app=app, owner=owner, server=server: up(app, owner, server))
        yield [first, second]


async def touch(agent: Client, prefix: str, server: str, uri: str) -> None:
    await agent.call_tool(f"{prefix.format(server)}touch", {"uri": uri})


async def subscribed(agent: Client, prefix: str, server: str) -> str:
    result = await agent.call_tool(f"{prefix.format(server)}subscribed", {})
    assert isinstance(result.content[0], types.TextContent)
    return result.content[0].text


async def none_left(agent: Client, prefix: str, server: str) -> None:
    """The last who listened has gone; the server is told soon after."""
    async with asyncio.timeout(10):
        while await subscribed(agent, prefix, server) != "[]":
            pass


@pytest.mark.parametrize(("path", "prefix"), [("/mcp/red", ""), ("/mcp-all", "{}__")])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_modern_listener_hears_of_its_resources_alone(nodes: list[App], path: str, prefix: str) -> None:
    servers = ["red"] if path == "/mcp/red" else ["red", "green"]
    for app in nodes:
        async with Client(f"{app.url}{path}", mode="2026-07-28") as agent:
            uris = [f"{server}://1" for server in servers]
            async with listen(agent.session, resource_subscriptions=uris) as events:
                assert sorted(events.honored.resource_subscriptions or []) == sorted(uris)
                for server in servers:
                    await touch(agent, prefix, server, f"{server}://2")
                    await touch(agent, prefix, server, f"{server}://1")
                heard = set()
                async with asyncio.timeout(10):
                    while len(heard) < len(uris):
                        event = await anext(aiter(events))
                        assert isinstance(event, ResourceUpdated)
                        heard.add(event.uri)
                assert heard == set(uris)
            for server in servers:
                await none_left(agent, prefix, server)


@pytest.mark.filterwarnings("ignore:resources/:mcp.shared.exceptions.MCPDeprecationWarning")
@pytest.mark.parametrize(("path", "prefix"), [("/mcp/red", ""), ("/mcp-all", "{}__")])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_legacy_session_hears_of_its_resources_alone(nodes: list[App], path: str, prefix: str) -> None:
    servers = ["red"] if path == "/mcp/red" else ["red", "green"]
    for app in nodes:
        heard: list[str] = []
        came = asyncio.Event()

        async def on_message(message: Any, heard: list[str] = heard, came: asyncio.Event = came) -> None:
            if isinstance(message, types.ResourceUpdatedNotification):
                heard.append(str(message.params.uri))
                came.set()

        async with Client(f"{app.url}{path}", mode="legacy", message_handler=on_message) as agent:
            for server in servers:
                await agent.subscribe_resource(f"{server}://1")
                await touch(agent, prefix, server, f"{server}://2")
                await touch(agent, prefix, server, f"{server}://1")
            async with asyncio.timeout(10):
                while len(heard) < len(servers):
                    came.clear()
                    await came.wait()
            assert sorted(heard) == sorted(f"{server}://1" for server in servers)
            for server in servers:
                await agent.unsubscribe_resource(f"{server}://1")
                await none_left(agent, prefix, server)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_a_server_does_not_have_is_not_honoured_at_the_address_of_all(nodes: list[App]) -> None:
    async with (
        Client(f"{nodes[0].url}/mcp-all", mode="2026-07-28") as agent,
        listen(agent.session, tools_list_changed=True, resource_subscriptions=["nowhere:1"]) as events,
    ):
        assert events.honored.tools_list_changed is True
        assert not events.honored.resource_subscriptions
