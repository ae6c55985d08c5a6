"""`use_tool` and its twin: what is run, what is refused, and how prompts and resources come back as tools' results."""

from __future__ import annotations

from typing import Any

import pytest

from node.endpoints.meta import MetaSettings
from proto.records import Kind, Record
from tests.node.endpoints.conftest import EU, US, House

READS = {"annotations": {"readOnlyHint": True}}


def at(server: str, tool: str, **params: Any) -> dict[str, Any]:
    return {"mcp_server_name": server, "mcp_tool_name": tool, "params": params}


def text_of(result: dict[str, Any]) -> str:
    return str(result["content"][0]["text"])


@pytest.fixture
def house() -> House:
    house = House(settings=MetaSettings(read_only_tool=True, believe_hints=("wiki",)))
    house.offer(EU, "wiki", Kind.TOOL, "read_page", "write_page")
    house.offer(EU, "wiki", Kind.PROMPT, "review")
    house.offer(US, "payroll", Kind.PROMPT, "raise")
    return house


async def test_a_prompt_is_got_by_its_servers_name_as_the_prompt_it_is(house: House) -> None:
    house.servers.answers["prompts/get"] = {
        "result": {
            "description": "Review a page",
            "messages": [
                {"role": "user", "content": {"type": "text", "text": "Read this:"}},
                {"role": "user", "content": {"type": "resource", "resource": {"uri": "wiki://home", "text": "Hello"}}},
                {"role": "assistant", "content": {"type": "text", "text": "I have."}},
            ],
        }
    }
    result = await house.use("use_tool", at("wiki", "prompts/get", name="review", arguments={"page": "home"}))
    assert result == {
        "content": [
            {"type": "text", "text": "Read this:"},
            {"type": "resource", "resource": {"uri": "wiki://home", "text": "Hello"}},
            {"type": "text", "text": "[assistant]"},
            {"type": "text", "text": "I have."},
        ],
        "isError": False,
    }
    node, call = house.servers.calls[-1]
    assert (node, call.method) == ("eu-1", "prompts/get")
    assert call.params == {"name": "review", "arguments": {"page": "home"}}


async def test_a_resource_is_read_by_its_servers_name_as_an_embedded_resource(house: House) -> None:
    contents = [
        {"uri": "wiki://home", "mimeType": "text/plain", "text": "Hello"},
        {"uri": "wiki://logo", "blob": "AA=="},
    ]
    house.servers.answers["resources/read"] = {"result": {"contents": contents, "_meta": {"vendor/x": 1}}}
    result = await house.use("use_tool", at("wiki", "resources/read", uri="wiki://home"), _meta={"progressToken": 7})
    assert result == {
        "content": [{"type": "resource", "resource": part} for part in contents],
        "isError": False,
        "_meta": {"vendor/x": 1},
    }
    assert house.servers.calls[-1][1].params == {"uri": "wiki://home", "_meta": {"progressToken": 7}}


async def test_what_a_server_asks_or_refuses_on_the_way_passes_as_it_is(house: House) -> None:
    asking = {"resultType": "input_required", "inputRequests": {}, "requestState": "s"}
    house.servers.answers["prompts/get"] = {"result": asking}
    assert await house.use("use_tool", at("wiki", "prompts/get", name="review")) == asking
    house.servers.answers["resources/read"] = {"error": {"code": -32002, "message": "no such resource"}}
    params = {"name": "use_tool", "arguments": at("wiki", "resources/read", uri="wiki://x")}
    answer = await house.endpoints.endpoint(None).handle("tools/call", params, *house.as_clerk())
    assert answer == {"error": {"code": -32002, "message": "no such resource"}}


async def test_a_tool_that_bears_such_a_name_is_a_tool(house: House) -> None:
    house.offer(EU, "odd", Kind.TOOL, "resources/read")
    result = await house.use("use_tool", at("odd", "resources/read", uri="x"))
    assert result["params"] == {"name": "resources/read", "arguments": {"uri": "x"}}
    assert house.servers.calls[-1][1].method == "tools/call"


async def test_prompts_are_hidden_and_suggested_as_tools_are(house: House) -> None:
    missing = await house.use("use_tool", at("wiki", "prompts/get", name="reviw"))
    assert missing["isError"] is True
    assert text_of(missing).endswith("; did you mean 'review'?")
    hidden = await house.use("use_tool", at("payroll", "prompts/get", name="raise"), "intern")
    unknown = await house.use("use_tool", at("nothere", "prompts/get", name="raise"), "intern")
    assert str(hidden).replace("payroll", "nothere") == str(unknown)


async def test_the_twin_runs_what_a_believed_server_calls_read_only_and_nothing_else(house: House) -> None:
    hinted = {"name": "read_page", **READS}
    house.catalog.apply(EU, [Record.of(Kind.TOOL, "wiki/read_page", hinted)], [])
    writes = {"name": "write_page", "annotations": {"readOnlyHint": False}}
    house.catalog.apply(EU, [Record.of(Kind.TOOL, "wiki/write_page", writes)], [])
    house.offer(EU, "liar")
    house.catalog.apply(EU, [Record.of(Kind.TOOL, "liar/read_page", hinted)], [])
    assert (await house.use("use_read_only_tool", at("wiki", "read_page")))["at"] == "wiki--eu-1"
    for server, tool in (("wiki", "write_page"), ("liar", "read_page")):
        refused = await house.use("use_read_only_tool", at(server, tool))
        assert refused["isError"] is True
        assert text_of(refused).endswith(f"{tool!r} of {server!r} is not: run it with use_tool")
    assert len(house.servers.calls) == 1
    missing = await house.use("use_read_only_tool", at("wiki", "raed_page"))
    assert "; did you mean 'read_page'" in text_of(missing)


async def test_the_twin_reads_prompts_and_resources_of_believed_servers(house: House) -> None:
    house.offer(EU, "liar", Kind.PROMPT, "lie")
    house.servers.answers["prompts/get"] = {"result": {"messages": []}}
    assert (await house.use("use_read_only_tool", at("wiki", "prompts/get", name="review")))["content"] == []
    refused = await house.use("use_read_only_tool", at("liar", "prompts/get", name="lie"))
    assert refused["isError"] is True


async def test_one_owner_that_is_not_believed_is_enough_to_refuse(house: House) -> None:
    hinted = {"name": "convert", **READS}
    house.offer(EU, "wiki-2", service="wiki-all")
    house.offer(EU, "wiki", service="wiki-all")
    for server in ("wiki", "wiki-2"):
        house.catalog.apply(EU, [Record.of(Kind.TOOL, f"{server}/convert", hinted)], [])
    assert (await house.use("use_read_only_tool", at("wiki--eu-1", "convert")))["at"] == "wiki--eu-1"
    assert (await house.use("use_read_only_tool", at("wiki-all", "convert")))["isError"] is True


async def test_the_twin_is_not_there_unless_it_is_switched_on() -> None:
    plain = House()
    plain.offer(EU, "wiki", Kind.TOOL, "read_page")
    names = [t["name"] for t in (await plain.ask("tools/list", at=None))["tools"]]
    assert names == ["search_mcp_server", "add_mcp_server", "use_tool"]
    with pytest.raises(Exception, match="no tool named 'use_read_only_tool' here"):
        await plain.use("use_read_only_tool", at("wiki", "read_page"))
    twin = (await House(settings=MetaSettings(read_only_tool=True)).ask("tools/list", at=None))["tools"][3]
    assert (twin["name"], twin["annotations"]["readOnlyHint"]) == ("use_read_only_tool", True)
