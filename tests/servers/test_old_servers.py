"""One server on four SDKs, each of which speaks up to another revision of before 2026-07-28."""

from __future__ import annotations

import pytest

from node.upstreams.era import Era, detect
from node.upstreams.spec import UpstreamSpec
from tests.servers.world import ERAS, SQLITE, Agent, World, sqlite, text_of

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize(("version", "revision"), SQLITE.items())
async def test_the_latest_revision_of_both_is_agreed_on(world: World, version: str, revision: str) -> None:
    assert (await world.until_up(sqlite(version))).protocol_version == revision


@pytest.mark.parametrize("version", SQLITE)
async def test_a_server_that_dies_of_an_unknown_first_request_is_known_as_old_and_serves_on(
    world: World, version: str
) -> None:
    restarts = (await world.until_up(sqlite(version))).health.restarts
    spec = UpstreamSpec("old", command=tuple(world.command_of_sqlite(version, "asked.db")))
    assert await detect(spec) == Era("stdio", modern=False)
    async with Agent(f"{world.url}/mcp/{sqlite(version)}", "auto", can=False).client as client:
        assert text_of(await client.call_tool("list_tables", {})).startswith("[")
    assert (await world.until_up(sqlite(version))).health.restarts == restarts


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("version", SQLITE)
async def test_tables_insights_and_prompts_are_reached(world: World, version: str, era: str) -> None:
    table = f"seen_{era}"
    async with Agent(f"{world.url}/mcp/{sqlite(version)}", era, can=False).client as client:
        await client.call_tool("create_table", {"query": f"CREATE TABLE {table} (n INTEGER, s TEXT)"})
        await client.call_tool("write_query", {"query": f"INSERT INTO {table} VALUES (9007199254740993, 'ü𝄞')"})  # noqa: S608
        said = text_of(await client.call_tool("read_query", {"query": f"SELECT n, s FROM {table}"}))  # noqa: S608
        assert "9007199254740993" in said
        assert "ü𝄞" in said
        await client.call_tool("append_insight", {"insight": f"seen from {era}"})
        contents = (await client.read_resource("memo://insights")).contents
        assert f"seen from {era}" in contents[0].text  # type: ignore[union-attr]
        prompt = await client.get_prompt("mcp-demo", {"topic": "meshes"})
        assert "meshes" in prompt.messages[0].content.text  # type: ignore[union-attr]
        failed = await client.call_tool("read_query", {"query": "SELECT nonsense"})
        assert "nonsense" in failed.content[0].text  # type: ignore[union-attr]
