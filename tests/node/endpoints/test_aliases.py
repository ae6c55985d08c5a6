"""Docker's and ToolHive's names: what their agents send is taken, and what they get has the shape that they know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from node.endpoints.meta import MetaSettings
from proto import jsons
from proto.names import listed_tool
from proto.records import Kind, Record
from router.aliases import render_ready
from tests.node.endpoints.conftest import EU, US, House


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House(settings=MetaSettings(aliases=("docker", "toolhive")))
    house.offer(EU, "wiki", Kind.TOOL, "read_page", "write_page", instructions="Pages of the house.")
    house.offer(US, "books", Kind.TOOL, "read_book", "write_page")
    await house.router.start()
    yield house
    await house.router.stop()


def json_of(result: dict[str, Any]) -> Any:
    return jsons.loads(result["content"][0]["text"])


async def test_they_are_listed_after_the_three_and_only_where_they_are_configured(house: House) -> None:
    names = [t["name"] for t in (await house.ask("tools/list", at=None))["tools"]]
    assert names[3:] == ["mcp-find", "mcp-add", "mcp-exec", "find_tool", "call_tool"]
    docker = House(settings=MetaSettings(aliases=("docker",)))
    assert len((await docker.ask("tools/list", at=None))["tools"]) == 6
    with pytest.raises(Exception, match="no tool named 'find_tool' here"):
        await docker.use("find_tool", {"tool_description": "x"})


async def test_docker_finds_servers_adds_one_and_runs_its_tool(house: House) -> None:
    found = json_of(await house.use("mcp-find", {"query": "read page", "limit": 1}))
    assert found == {
        "prompt": "read page",
        "total_matches": 1,
        "servers": [{"name": "wiki", "description": "Pages of the house."}],
    }
    added = (await house.use("mcp-add", {"name": "wiki", "activate": True}))["content"][0]["text"]
    assert added.startswith("Successfully added 2 tools in server 'wiki'.")
    tools = jsons.loads(added.split("```json\n")[1].split("\n```")[0])["tools"]
    assert [t["name"] for t in tools] == ["wiki__read_page", "wiki__write_page"]
    run = await house.use("mcp-exec", {"name": "wiki__read_page", "arguments": {"page": "home"}})
    assert run["params"] == {"name": "read_page", "arguments": {"page": "home"}}
    assert (await house.use("mcp-exec", {"name": "wiki__read_page", "arguments": '{"a": 1}'}))["params"][
        "arguments"
    ] == {"a": 1}


async def test_toolhive_finds_a_tool_with_its_schema_and_calls_it(house: House) -> None:
    result = await house.use("find_tool", {"tool_description": "read page", "tool_keywords": ["wiki"]})
    found = json_of(result)
    assert result["structuredContent"] == found
    best = found["tools"][0]
    assert best == {"name": "wiki__read_page", "description": "read_page of wiki", "inputSchema": {"type": "object"}}
    metrics = found["token_metrics"]
    assert metrics.keys() == {"baseline_tokens", "returned_tokens", "savings_percent"}
    assert 0 < metrics["returned_tokens"] <= metrics["baseline_tokens"]
    run = await house.use("call_tool", {"tool_name": best["name"], "parameters": {"page": "home"}})
    assert run["at"] == "wiki--eu-1"


async def test_a_bare_name_runs_where_one_server_alone_has_it(house: House) -> None:
    assert (await house.use("mcp-exec", {"name": "read_book"}))["at"] == "books--us-1"
    several = await house.use("call_tool", {"tool_name": "write_page", "parameters": {}})
    assert several["isError"] is True
    assert several["content"][0]["text"].endswith("say which one: books__write_page, wiki__write_page")
    # Of those that the caller may not see nothing is said.
    assert (await house.use("call_tool", {"tool_name": "write_page", "parameters": {}}, "intern"))["at"] == "wiki--eu-1"
    hidden = await house.use("mcp-exec", {"name": "read_book"}, "intern")
    missing = await house.use("mcp-exec", {"name": "no_book"}, "intern")
    assert str(hidden).replace("read_book", "no_book") == str(missing)


async def test_a_name_that_had_to_be_cut_is_found_again(house: House) -> None:
    long = "write_a_page_with_very_many_words_in_its_name_so_that_it_is_cut"
    house.catalog.apply(EU, [Record.of(Kind.TOOL, f"wiki/{long}", {"name": long})], [])
    label = listed_tool("wiki", long)
    assert len(label) == 64
    assert (await house.use("mcp-exec", {"name": label}))["params"]["name"] == long


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("mcp-find", {}, "mcp-find needs query"),
        ("mcp-find", {"query": "x", "limit": "ten"}, "limit is 'ten'; give a whole number"),
        ("mcp-add", {"nam": "wiki"}, "mcp-add takes name, activate, not 'nam'; did you mean name?"),
        ("mcp-add", {"name": "nothere"}, "no server named 'nothere'"),
        ("mcp-exec", {"name": "x", "arguments": 5}, "arguments is a number; give an object"),
        ("find_tool", {"tool_description": " "}, "tool_description is empty"),
        ("call_tool", {"parameters": {}}, "call_tool needs tool_name"),
    ],
)
async def test_wrong_arguments_are_refused_in_these_tools_words(
    house: House, tool: str, arguments: dict[str, Any], message: str
) -> None:
    refused = await house.use(tool, arguments)
    assert refused["isError"] is True
    assert message in refused["content"][0]["text"]


def test_a_schema_that_fills_the_answer_takes_no_room_from_other_tools() -> None:
    huge = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(10_000)}}
    tools = [
        ("a", {"inputSchema": huge}),
        ("b" * 100_000, {}),
        ("c", {"inputSchema": {"type": "object", "title": "c"}}),
    ]
    answer = render_ready("wiki", tools, 600)["content"][0]["text"]
    listed = jsons.loads(answer.split("```json\n")[1].split("\n```")[0])["tools"]
    assert [(tool["name"], tool["inputSchema"].get("title")) for tool in listed] == [("a", None), ("c", "c")]
    assert "and 1 more" in answer
