"""What every real server offers is listed through a node, and one of its tools called, by agents of both eras."""

from __future__ import annotations

from typing import Any

import pytest

from tests.servers.world import ERAS, SQLITE, Agent, World, sqlite, text_of

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="session")]

COUNTS = {
    **{sqlite(v): (6, 1, 1, 0) for v in SQLITE},
    "everything": (13, 4, 7, 2),
    "everything-http": (13, 4, 7, 2),
    "everything-sse": (13, 4, 7, 2),
    "filesystem": (14, 0, 0, 0),
    "memory": (9, 0, 1, 0),
    "thinking": (1, 0, 0, 0),
    "time": (2, 0, 0, 0),
    "git": (12, 0, 0, 0),
}
"""Tools, prompts, resources and templates that the server lists for a client which declares nothing."""

FOR_THE_CAPABLE = {
    "get-roots-list",
    "trigger-elicitation-request",
    "trigger-sampling-request",
    "trigger-url-elicitation",
}
"""What the survey adds, at a moment of its own."""

THOUGHT = {"thought": "so far", "nextThoughtNeeded": False, "thoughtNumber": 1, "totalThoughts": 1}
CALLS: list[tuple[str, str, dict[str, Any], str]] = [
    *((sqlite(v), "list_tables", {}, "[") for v in SQLITE),
    ("everything", "echo", {"message": "astral 𝄞"}, "astral 𝄞"),
    ("everything-http", "get-sum", {"a": 2, "b": 3}, "5"),
    ("everything-sse", "echo", {"message": "x" * 2_000_000}, "x" * 2_000_000),
    ("filesystem", "list_allowed_directories", {}, "files"),
    ("memory", "read_graph", {}, "entities"),
    ("thinking", "sequentialthinking", THOUGHT, "thoughtNumber"),
    ("time", "get_current_time", {"timezone": "UTC"}, "UTC"),
]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", COUNTS)
async def test_all_that_a_server_offers_is_listed(world: World, name: str, era: str) -> None:
    if name.startswith("everything"):
        await world.surveyed(name)
    async with Agent(f"{world.url}/mcp/{name}", era, can=False).client as client:
        offered = client.server_capabilities
        counts = (
            len([t for t in (await client.list_tools()).tools if t.name not in FOR_THE_CAPABLE]),
            len((await client.list_prompts()).prompts) if offered.prompts else 0,
            len((await client.list_resources()).resources) if offered.resources else 0,
            len((await client.list_resource_templates()).resource_templates) if offered.resources else 0,
        )
    assert counts == COUNTS[name]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("name", "tool", "arguments", "says"), CALLS, ids=[f"{c[0]}-{c[1]}" for c in CALLS])
async def test_a_tool_of_each_server_is_called(
    world: World, name: str, tool: str, arguments: dict[str, Any], says: str, era: str
) -> None:
    async with Agent(f"{world.url}/mcp/{name}", era, can=False).client as client:
        assert says in text_of(await client.call_tool(tool, arguments))


@pytest.mark.parametrize("era", ERAS)
async def test_what_one_tool_writes_another_reads(world: World, era: str) -> None:
    path = str(world.files / f"{era}.txt")
    async with Agent(f"{world.url}/mcp/filesystem", era, can=False).client as client:
        await client.call_tool("write_file", {"path": path, "content": "written through the mesh"})
        result = await client.call_tool("read_text_file", {"path": path})
    assert text_of(result) == "written through the mesh"
    assert result.structured_content == {"content": "written through the mesh"}


@pytest.mark.parametrize("era", ERAS)
async def test_the_state_of_git_is_told(world: World, era: str) -> None:
    async with Agent(f"{world.url}/mcp/git", era, can=False).client as client:
        assert "main" in text_of(await client.call_tool("git_status", {"repo_path": str(world.base / "repository")}))
