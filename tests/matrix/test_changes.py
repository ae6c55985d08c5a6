"""What authorities change is in force on all three nodes when the verb answers, and what was open ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from tests.matrix.agents import BOTH, MODERN, Forward, Modern, initialize, peering
from tests.matrix.test_methods import word
from tests.matrix.world import PATIENCE_S, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORBID = '@id("no-looking") forbid(principal, action == Action::"call", resource) when { resource.tool == "look" };'
ECHO: dict[str, Any] = {"name": "echo", "arguments": {}}


async def everywhere(world: World, who: str, tool: str) -> set[str]:
    """What this caller gets of a tool of `open`, by each road at each node, in the table's words."""
    meta = {"mcp_server_name": "open", "mcp_tool_name": tool, "params": {}}
    told = set()
    for at in world.nodes:
        for path, params in (
            ("/mcp/open", {"name": tool, "arguments": {}}),
            ("/mcp-all", {"name": f"open__{tool}", "arguments": {}}),
            ("/mcp", {"name": "use_tool", "arguments": meta}),
        ):
            told.add(word(await Modern(world, who, path, at).ask("tools/call", params)))
    async with peering(world) as dialler:
        said = await Forward(dialler.open("Forward"), who, "open", "honest").ask(
            "tools/call", {"name": tool, "arguments": {}}
        )
        told.add(word(said))
    return told


async def shows(world: World, who: str, tool: str) -> set[bool]:
    """Is a tool of `open` in the lists and searches of this caller, at each node?"""
    seen = set()
    for at in world.nodes:
        for path, method, params in (
            ("/mcp/open", "tools/list", {}),
            ("/mcp-all", "tools/list", {}),
            ("/mcp", "tools/call", {"name": "search_mcp_server", "arguments": {"task_description": f"{tool} open"}}),
            ("/mcp", "tools/call", {"name": "find_tool", "arguments": {"tool_description": f"{tool} open"}}),
            ("/mcp", "tools/call", {"name": "mcp-add", "arguments": {"name": "open"}}),
        ):
            said = await Modern(world, who, path, at).ask(method, params)
            seen.add(f"{tool} of the shelf open" in json.dumps(said.message))
    return seen


CHANGES: list[tuple[str, str, Any, str]] = [
    ("a policy", "/policies/looking", {"text": FORBID}, "/policies/looking"),
    ("a disabled tool", "/held", {"server": "open", "tool": "look"}, "/held?server=open&tool=look"),
    ("a disabled server", "/held", {"server": "open"}, "/held?server=open"),
]


@pytest.mark.parametrize(("path", "body", "gone"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
async def test_what_is_denied_is_denied_by_every_road_at_every_node_and_comes_back(
    world: World, path: str, body: Any, gone: str
) -> None:
    assert await everywhere(world, "user", "look") == {"ok"}
    assert await shows(world, "user", "look") == {True}
    done = await world.does("admin", "PUT", path, body)
    try:
        assert done["in_force"] == ["east", "lord", "west"]
        assert await everywhere(world, "user", "look") == {"hid"}
        assert await shows(world, "user", "look") == {False}
    finally:
        await world.does("admin", "DELETE", gone)
    assert await everywhere(world, "user", "look") == {"ok"}
    assert await shows(world, "user", "look") == {True}


async def streams(stack: AsyncExitStack, world: World, key: str, at: str) -> dict[str, Callable[[], Awaitable[None]]]:
    """Everything that stays open: what it is → that it has ended."""
    headers, url, http = {"Authorization": f"Bearer {key}"}, world.nodes[at].url, world.http
    found: dict[str, Callable[[], Awaitable[None]]] = {}

    def ends(response: aiohttp.ClientResponse) -> Callable[[], Awaitable[None]]:
        async def ended() -> None:
            try:
                while await response.content.readany():
                    pass
            except aiohttp.ClientError:
                return

        return ended

    async with http.post(f"{url}/mcp/open", json=initialize(), headers={**headers, "Accept": BOTH}) as said:
        session = {"Mcp-Session-Id": said.headers["Mcp-Session-Id"], "MCP-Protocol-Version": "2025-11-25"}
    event = {**headers, **session, "Accept": "text/event-stream"}
    found["GET /mcp"] = ends(await stack.enter_async_context(http.get(f"{url}/mcp/open", headers=event)))
    sse = await stack.enter_async_context(http.get(f"{url}/sse/open", headers=headers))
    found["/sse"] = ends(sse)
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    params = {"notifications": {"resourceSubscriptions": ["shelf://open/note"]}, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}
    named = {**headers, "Accept": BOTH, "MCP-Protocol-Version": MODERN, "Mcp-Method": "subscriptions/listen"}
    listen = await stack.enter_async_context(http.post(f"{url}/mcp/open", json=message, headers=named))
    async for line in listen.content:
        if line.startswith(b"data: {"):
            assert b"acknowledged" in line, line
            break
    found["subscriptions/listen"] = ends(listen)
    socket = await stack.enter_async_context(http.ws_connect(f"{url}/ws/open", headers=headers))
    await socket.send_json(initialize())
    assert "result" in await socket.receive_json()

    async def closed() -> None:
        while (await socket.receive()).type is aiohttp.WSMsgType.TEXT:
            pass

    found["/ws"] = closed
    return found


async def test_a_revoked_key_opens_nothing_on_any_node_and_what_it_had_open_ends(world: World) -> None:
    made = await world.does("admin", "PUT", "/keys/leaver", {"tenant": "acme", "groups": ["users"]})
    world.keys["leaver"] = made["key"]
    assert {word(await Modern(world, "leaver", "/mcp/open", at).ask("tools/call", ECHO)) for at in world.nodes} == {
        "ok"
    }
    async with AsyncExitStack() as stack:
        opened_at = {at: await streams(stack, world, made["key"], at) for at in world.nodes}
        done = await world.does("admin", "DELETE", "/keys/leaver")
        assert done["in_force"] == ["east", "lord", "west"]
        told = {word(await Modern(world, "leaver", path, at).ask("tools/list", {}))
                for at in world.nodes for path in ("/mcp", "/mcp/open", "/mcp-all")}  # fmt: skip
        assert told == {"who"}
        for at, named in opened_at.items():
            for what, ended in named.items():
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        await ended()
                except TimeoutError:
                    pytest.fail(f"{what} at {at} is open still")


async def test_a_listen_of_what_is_hidden_now_ends(world: World) -> None:
    async with AsyncExitStack() as stack:
        named = await streams(stack, world, world.bearer("user"), "east")
        await world.does("admin", "PUT", "/held", {"server": "open"})
        try:
            async with asyncio.timeout(PATIENCE_S):
                await named["subscriptions/listen"]()
        finally:
            await world.does("admin", "DELETE", "/held?server=open")


async def test_a_server_of_the_catalogue_is_there_for_everybody_once_somebody_who_may_has_added_it(
    world: World,
) -> None:
    asked = {"name": "add_mcp_server", "arguments": {"mcp_server_name": "late"}}
    for who, expected in (("other", "hid"), ("reader", "hid"), ("user", "hid"), ("admin", "ok"), ("user", "ok")):
        assert word(await Modern(world, who, "/mcp", "east").ask("tools/call", asked)) == expected, who
