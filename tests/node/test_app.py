"""Whole nodes, in this process, with real MCP servers behind them and the SDK's client in front."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mcp.client import Client
from mcp_types import Implementation

from federation.ca import init_ca, issue
from federation.events import Liveness
from node.app import App
from node.catalog import Server
from node.config import parse
from proto.errors import Unavailable
from proto.names import NodeId

SAMPLES = Path(__file__).parents[2] / "deploy" / "examples" / "servers"
MESH = "mesh.test"
ERAS = ["legacy", "auto"]
"""How the SDK's client opens: a 2025-11-25 session, or `server/discover` and 2026-07-28 without one."""


def sample(name: str, **more: Any) -> dict[str, Any]:
    return {"command": [sys.executable, str(SAMPLES / f"{name}.py")], **more}


@asynccontextmanager
async def running(settings: dict[str, Any], base: Path) -> AsyncIterator[App]:
    settings.setdefault("http", {}).setdefault("listen", "127.0.0.1:0")
    settings.setdefault("search", {}).setdefault("embedder", "none")
    app = App(parse(settings, base))
    try:
        await app.start()
        yield app
    finally:
        await app.stop()


async def until(app: App, holds: Callable[[], bool]) -> None:
    """Waits for a change of the catalogue that makes it true."""
    changed = asyncio.Event()
    app.catalog.listen(lambda *_: changed.set())
    async with asyncio.timeout(60):
        while not holds():
            changed.clear()
            await changed.wait()


def up(app: App, owner: str, server: str) -> Callable[[], bool]:
    def holds() -> bool:
        found: Server | None = app.catalog.find(owner, server)
        return found is not None and found.up

    return holds


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[App]:
    settings = {
        "node": {"name": "eu-1", "region": "eu"},
        "servers": {"units": sample("units", stateless=True), "broken": {"command": ["no-such-command-anywhere"]}},
        "catalogue": {"text": sample("text"), "dies": {"command": [sys.executable, "-c", "raise SystemExit(3)"]}},
    }
    async with running(settings, tmp_path) as app:
        await until(app, up(app, "eu-1", "units"))
        yield app


@pytest.mark.parametrize("mode", ERAS)
async def test_an_agent_of_either_era_finds_and_uses_a_tool(alone: App, mode: str) -> None:
    async with Client(f"{alone.url}/mcp", mode=mode) as agent:
        tools = [t.name for t in (await agent.list_tools()).tools]
        assert tools == ["search_mcp_server", "add_mcp_server", "use_tool"]
        found = await agent.call_tool("search_mcp_server", {"task_description": "convert miles to kilometres"})
        assert found.structured_content is not None
        hit = found.structured_content["tools"][0]
        assert (hit["mcp_server_name"], hit["mcp_tool_name"], hit["health"]) == ("units", "convert_unit", "up")
        used = await agent.call_tool(
            "use_tool",
            {
                "mcp_server_name": "units",
                "mcp_tool_name": "convert_unit",
                "params": {"value": 1, "from_unit": "mile", "to_unit": "metre"},
            },
        )
        assert used.structured_content is not None
        assert used.structured_content["value"] == pytest.approx(1609.344)


@pytest.mark.parametrize("mode", ERAS)
async def test_a_server_passed_through_is_as_if_dialled_directly(alone: App, mode: str) -> None:
    async with Client(f"{alone.url}/mcp/units", mode=mode) as agent:
        through = {t.name: t.model_dump(mode="json", by_alias=True) for t in (await agent.list_tools()).tools}
        hosted = alone.catalog.find("eu-1", "units")
        assert hosted is not None
        assert set(through) == set(hosted.tools)
        assert through["convert_unit"]["inputSchema"] == hosted.tools["convert_unit"].definition["inputSchema"]
        assert isinstance(agent.server_info, Implementation)
        assert agent.server_info.name == (hosted.info or {})["serverInfo"]["name"]
        result = await agent.call_tool("convert_unit", {"value": 1, "from_unit": "parsec", "to_unit": "furlong-ish"})
        assert result.is_error


async def test_what_the_model_gets_wrong_it_can_read(alone: App) -> None:
    async with Client(f"{alone.url}/mcp") as agent:

        async def refused(tool: str, arguments: dict[str, Any]) -> tuple[str, str]:
            result = await agent.call_tool(tool, arguments)
            assert result.is_error
            assert result.structured_content is not None
            error = result.structured_content["error"]
            return error["kind"], error["message"]

        assert (await refused("use_tool", {"mcp_server_name": "nope", "mcp_tool_name": "x"}))[0] == "unknown"
        assert (await refused("use_tool", {"mcp_server_name": "units", "mcp_tool_name": "x"}))[0] == "unknown"
        kind, message = await refused("use_tool", {"mcp_server_name": "broken", "mcp_tool_name": "x"})
        assert kind == "unavailable"
        assert "no-such-command-anywhere" in message
        kind, message = await refused("use_tool", {"mcp_server_name": "units", "tool": "x"})
        assert (kind, "'tool'" in message) == ("invalid", True)
        kind, message = await refused("search_mcp_server", {"task_description": 7})
        assert (kind, "task_description" in message) == ("invalid", True)


async def test_a_server_of_the_catalogue_is_brought_in_once_and_remembered(alone: App, tmp_path: Path) -> None:
    async with Client(f"{alone.url}/mcp") as agent:
        added = await agent.call_tool("add_mcp_server", {"mcp_server_name": "text"})
        assert not added.is_error
        used = await agent.call_tool(
            "use_tool",
            {"mcp_server_name": "text", "mcp_tool_name": "slugify", "params": {"text": "One Small Step"}},
        )
        assert "one-small-step" in str(used.content)
    assert alone.added.names() == ("text",)


async def test_a_server_that_dies_on_start_is_let_go_of_with_its_cause(alone: App) -> None:
    async with Client(f"{alone.url}/mcp") as agent:
        added = await agent.call_tool("add_mcp_server", {"mcp_server_name": "dies"})
        assert added.is_error
        assert "status 3" in str(added.content)
        assert alone.added.names() == ()
        assert alone.catalog.find("eu-1", "dies") is None


async def test_a_question_of_any_length_and_script_gets_an_answer_of_a_node(alone: App) -> None:
    async with aiohttp.ClientSession() as session:
        for what, status in (("search?q=" + "工" * 2_000, 200), ("explain?tool=" + "x" * 10_000, 400)):
            async with session.get(f"{alone.url}/api/v1/{what}") as response:
                assert response.status == status
                assert response.content_type in ("application/json", "application/problem+json")


async def test_how_long_and_how_many_calls_wait_for_their_clients_is_configured(tmp_path: Path) -> None:
    settings = {"node": {"data_dir": str(tmp_path / "data")}, "http": {"parked_s": 7, "parked_max": 3}}
    async with running(settings, tmp_path) as app:
        assert (app.bridge.parked.parked_s, app.bridge.parked.parked_max) == (7, 3)


async def test_a_taken_port_is_said_in_one_sentence(alone: App, tmp_path: Path) -> None:
    settings = {"http": {"listen": alone.url.removeprefix("http://")}, "node": {"data_dir": str(tmp_path / "other")}}
    with pytest.raises(Unavailable, match=r"http\.listen .* choose another port"):
        async with running(settings, tmp_path):
            raise AssertionError("two nodes on one port")


async def test_a_part_that_fails_to_stop_keeps_no_other_running(tmp_path: Path) -> None:
    class Broken(Exception):
        pass

    async def broken() -> None:
        raise Broken

    settings = {
        "http": {"listen": "127.0.0.1:0"},
        "search": {"embedder": "none"},
        "servers": {"units": sample("units")},
    }
    app = App(parse(settings, tmp_path))
    await app.start()
    await until(app, up(app, app.catalog.me.name, "units"))
    app.ingress.close = broken  # type: ignore[method-assign]
    with pytest.raises(Broken):
        await app.stop()
    assert "units: down" in repr(app.hosting)


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[tuple[App, App]]:
    """eu-1, and ap-1 which owns two servers; eu-1 dials ap-1 and ap-1 finds eu-1 by being dialled."""
    ca = tmp_path / "ca"
    init_ca(ca, MESH)

    def settings(region: str, static: list[str], **more: Any) -> dict[str, Any]:
        name = f"{region}-1"
        files = issue(ca, NodeId.of(MESH, region, name), tmp_path / name, hosts=["127.0.0.1"])
        return {
            "node": {"name": name, "region": region, "mesh": MESH, "data_dir": str(tmp_path / name / "data")},
            "federation": {
                "listen": "127.0.0.1:0",
                "tls": {"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)},
                "static": static,
                "mdns": {"enabled": False},
            },
            **more,
        }

    async with AsyncExitStack() as stack:
        servers = {"finance": sample("finance"), "text": sample("text")}
        ap = await stack.enter_async_context(running(settings("ap", [], servers=servers), tmp_path))
        assert ap.federation is not None
        dial = [f"127.0.0.1:{ap.federation.bound_port}"]
        eu = await stack.enter_async_context(running(settings("eu", dial), tmp_path))
        for server in servers:
            await until(eu, up(eu, "ap-1", server))
        yield eu, ap


@pytest.mark.parametrize("mode", ERAS)
async def test_a_tool_of_another_region_is_found_and_used_as_if_next_door(mesh: tuple[App, App], mode: str) -> None:
    eu, ap = mesh
    async with Client(f"{eu.url}/mcp", mode=mode) as agent:
        found = await agent.call_tool("search_mcp_server", {"task_description": "slug for a title"})
        assert found.structured_content is not None
        hit = found.structured_content["tools"][0]
        assert (hit["mcp_tool_name"], hit["region"], hit["node"]) == ("slugify", "ap", "ap-1")
        arguments = {"mcp_server_name": "text", "mcp_tool_name": "slugify", "params": {"text": "Far Away"}}
        used = await agent.call_tool("use_tool", arguments)
        assert "far-away" in str(used.content)
    assert eu.gateway.recent[-1].owner == "ap-1"
    assert ap.gateway.recent[-1].entry == "eu-1"


@pytest.mark.parametrize("mode", ERAS)
async def test_a_remote_server_passes_through_with_progress(mesh: tuple[App, App], mode: str) -> None:
    eu, _ = mesh
    seen: list[float] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        seen.append(done)

    async with Client(f"{eu.url}/mcp/finance", mode=mode) as agent:
        arguments = {"start": 1000, "years": 10, "runs": 100}
        result = await agent.call_tool("simulate_portfolio", arguments, progress_callback=progress)
        assert not result.is_error, result.content
    assert seen == list(range(1, 11))


async def test_a_server_whose_owner_stops_is_unavailable_and_says_which_owner(
    mesh: tuple[App, App],
) -> None:
    eu, ap = mesh
    gone = asyncio.Event()
    told = eu.catalog.set_liveness

    def watched(owner: NodeId, liveness: Liveness, *, listed: bool) -> None:
        told(owner, liveness, listed=listed)
        if liveness is not Liveness.ALIVE:
            gone.set()

    eu.catalog.set_liveness = watched  # type: ignore[method-assign,assignment]
    await ap.stop()
    await asyncio.wait_for(gone.wait(), 30)
    async with Client(f"{eu.url}/mcp") as agent:
        arguments = {"mcp_server_name": "text", "mcp_tool_name": "slugify", "params": {"text": "x"}}
        used = await agent.call_tool("use_tool", arguments)
        assert used.is_error
        assert "ap-1 is" in str(used.content)


@pytest.mark.parametrize("node", [0, 1])
async def test_every_node_knows_the_whole_mesh(mesh: tuple[App, App], node: int) -> None:
    app = mesh[node]
    async with aiohttp.ClientSession() as session, session.get(f"{app.url}/api/v1/status") as response:
        status = await response.json()
    other = mesh[1 - node].catalog.me
    assert [(p["name"], p["region"], p["state"]) for p in status["peers"]] == [(other.name, other.region, "alive")]
    assert {s["qualified"] for s in status["servers"]} == {"finance--ap-1", "text--ap-1"}
