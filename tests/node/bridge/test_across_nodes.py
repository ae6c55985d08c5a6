"""The four cells where they belong: agents at three nodes of one mesh, real servers of each era at one of them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from mcp.client import Client
from mcp_types import ElicitResult

from federation.ca import init_ca
from node.app import App
from node.bridge.states import States
from node.mesh_keys import make, sealer_of
from proto.calls import Call
from tests.node.waiting import until
from tests.node.working import MESH, app_of, settings_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

HERE = Path(__file__).parent
LEGACY_SERVER = HERE.parent / "upstreams" / "servers" / "asking_stdio.py"
MODERN_SERVER = HERE / "servers" / "modern.py"
PATIENCE_S = 30.0
CAPABILITIES = {"elicitation": {"form": {}}, "roots": {}}
ASK = {"name": "ask", "arguments": {"method": "elicitation/create", "params": {"message": "name?"}}}
ANNE = {"action": "accept", "content": {"name": "Anne"}}
ENTRIES = pytest.mark.parametrize("entry", ["ap-1", "eu-1"])
"""The owner itself, and a node across a hop."""


@dataclass
class World:
    """ap-1 owns `legacy` and `modern`; eu-1 and us-1 know them from it."""

    nodes: dict[str, App]
    http: aiohttp.ClientSession

    async def call(self, node: str, server: str, params: dict[str, Any], capabilities: Any = CAPABILITIES) -> Any:
        """A 2026-07-28 client's `tools/call`: the message that answers it."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": capabilities,
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {**params, "_meta": meta}}
        headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/call",
            "Mcp-Name": params["name"],
        }
        url = f"{self.nodes[node].url}/mcp/{server}"
        async with asyncio.timeout(PATIENCE_S), self.http.post(url, json=message, headers=headers) as response:
            text = await response.text()
        if response.content_type == "text/event-stream":
            text = next(line[6:] for line in reversed(text.splitlines()) if line.startswith("data: "))
        return json.loads(text)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    base = tmp_path_factory.mktemp("bridged")
    init_ca(base / "ca", MESH)
    make(base / "mesh.key")
    servers = {
        "legacy": {"command": [sys.executable, str(LEGACY_SERVER)]},
        "modern": {"command": [sys.executable, str(MODERN_SERVER)]},
    }
    async with AsyncExitStack() as stack:
        nodes: dict[str, App] = {}
        known: list[str] = []
        for region in ("ap", "eu", "us"):
            settings = settings_of(region, base, static=known, servers=servers if region == "ap" else {})
            if region != "us":
                # Where one node alone owns a server, others need not open its states to find it.
                settings["federation"]["mesh_keys"] = [str(base / "mesh.key")]
            app = app_of(settings, base / f"{region}-1")
            stack.push_async_callback(app.stop)
            await app.start()
            assert app.federation is not None
            known.append(f"127.0.0.1:{app.federation.bound_port}")
            nodes[f"{region}-1"] = app
        for app in nodes.values():
            await until(app, lambda app=app: all_up(app))  # type: ignore[misc]
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield World(nodes, http)


def all_up(app: App) -> bool:
    found = [app.catalog.find("ap-1", server) for server in ("legacy", "modern")]
    return all(s is not None and s.up and s.tools for s in found)


@ENTRIES
@pytest.mark.parametrize("then", ["ap-1", "eu-1", "us-1"])
async def test_a_parked_call_goes_on_by_whichever_node_the_answer_reaches(world: World, entry: str, then: str) -> None:
    first = (await world.call(entry, "legacy", ASK))["result"]
    ((key, question),) = first["inputRequests"].items()
    assert question == {"method": "elicitation/create", "params": {"message": "name?"}}
    retry = {**ASK, "inputResponses": {key: ANNE}, "requestState": first["requestState"]}
    last = (await world.call(then, "legacy", retry))["result"]
    assert last["resultType"] == "complete"
    assert "Anne" in last["content"][0]["text"]
    again = await world.call(entry, "legacy", retry)
    assert again["error"]["code"] == -32602
    assert "has been answered" in again["error"]["message"]
    assert len(world.nodes["ap-1"].bridge.parked) == 0


@ENTRIES
async def test_a_forged_state_is_refused_by_the_owner(world: World, entry: str) -> None:
    first = (await world.call(entry, "legacy", ASK))["result"]
    state = first["requestState"]
    forged = state[:-1] + ("A" if state[-1] != "A" else "B")
    answer = await world.call(entry, "legacy", {**ASK, "inputResponses": {}, "requestState": forged})
    assert answer["error"]["code"] == -32602
    retry = {**ASK, "inputResponses": {"q1": ANNE}, "requestState": state}
    assert "Anne" in str(await world.call(entry, "legacy", retry))


@ENTRIES
async def test_a_client_that_cannot_be_asked_is_not(world: World, entry: str) -> None:
    answer = await world.call(entry, "legacy", ASK, {})
    assert "inputRequests" not in answer.get("result", {})


async def named(*_: Any) -> ElicitResult:
    return ElicitResult(action="accept", content={"name": "Anne"})


@ENTRIES
@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
@pytest.mark.parametrize("server", ["legacy", "modern"])
async def test_an_sdk_client_is_asked_by_a_server_of_either_era(
    world: World, server: str, mode: str, entry: str
) -> None:
    url = f"{world.nodes[entry].url}/mcp/{server}"
    async with asyncio.timeout(PATIENCE_S), Client(url, mode=mode, elicitation_callback=named) as client:
        arguments = {
            "method": "elicitation/create",
            "params": {"mode": "form", "message": "name?", "requestedSchema": {"type": "object", "properties": {}}},
        }
        result = await client.call_tool("ask", arguments)
    assert "Anne" in str(result.content)


@ENTRIES
async def test_a_legacy_client_hears_of_a_missing_resource_in_its_own_words(world: World, entry: str) -> None:
    url = f"{world.nodes[entry].url}/mcp/modern"
    async with asyncio.timeout(PATIENCE_S), Client(url, mode="legacy") as client:
        with pytest.raises(Exception, match="no such resource") as e:
            await client.read_resource("x:y")
    assert e.value.error.code == -32002


async def test_a_state_whose_node_is_away_says_to_begin_afresh(world: World) -> None:
    sealer = sealer_of(world.nodes["eu-1"].config.federation.mesh_keys)
    state = States("nobody-1", sealer).again(Call("c", "legacy", "tools/call", ASK), 60)
    answer = await world.call("eu-1", "legacy", {**ASK, "inputResponses": {}, "requestState": state})
    assert answer["error"]["data"]["kind"] == "unavailable"
    assert "call again without inputResponses and requestState" in answer["error"]["message"]


async def test_a_call_that_nobody_comes_back_to_gives_its_session_to_the_next_one(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.bridge.lot.PATIENCE_S", 0.0)
    server = {"command": [sys.executable, str(LEGACY_SERVER)], "sessions_max": 1}
    app = app_of({"servers": {"legacy": server}}, tmp_path)
    await app.start()
    try:
        await until(app, lambda: (s := app.catalog.find("local", "legacy")) is not None and s.up and bool(s.tools))
        alone = World({"local": app}, world.http)
        first = (await alone.call("local", "legacy", ASK))["result"]
        second = (await alone.call("local", "legacy", ASK))["result"]
        late = {**ASK, "inputResponses": {"q1": ANNE}, "requestState": first["requestState"]}
        assert "given up for others" in (await alone.call("local", "legacy", late))["error"]["message"]
        retry = {**ASK, "inputResponses": {"q1": ANNE}, "requestState": second["requestState"]}
        assert "Anne" in str(await alone.call("local", "legacy", retry))
    finally:
        await app.stop()
