"""`/mcp-all`: everything that a caller may see, each thing once, and found back under the name that was listed."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest

from proto.errors import Conflict, Invalid, Unknown
from proto.names import NodeId
from proto.records import Kind, Record
from tests.node.endpoints.conftest import caller_of

if TYPE_CHECKING:
    from tests.node.endpoints.conftest import Heard, House

EU, US = (NodeId("mesh.test", region, f"{region}-1") for region in ("eu", "us"))


def names(pages: list[list[dict[str, Any]]], field: str = "name") -> list[str]:
    return [item[field] for page in pages for item in page]


async def test_tools_bear_their_servers_name_and_are_otherwise_as_they_were(house: House) -> None:
    house.offer(EU, "wiki", Kind.TOOL, "read", "a__b")
    house.offer(US, "math", Kind.TOOL, "add")
    listed = [tool for page in await house.pages("tools/list", "tools") for tool in page]
    assert [t["name"] for t in listed] == ["math__add", "wiki__a__b", "wiki__read"]
    assert listed[2] == {"name": "wiki__read", "description": "read of wiki", "vendor": None}
    result = await house.ask("tools/call", {"name": "wiki__a__b", "arguments": {"x": 1}, "vendor": None})
    assert (result["at"], result["params"]) == ("wiki--eu-1", {"name": "a__b", "arguments": {"x": 1}, "vendor": None})


async def test_prompts_are_named_and_got_alike(house: House) -> None:
    house.offer(US, "wiki", Kind.PROMPT, "summary")
    assert names(await house.pages("prompts/list", "prompts")) == ["wiki__summary"]
    result = await house.ask("prompts/get", {"name": "wiki__summary", "arguments": {"a": "b"}})
    assert (result["at"], result["params"]) == ("wiki--us-1", {"name": "summary", "arguments": {"a": "b"}})


async def test_a_caller_sees_and_reaches_only_what_it_may(house: House) -> None:
    house.offer(EU, "wiki", Kind.TOOL, "read")
    house.offer(EU, "payroll", Kind.TOOL, "read")
    house.offer(EU, "payroll", Kind.RESOURCE, "pay:roll")
    assert names(await house.pages("tools/list", "tools", "clerk")) == ["payroll__read", "wiki__read"]
    assert names(await house.pages("tools/list", "tools", "intern")) == ["wiki__read"]
    assert names(await house.pages("resources/list", "resources", "intern"), "uri") == []
    refused = []
    for method, params in (
        ("tools/call", {"name": "payroll__read"}),
        ("tools/call", {"name": "nothere__read"}),
        ("resources/read", {"uri": "pay:roll"}),
    ):
        with pytest.raises(Unknown) as e:
            await house.ask(method, params, "intern")
        refused.append(e.value.message)
    assert refused[0].replace("payroll", "nothere") == refused[1]
    assert house.servers.calls == []


async def test_a_server_is_named_as_the_caller_reaches_it(house: House) -> None:
    for node in (EU, US):
        house.offer(node, "wiki", Kind.TOOL, "read")
        house.offer(node, "units", Kind.TOOL, "convert", service="measures", stateless=True)
    assert names(await house.pages("tools/list", "tools")) == [
        "measures__convert",
        "wiki--eu-1__read",
        "wiki--us-1__read",
    ]
    assert (await house.ask("tools/call", {"name": "wiki--us-1__read"}))["at"] == "wiki--us-1"
    # A name listed before the second server came says what has become of it.
    with pytest.raises(Conflict, match="wiki--eu-1, wiki--us-1"):
        await house.ask("tools/call", {"name": "wiki__read"})


async def test_what_owners_of_a_service_do_not_share_is_listed_apart(house: House) -> None:
    house.offer(EU, "units", Kind.TOOL, "convert", "old", service="measures")
    house.offer(US, "units", Kind.TOOL, "convert", service="measures")
    house.offer(US, "units-two", Kind.TOOL, "convert", service="measures")
    # Two describe it in one way, the third in another.
    assert names(await house.pages("tools/list", "tools")) == [
        "measures__convert",
        "measures__old",
        "units-two--us-1__convert",
    ]
    assert (await house.ask("tools/call", {"name": "units-two--us-1__convert"}))["at"] == "units-two--us-1"


@pytest.mark.parametrize(
    ("server", "tool"),
    [
        ("wiki", "x" * 80),
        ("wiki", "größe.lesen"),
        ("wiki", "a/b c"),
        ("s" * 40, "y" * 40),
    ],
)
async def test_a_name_that_had_to_be_cut_is_found_back(house: House, server: str, tool: str) -> None:
    house.offer(EU, server, Kind.TOOL, tool, "plain")
    # The qualified name alone is longer than a listed one may be.
    house.offer(US, server, Kind.TOOL, tool)
    listed = names(await house.pages("tools/list", "tools"))
    assert len(set(listed)) == 3
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in listed)
    reached = {}
    for name in listed:
        result = await house.ask("tools/call", {"name": name})
        reached[result["at"], result["params"]["name"]] = name
    assert set(reached) == {(f"{server}--eu-1", tool), (f"{server}--eu-1", "plain"), (f"{server}--us-1", tool)}
    with pytest.raises(Unknown):
        await house.ask("tools/call", {"name": f"{listed[0][:-8]}00000000"})


async def test_a_page_goes_on_after_the_last_name_whatever_came_and_went(house: House) -> None:
    for server in ("b", "d", "f"):
        house.offer(EU, server, Kind.TOOL, "1", "2", "3", "4")
    first = await house.ask("tools/list")
    assert names([first["tools"]]) == ["b__1", "b__2", "b__3"]
    # Before, at and after the place where the list goes on.
    house.offer(US, "a", Kind.TOOL, "1")
    house.withdraw(EU, "b")
    house.offer(US, "c", Kind.TOOL, "1")
    house.withdraw(EU, "d", Kind.TOOL, "2")
    rest, cursor = [], first["nextCursor"]
    while cursor:
        page = await house.ask("tools/list", {"cursor": cursor})
        rest += names([page["tools"]])
        cursor = page.get("nextCursor")
    assert rest == ["c__1", "d__1", "d__3", "d__4", "f__1", "f__2", "f__3", "f__4"]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 6, 7])
async def test_pages_hold_each_thing_once_and_the_last_one_ends_the_list(house: House, count: int) -> None:
    for kind, method, field, key in (
        (Kind.TOOL, "tools/list", "tools", "name"),
        (Kind.RESOURCE, "resources/list", "resources", "uri"),
    ):
        offered = [f"a:{i}" if kind is Kind.RESOURCE else f"t{i}" for i in range(count)]
        house.offer(EU, "one", kind, *offered)
        pages = await house.pages(method, field)
        assert [len(page) for page in pages] == ([3] * (count // 3) + [count % 3] * (count % 3 > 0) or [0])
        assert len(set(names(pages, key))) == count


async def test_a_cursor_of_another_list_or_address_is_refused(house: House) -> None:
    house.offer(EU, "wiki", Kind.TOOL, "1", "2", "3", "4")
    cursor = (await house.ask("tools/list"))["nextCursor"]
    for method, at in (("prompts/list", "*"), ("tools/list", "wiki")):
        with pytest.raises(Invalid, match=r"params\.cursor"):
            await house.ask(method, {"cursor": cursor}, at=at)


async def test_a_uri_that_two_servers_list_is_shown_once_and_read_where_it_is_shown(house: House) -> None:
    house.offer(US, "alpha", Kind.RESOURCE, "x:shared", "x:1")
    house.offer(EU, "beta", Kind.RESOURCE, "x:shared", "x:2", "w:0")
    listed = [r for page in await house.pages("resources/list", "resources") for r in page]
    assert [r["uri"] for r in listed] == ["w:0", "x:1", "x:2", "x:shared"]
    assert listed[3]["description"] == "x:shared of alpha"
    for uri, at in (("x:shared", "alpha--us-1"), ("x:2", "beta--eu-1")):
        assert (await house.ask("resources/read", {"uri": uri}))["at"] == at


async def test_a_uri_that_nobody_lists_goes_to_its_template_or_its_kin(house: House) -> None:
    house.offer(EU, "notes", Kind.TEMPLATE, "note://{box}/{id}")
    house.offer(US, "archive", Kind.TEMPLATE, "note://archive/{id}", "file:///{+path}")
    house.offer(US, "web", Kind.RESOURCE, "https://a.example/x", "https://b.example/x")
    house.offer(EU, "web-too", Kind.RESOURCE, "https://b.example/y")
    for uri, at in (
        ("note://inbox/7", "notes--eu-1"),
        ("note://archive/7", "archive--us-1"),
        ("file:///etc/hosts", "archive--us-1"),
        ("https://a.example/elsewhere", "web--us-1"),
    ):
        assert (await house.ask("resources/read", {"uri": uri}))["at"] == at
    # Two have resources there, or none has.
    for uri in ("https://b.example/z", "mailto:a@b.example", "no uri"):
        with pytest.raises(Unknown, match="no server is known"):
            await house.ask("resources/read", {"uri": uri})


async def test_templates_are_listed_and_completed_by_their_text(house: House) -> None:
    house.offer(EU, "notes", Kind.TEMPLATE, "note://{box}/{id}")
    house.offer(US, "notes-too", Kind.PROMPT, "write")
    assert names(await house.pages("resources/templates/list", "resourceTemplates"), "uriTemplate") == [
        "note://{box}/{id}"
    ]
    argument = {"name": "box", "value": "in"}
    ref = {"type": "ref/resource", "uri": "note://{box}/{id}"}
    result = await house.ask("completion/complete", {"ref": ref, "argument": argument})
    assert (result["at"], result["params"]) == ("notes--eu-1", {"ref": ref, "argument": argument})
    ref = {"type": "ref/prompt", "name": "notes-too__write", "title": None}
    result = await house.ask("completion/complete", {"ref": ref, "argument": argument})
    assert result["at"] == "notes-too--us-1"
    assert result["params"] == {"ref": {**ref, "name": "write"}, "argument": argument}


@pytest.mark.parametrize(
    ("method", "params", "named"),
    [
        ("tools/call", {}, "params.name is null"),
        ("resources/read", {"uri": 7}, "params.uri is a number"),
        ("completion/complete", {"ref": "x"}, "params.ref is a string"),
        ("completion/complete", {"ref": {"type": "ref/prompt"}}, "params.ref.name is null"),
        ("tasks/get", {"taskId": "plain"}, "reads SERVER__ID"),
        ("tasks/get", {"taskId": None}, "params.taskId is null"),
    ],
)
async def test_what_is_malformed_is_refused_by_name(
    house: House, method: str, params: dict[str, Any], named: str
) -> None:
    with pytest.raises(Invalid, match=re.escape(named)):
        await house.ask(method, params)


async def test_a_method_that_names_no_server_does_not_exist_here(house: House) -> None:
    for method in ("vendor/x", "tasks/list"):
        with pytest.raises(Unknown) as e:
            await house.ask(method)
        assert e.value.data["method"] == method


@pytest.mark.parametrize(
    ("era", "created"),
    [
        ("2025-11-25", {"task": {"taskId": "t1", "status": "working"}, "_meta": {"x": 1}}),
        ("2026-07-28", {"resultType": "task", "taskId": "t1", "status": "working"}),
        ("2026-07-28", {"resultType": "task", "task": {"taskId": "t1"}}),
    ],
)
@pytest.mark.parametrize("at", ["*", None])
async def test_a_task_is_asked_for_where_it_runs(
    house: House, era: str, created: dict[str, Any], at: str | None
) -> None:
    house.offer(US, "wiki", Kind.TOOL, "read")
    house.servers.answers["tools/call"] = {"result": created}
    params: dict[str, Any] = {"name": "wiki__read", "task": {"ttl": 5}}
    if at is None:
        params |= {"name": "use_tool", "arguments": {"mcp_server_name": "wiki", "mcp_tool_name": "read"}}
    result = await house.ask("tools/call", params, at=at, era=era)
    assert house.servers.calls[-1][1].params["task"] == {"ttl": 5}
    task_id = (result.get("task") or result)["taskId"]
    assert task_id == "wiki__t1"
    got = await house.ask("tasks/get", {"taskId": task_id, "vendor": None}, at=at, era=era)
    assert (got["at"], got["params"]) == ("wiki--us-1", {"taskId": "t1", "vendor": None})


async def test_a_subscription_is_kept_at_each_server_that_it_concerns(house: House, heard: Heard) -> None:
    house.offer(EU, "one", Kind.RESOURCE, "a:1", "a:2")
    house.offer(US, "two", Kind.RESOURCE, "b:1")
    house.offer(US, "three", Kind.RESOURCE, "c:1")
    house.servers.refusing.add("three--us-1")
    wanted = {"resourceSubscriptions": ["a:1", "b:1", "c:1", "nowhere:1", "a:2"], "taskIds": ["two__t1"]}
    listening = asyncio.create_task(
        house.endpoints.endpoint("*").listen({"notifications": wanted}, caller_of("clerk"), heard)
    )
    await heard.until(1)
    honoured = heard.events[0]["params"]["notifications"]
    assert sorted(honoured["resourceSubscriptions"]) == ["a:1", "a:2", "b:1"]
    assert honoured["taskIds"] == ["two__t1"]
    house.servers.listening["one--eu-1"].event({"method": "notifications/resources/updated", "params": {"uri": "a:1"}})
    house.servers.listening["two--us-1"].event({"method": "notifications/tasks", "params": {"taskId": "t1"}})
    assert (await heard.until(3))[1:] == [
        {"method": "notifications/resources/updated", "params": {"uri": "a:1"}},
        {"method": "notifications/tasks", "params": {"taskId": "two__t1"}},
    ]
    house.servers.ended.set()
    assert await listening == {"result": {}}
    assert house.servers.listening == {}


async def test_a_clients_notification_goes_to_the_servers_that_it_has_called(house: House) -> None:
    for server in ("one", "two", "three"):
        house.offer(EU, server, Kind.TOOL, "t")
    await house.ask("tools/call", {"name": "one__t"})
    await house.ask("tools/call", {"name": "two__t"})
    house.servers.calls.clear()
    everything = house.endpoints.endpoint("*")
    async with asyncio.timeout(10):
        await everything.notify("notifications/roots/list_changed", {"x": 1}, caller_of("clerk"))
        await everything.notify("notifications/roots/list_changed", {}, caller_of("intern"))
    told = [(call.server, call.method, call.params) for _, call in house.servers.calls]
    assert sorted(told) == [(server, "notifications/roots/list_changed", {"x": 1}) for server in ("one", "two")]


def test_a_schema_that_mirrors_parameters_into_headers_is_found_under_the_listed_name(house: House) -> None:
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    house.offer(EU, "db", Kind.TOOL, "plain")
    tool = Record.of(Kind.TOOL, "db/query", {"name": "query", "inputSchema": schema})
    house.catalog.apply(EU, [tool], [])
    everything: Any = house.endpoints.endpoint("*")
    assert everything.header_schema("db__query", caller_of("clerk")) == schema
    assert everything.header_schema("db__plain", caller_of("clerk")) is None
    assert everything.header_schema("db__query", caller_of("intern")) is None


def test_what_is_promised_follows_what_is_there_and_who_asks(house: House) -> None:
    def promised(subject: str) -> set[str]:
        return set(house.endpoints.endpoint("*").describe(caller_of(subject))["capabilities"])

    assert promised("clerk") == {"tools", "prompts", "resources"}
    house.offer(EU, "payroll", Kind.TOOL, "t", capabilities={"logging": {}})
    assert promised("clerk") == {"tools", "prompts", "resources", "logging"}
    assert promised("intern") == {"tools", "prompts", "resources"}
