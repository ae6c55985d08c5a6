"""What stands at `/mcp` and `/mcp/{name}`, without a transport: guarded, filtered, unwrapped once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import replace
from typing import Any

import pytest

from federation.events import Liveness
from node.catalog import Catalog, Server
from node.endpoints.addresses import MeshEndpoints
from node.endpoints.meta import MetaEndpoint, failure
from node.endpoints.server import ServerEndpoint
from node.gateway import Gateway
from node.guard.keys import ApiKey
from node.indexing import Indexing
from node.ports import Action, Caller, Guard
from node.search_status import search_hit
from proto.calls import Answer, Call, Exchange, Notification
from proto.errors import Fault, Invalid, ScopeRequired, Unavailable, Unknown
from proto.names import NodeId
from proto.records import Kind, Principal, Record, RecordKey
from router.findings import Place, Placed
from router.ports import Hit, ToolEntry, ToolKey
from router.router import Router
from tests.node.guards import KeyGuard

Nodes = tuple[NodeId, NodeId, NodeId]
MakeServer = Callable[..., list[Record]]
MakeTool = Callable[..., Record]

CLERK = Caller(Principal("clerk", "mesh.test", kind="key"))
INTERN = Caller(Principal("intern", "mesh.test", kind="key"))
KEYS = [ApiKey("clerk", b"1" * 32), ApiKey("intern", b"2" * 32, servers=("wiki",))]


class Quiet:
    def event(self, notification: Notification) -> None:
        return

    async def request(self, request: Notification) -> Answer:
        raise AssertionError("nothing was to be asked")


class Echo:
    """Every server: it answers with the params that reached it."""

    async def call(self, call: Call, exchange: Exchange) -> Answer:
        return {"result": {"content": [], "params": call.params}}


class House:
    def __init__(self, catalog: Catalog, guard: Guard) -> None:
        self.guard = guard
        self.router = Router(None, None)
        Indexing(catalog, self.router)
        self.gateway = Gateway(catalog, guard, local=lambda _: Echo(), remote=lambda _: Echo())
        self.added: list[str] = []
        self.meta = MetaEndpoint(catalog, guard, self.gateway, self.router, self.add)
        self.endpoints = MeshEndpoints(self.meta, catalog, guard, self.gateway)

    async def add(self, name: str, caller: Caller) -> Server:
        self.added.append(name)
        raise Unknown(f"no server named {name!r}")

    async def use(self, name: str, arguments: dict[str, Any], caller: Caller = CLERK, **outer: Any) -> Any:
        params = {"name": name, "arguments": arguments, **outer}
        return (await self.meta.handle("tools/call", params, caller, Quiet()))["result"]


@pytest.fixture
async def house(catalog: Catalog, nodes: Nodes, make_server: MakeServer) -> AsyncIterator[House]:
    house = House(catalog, KeyGuard(KEYS, "mesh.test"))
    catalog.apply(nodes[0], make_server("wiki", "read_page"), [])
    catalog.apply(nodes[1], make_server("payroll", "read_salary"), [])
    await house.router.start()
    yield house
    await house.router.stop()


async def test_search_shows_a_caller_only_what_it_may_see(house: House) -> None:
    for caller, expected in ((CLERK, {"read_page", "read_salary"}), (INTERN, {"read_page"})):
        found = await house.use("search_mcp_server", {"task_description": "read"}, caller)
        assert {t["mcp_tool_name"] for t in found["structuredContent"]["tools"]} == expected


async def test_use_add_and_pass_through_hide_alike_what_is_not_visible(house: House, catalog: Catalog) -> None:
    def at(name: str) -> dict[str, Any]:
        return {"mcp_server_name": name, "mcp_tool_name": "read_salary"}

    hidden = await house.use("use_tool", at("payroll"), INTERN)
    missing = await house.use("use_tool", at("nothere"), INTERN)
    assert str(hidden).replace("payroll", "nothere") == str(missing)
    assert (await house.use("use_tool", at("payroll"), CLERK))["params"]["name"] == "read_salary"

    hidden = await house.use("add_mcp_server", {"mcp_server_name": "payroll"}, INTERN)
    missing = await house.use("add_mcp_server", {"mcp_server_name": "nothere"}, INTERN)
    assert str(hidden).replace("payroll", "nothere") == str(missing)

    with pytest.raises(Unknown):
        house.endpoints.endpoint("payroll").describe(INTERN)
    with pytest.raises(Unknown):
        await house.endpoints.endpoint("payroll").handle("tools/list", {}, INTERN, Quiet())


async def test_the_wrapper_is_taken_off_once_and_its_meta_goes_with_the_inner_call(house: House) -> None:
    result = await house.use(
        "use_tool",
        {"mcp_server_name": "wiki", "mcp_tool_name": "read_page", "params": '{"page": "Home"}'},
        _meta={"progressToken": 7},
    )
    assert result["params"] == {"name": "read_page", "arguments": {"page": "Home"}, "_meta": {"progressToken": 7}}


async def test_a_further_round_a_task_and_a_vendors_members_belong_to_the_inner_call(house: House) -> None:
    outer = {
        "inputResponses": {"a": {"action": "accept"}},
        "requestState": "sealed",
        "task": {"ttl": 1},
        "vendor/x": None,
        "_meta": {"progressToken": "p", "vendor/y": 1},
    }
    result = await house.use("use_tool", {"mcp_server_name": "wiki", "mcp_tool_name": "read_page"}, **outer)
    assert result["params"] == {"name": "read_page", "arguments": {}, **outer}


async def test_what_a_tool_asks_of_its_caller_comes_back_unchanged(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = {"resultType": "input_required", "inputRequests": {"a": {"method": "roots/list"}}, "requestState": "s"}

    async def call(self: Echo, call: Call, exchange: Exchange) -> Answer:
        return {"result": asking}

    monkeypatch.setattr(Echo, "call", call)
    assert await house.use("use_tool", {"mcp_server_name": "wiki", "mcp_tool_name": "read_page"}) == asking


@pytest.mark.parametrize(
    ("server", "tool", "meant"),
    [
        ("wiki", "read_pgae", "'read_page'"),
        ("wiki", "Read-Page", "'read_page'"),
        ("wikki", "read_page", "'wiki'"),
        ("payrol", "read_salary", "'payroll'"),
    ],
)
async def test_a_misspelt_name_is_met_with_those_near_it(house: House, server: str, tool: str, meant: str) -> None:
    refused = await house.use("use_tool", {"mcp_server_name": server, "mcp_tool_name": tool})
    assert refused["isError"] is True
    assert refused["content"][0]["text"].endswith(f"; did you mean {meant}?")
    # What the caller may not see is not suggested.
    hidden = await house.use("use_tool", {"mcp_server_name": "payrol", "mcp_tool_name": "read_salary"}, INTERN)
    assert "did you mean" not in hidden["content"][0]["text"]


async def test_refusals_are_results_but_a_missing_scope_stays_a_protocol_error(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    class Scoped(KeyGuard):
        async def admit(self, call: Call, *resources: Any) -> Any:
            raise ScopeRequired("needs a scope", scopes=["pages:read"])

    house = House(catalog, Scoped(KEYS, "mesh.test"))
    catalog.apply(nodes[0], make_server("wiki", "read_page"), [])
    refused = await house.use("use_tool", {"mcp_server_name": "wiki", "mcp_tool_name": "gone"})
    assert refused["isError"] is True
    assert refused["structuredContent"]["error"]["kind"] == "unknown"
    with pytest.raises(ScopeRequired):
        await house.use("use_tool", {"mcp_server_name": "wiki", "mcp_tool_name": "read_page"})


async def test_the_meta_endpoint_knows_three_tools_and_no_other_method(house: House) -> None:
    listed = await house.meta.handle("tools/list", {}, CLERK, Quiet())
    assert [t["name"] for t in listed["result"]["tools"]] == ["search_mcp_server", "add_mcp_server", "use_tool"]
    with pytest.raises(Unknown) as e:
        await house.meta.handle("prompts/get", {}, CLERK, Quiet())
    assert e.value.data["method"] == "prompts/get"
    with pytest.raises(Invalid, match="no tool named 'rm'"):
        await house.meta.handle("tools/call", {"name": "rm"}, CLERK, Quiet())
    with pytest.raises(Invalid, match=r"params\.arguments"):
        await house.meta.handle("tools/call", {"name": "use_tool", "arguments": []}, CLERK, Quiet())


async def test_lists_come_from_what_is_held_and_only_for_what_the_server_has(house: House) -> None:
    wiki = house.endpoints.endpoint("wiki")
    listed = await wiki.handle("tools/list", {}, CLERK, Quiet())
    assert [t["name"] for t in listed["result"]["tools"]] == ["read_page"]
    with pytest.raises(Unknown) as e:
        await wiki.handle("prompts/list", {}, CLERK, Quiet())
    assert e.value.data["method"] == "prompts/list"
    with pytest.raises(Invalid, match="cursor"):
        await wiki.handle("tools/list", {"cursor": "x"}, CLERK, Quiet())


async def test_whoever_listens_hears_a_change_once_with_every_name_of_the_server(
    house: House, catalog: Catalog, nodes: Nodes, make_server: MakeServer, make_tool: MakeTool
) -> None:
    heard: list[tuple[list[str], frozenset[str]]] = []

    def listener(names: Collection[str], kinds: frozenset[str], seen_by: Any = None) -> None:
        heard.append((sorted(names), kinds))

    house.endpoints.subscribe_changes(listener)
    catalog.apply(nodes[1], make_server("units", "convert", service="measures"), [])
    assert heard == [(["measures", "units", "units--us-1"], frozenset({"tools"}))]
    heard.clear()
    catalog.apply(nodes[1], [], [RecordKey(Kind.TOOL, "units/never-there")])
    assert heard == []
    house.endpoints.unsubscribe_changes(listener)
    catalog.apply(nodes[1], [make_tool("units", "more")], [])
    assert heard == []


def test_a_schema_that_mirrors_parameters_into_headers_is_found_for_those_who_may_see_it(
    house: House, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    tool = Record.of(Kind.TOOL, "db/query", {"name": "query", "inputSchema": schema})
    catalog.apply(nodes[1], [*make_server("db", "plain"), tool], [])
    endpoint = house.endpoints.endpoint("db")
    assert isinstance(endpoint, ServerEndpoint)
    assert endpoint.header_schema("query", CLERK) == schema
    assert endpoint.header_schema("plain", CLERK) is None
    assert endpoint.header_schema("query", INTERN) is None


@pytest.mark.parametrize("name", ["", "Wiki", "a__b", "../x"])
def test_a_path_that_is_no_name_is_invalid(house: House, name: str) -> None:
    with pytest.raises(Invalid):
        house.endpoints.endpoint(name)


def test_a_change_is_told_to_those_alone_who_may_see_the_server_that_changed(
    house: House, catalog: Catalog, nodes: Nodes, make_tool: MakeTool
) -> None:
    heard: list[tuple[list[str], bool, bool]] = []

    def listener(names: Collection[str], kinds: frozenset[str], seen_by: Any = None) -> None:
        heard.append((sorted(names), seen_by(CLERK.principal), seen_by(INTERN.principal)))

    house.endpoints.subscribe_changes(listener)
    catalog.apply(nodes[1], [make_tool("payroll", "more")], [])
    catalog.apply(nodes[0], [make_tool("wiki", "more")], [])
    assert heard == [(["payroll", "payroll--us-1"], True, False), (["wiki", "wiki--eu-1"], True, True)]


async def test_a_server_that_has_not_come_up_yet_is_unavailable_and_not_one_without_tools(
    house: House, catalog: Catalog, nodes: Nodes
) -> None:
    body = {"name": "git", "health": {"state": "starting", "cause": ""}}
    catalog.apply(nodes[0], [Record.of(Kind.SERVER, "git", body)], [])
    git = house.endpoints.endpoint("git")
    with pytest.raises(Unavailable, match="starting"):
        git.describe(CLERK)
    with pytest.raises(Unavailable, match="starting"):
        await git.handle("tools/list", {}, CLERK, Quiet())
    added = await house.use("add_mcp_server", {"mcp_server_name": "git"})
    assert added["structuredContent"]["error"]["kind"] == "unavailable"


def test_a_refusal_says_its_own_kind_and_hides_what_a_fault_was_about() -> None:
    told = failure(Unavailable("gone", kind="mine", message="other", server="git"))["structuredContent"]["error"]
    assert told == {"kind": "unavailable", "message": "gone", "server": "git"}
    fault = Fault("KeyError at /secret/path", cause="/secret/path")
    assert "secret" not in str(failure(fault))
    assert failure(fault)["structuredContent"]["error"]["fault_id"] == fault.data["fault_id"]


def test_a_hit_is_shown_at_the_nearest_owner_that_is_up_and_stays(
    house: House, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    near = NodeId(nodes[0].trust_domain, nodes[0].region, "eu-2")
    owners = (nodes[2], nodes[1], near, nodes[0])
    for owner in owners:
        catalog.apply(owner, make_server("units", "convert", service="measures", stateless=True), [])
    entries = [ToolEntry(ToolKey(o.name, "units", "convert"), {"name": "convert"}, region=o.region) for o in owners]
    hit = Hit(entries[0], 0.9, tuple(e.key for e in entries[1:]))
    visibility = house.guard.visible(CLERK.principal, Action.SEARCH)

    def shown() -> tuple[str, str]:
        place = house.meta.searching.place(hit, visibility)
        assert place.replicas == 4
        return place.node, place.health

    assert shown() == ("eu-1", "up")
    told = search_hit(Placed(hit, house.meta.searching.place(hit, visibility)))
    assert told["replicas"] == ["ap-1", "eu-1", "eu-2", "us-1"]
    long: dict[str, Any] = {"name": "convert", "title": "t" * 9_000, "description": "d" * 9_000}
    long["inputSchema"] = {"properties": {"p" * 9_000: {}}}
    told = search_hit(Placed(replace(hit, entry=replace(entries[0], definition=long)), Place("units")))
    assert [len(told[field]) for field in ("title", "description", "signature")] == [4_000] * 3
    catalog.apply(nodes[0], make_server("units", "convert", service="measures", stateless=True, state="down"), [])
    assert shown() == ("eu-2", "up")
    catalog.set_liveness(near, Liveness.DRAINING)
    assert shown() == ("ap-1", "up")
    for gone in (nodes[1], nodes[2], near):
        catalog.set_liveness(gone, Liveness.DOWN)
    assert shown() == ("eu-1", "down")
