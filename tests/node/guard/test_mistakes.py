"""The mistakes of other gateways, each shown to be impossible here.

One node holds a server whose tools a policy opens in part; a caller looks and calls by every road.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.catalog import Catalog, Server
from node.endpoints.addresses import MeshEndpoints
from node.endpoints.meta import MetaEndpoint, MetaSettings
from node.gateway import Gateway
from node.guard.governed import Governed, Held, PolicyRule, Ungoverned
from node.guard.mesh import MeshGuard
from node.guard.reach import Reaches
from node.indexing import Indexing
from node.ports import EVERYTHING, Action, Caller, Lease, Resource
from proto.calls import Answer, Call, Exchange, Notification
from proto.errors import Exhausted, Invalid, MeshError, ScopeRequired, Unknown
from proto.names import NodeId
from proto.records import Kind, Principal, Record
from router.router import Router

EU, US = (NodeId("mesh.test", region, f"{region}-1") for region in ("eu", "us"))
ANN = Caller(Principal("ann", "mesh.test", groups=("clerks",), kind="key"), session_key="s1")
POLICY = """
permit(principal, action, resource in Server::"files");
forbid(principal, action, resource == Tool::"files/drop_all");
forbid(principal, action, resource == Prompt::"files/drop_prompt");
forbid(principal, action, resource == Resource::"files/files://drop");
forbid(principal, action, resource == Template::"files/files://drop/{x}");
forbid(principal, action == Action::"call", resource == Tool::"files/write")
  when { context.arguments.path like "/etc*" };
"""


@dataclass
class Echo:
    ran: list[Call] = field(default_factory=list)

    async def call(self, call: Call, exchange: Exchange) -> Answer:
        self.ran.append(call)
        return {"result": {"content": []}}


class Quiet:
    def event(self, notification: Notification) -> None:
        return

    async def request(self, request: Notification) -> Answer:
        raise AssertionError("nothing was to be asked")


def records() -> list[Record]:
    body = {
        "name": "files",
        "health": {"state": "up", "cause": ""},
        "serverInfo": {"name": "files", "version": "1"},
        "capabilities": {"tools": {}, "prompts": {}, "resources": {"subscribe": True}},
        "scopes": {"sealed*": ["files:seal", "files:all"]},
    }
    schema = {"type": "object", "properties": {"path": {"type": "string", "x-mcp-header": "Path"}}}
    tools = [
        {"name": name, "description": f"{name} of files", "inputSchema": schema, "annotations": {"readOnlyHint": reads}}
        for name, reads in (("read", True), ("write", False), ("drop_all", False), ("sealed_read", True))
    ]
    found = [Record.of(Kind.SERVER, "files", body)]
    found += [Record.of(Kind.TOOL, f"files/{tool['name']}", tool) for tool in tools]
    found += [Record.of(Kind.PROMPT, f"files/{name}", {"name": name}) for name in ("ask_prompt", "drop_prompt")]
    uris = ("files://keep", "files://drop")
    found += [Record.of(Kind.RESOURCE, f"files/{uri}", {"uri": uri, "name": uri}) for uri in uris]
    templates = ("files://keep/{x}", "files://drop/{x}")
    found += [Record.of(Kind.TEMPLATE, f"files/{t}", {"uriTemplate": t, "name": t}) for t in templates]
    hidden = {**body, "name": "drop-server", "serverInfo": {"name": "drop-server", "version": "1"}}
    found.append(Record.of(Kind.SERVER, "drop-server", hidden))
    found.append(Record.of(Kind.TOOL, "drop-server/drop_too", {"name": "drop_too", "inputSchema": schema}))
    return found


class House:
    def __init__(self, policy: str = POLICY, **more: Any) -> None:
        self.governance = Ungoverned(Governed(policies=(PolicyRule("p", policy, "enforce", "eu-1"),)))
        self.guard = MeshGuard("eu-1", Reaches.of("mesh.test", open=True), governance=self.governance, **more)
        self.catalog = Catalog(EU)
        self.router = Router(None, None)
        Indexing(self.catalog, self.router)
        self.files = Echo()
        self.gateway = Gateway(self.catalog, self.guard, local=lambda _: self.files, remote=lambda _: self.files)
        settings_ = MetaSettings(aliases=("docker", "toolhive"), read_only_tool=True, believe_hints=("*",))
        self.meta = MetaEndpoint(self.catalog, self.guard, self.gateway, self.router, self.add, settings_)
        self.endpoints = MeshEndpoints(self.meta, self.catalog, self.guard, self.gateway)
        self.catalog.apply(EU, records(), [])

    async def add(self, name: str, caller: Caller) -> Server:
        raise Unknown(f"no server named {name!r}")

    async def ask(self, path: str | None, method: str, params: dict[str, Any], caller: Caller = ANN) -> Any:
        try:
            return await self.endpoints.endpoint(path).handle(method, params, caller, Quiet())
        except MeshError as e:
            return type(e), e.message, e.data

    async def tool(self, name: str, arguments: dict[str, Any], caller: Caller = ANN) -> Any:
        return await self.ask(None, "tools/call", {"name": name, "arguments": arguments}, caller)

    def record(self) -> Any:
        return self.gateway.recent[-1]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    await house.router.start()
    yield house
    await house.router.stop()


Road = Callable[[House, str], Awaitable[Any]]
ROADS: dict[str, Road] = {
    "use_tool": lambda h, n: h.tool("use_tool", {"mcp_server_name": "files", "mcp_tool_name": n, "params": {}}),
    "use_tool, as text": lambda h, n: h.tool(
        "use_tool", {"mcp_server_name": "files", "mcp_tool_name": n, "params": "{}"}
    ),
    "use_tool, qualified": lambda h, n: h.tool(
        "use_tool", {"mcp_server_name": "files--eu-1", "mcp_tool_name": n, "params": {}}
    ),
    "the read-only twin": lambda h, n: h.tool(
        "use_read_only_tool", {"mcp_server_name": "files", "mcp_tool_name": n, "params": {}}
    ),
    "mcp-exec": lambda h, n: h.tool("mcp-exec", {"name": f"files__{n}", "arguments": {}}),
    "mcp-exec, bare": lambda h, n: h.tool("mcp-exec", {"name": n, "arguments": {}}),
    "call_tool": lambda h, n: h.tool("call_tool", {"tool_name": f"files__{n}", "parameters": {}}),
    "/mcp/NAME": lambda h, n: h.ask("files", "tools/call", {"name": n, "arguments": {}}),
    "/mcp-all": lambda h, n: h.ask(EVERYTHING, "tools/call", {"name": f"files__{n}", "arguments": {}}),
    "a prompt": lambda h, n: h.ask("files", "prompts/get", {"name": n}),
    "a prompt at /mcp-all": lambda h, n: h.ask(EVERYTHING, "prompts/get", {"name": f"files__{n}"}),
    "a completion": lambda h, n: h.ask(
        "files", "completion/complete", {"ref": {"type": "ref/prompt", "name": n}, "argument": {}}
    ),
}


@pytest.mark.parametrize("road", list(ROADS))
@pytest.mark.parametrize("hidden", ["drop_all", "drop_prompt"])
async def test_a_denied_tool_runs_by_no_road_and_is_answered_like_one_that_does_not_exist(
    house: House, road: str, hidden: str
) -> None:
    """Policy was applied to `use_tool` and not to the inner tool; lists hid what could be called all the same."""
    missing = hidden.replace("drop", "loud")
    told, unknown = await ROADS[road](house, hidden), await ROADS[road](house, missing)
    assert str(told).replace(hidden, missing) == str(unknown)
    assert house.files.ran == []


async def test_what_may_be_called_can_be_called_by_every_road(house: House) -> None:
    roads = {name: road for name, road in ROADS.items() if "prompt" not in name and name != "a completion"}
    for n, road in enumerate(roads.values(), 1):
        await road(house, "read")
        assert len(house.files.ran) == n


@pytest.mark.parametrize("uri", ["files://drop", "files://drop/1", "files://drop/{x}"])
async def test_a_denied_resource_is_neither_read_nor_subscribed_to(house: House, uri: str) -> None:
    for path in ("files", EVERYTHING):
        kind, message, _ = await house.ask(path, "resources/read", {"uri": uri})
        assert kind is Unknown
        assert message.count(uri) == 1
    heard: list[Call] = []

    async def listen(call: Call, exchange: Exchange) -> Answer:
        heard.append(call)
        return {"result": {}}

    house.files.call = listen  # type: ignore[method-assign]
    asked = {"notifications": {"resourceSubscriptions": [uri, "files://keep"]}}
    await house.gateway.listen("files", asked, ANN, Quiet())
    assert heard[0].params["notifications"]["resourceSubscriptions"] == ["files://keep"]
    await house.gateway.answer(replace(heard[0], params=asked, via=("us-1",), principal=ANN.principal), Quiet(), US)
    assert heard[1].params["notifications"]["resourceSubscriptions"] == ["files://keep"]


@pytest.mark.parametrize(
    "params",
    [{"name": "drop_all"}, {"name": "never_listed"}, {"name": "drop_all", "arguments": {"path": "/srv"}}],
)
async def test_an_owner_decides_again_and_runs_nothing_that_it_does_not_list(
    house: House, params: dict[str, Any]
) -> None:
    forged = Call("c", "files", "tools/call", params, ANN.principal, via=("us-1",))
    with pytest.raises(Unknown):
        await house.gateway.answer(forged, Quiet(), US)
    assert house.files.ran == []


async def test_denied_tools_leak_through_no_list_search_suggestion_summary_or_schema(house: House) -> None:
    """Denied tools came through an aggregated list, a search result or a cache."""
    shown: list[Any] = []
    for path in ("files", EVERYTHING):
        endpoint = house.endpoints.endpoint(path)
        for method in ("tools/list", "prompts/list", "resources/list", "resources/templates/list"):
            shown.append(await endpoint.handle(method, {}, ANN, Quiet()))
    shown.append(house.endpoints.endpoint("files").describe(ANN))
    for kind in ("tool", "prompt", "resource"):
        asked = {"task_description": "drop all of the files", "kind": kind, "limit": 20}
        shown.append(await house.tool("search_mcp_server", asked))
    shown.append(await house.tool("find_tool", {"tool_description": "drop all of the files"}))
    shown.append(await house.tool("mcp-find", {"query": "drop all of the files"}))
    shown.append(await house.tool("add_mcp_server", {"mcp_server_name": "files"}))
    shown.append(await house.tool("mcp-add", {"name": "files"}))
    shown.append(await house.ask(None, "resources/read", {"uri": "toolmesh://servers"}))
    shown.append(await house.tool("use_tool", {"mcp_server_name": "files", "mcp_tool_name": "drp_all"}))
    shown.append(await house.tool("use_tool", {"mcp_server_name": "drop-serve", "mcp_tool_name": "x"}))
    text = str(shown)
    assert "read" in text
    assert "sealed_read" in text
    assert "drop" not in text.replace("drop all of the files", "").replace("drop-serve'", "")
    server: Any = house.endpoints.endpoint("files")
    everything: Any = house.endpoints.endpoint(EVERYTHING)
    assert server.header_schema("read", ANN)
    assert server.header_schema("drop_all", ANN) is None
    assert everything.header_schema("files__drop_all", ANN) is None


async def test_a_change_of_policy_takes_from_every_list_and_cache_at_once(house: House) -> None:
    async def lists() -> str:
        page = await house.ask("files", "tools/list", {})
        whole = await house.ask(EVERYTHING, "tools/list", {})
        found = await house.tool("search_mcp_server", {"task_description": "read of files"})
        return str((page, whole, found, await house.ask(None, "resources/read", {"uri": "toolmesh://servers"})))

    assert "'write'" in await lists()
    before = house.governance.state
    house.governance.lay_down(replace(before, version=2, held={"files": (Held("files", "write"),)}))
    assert "write" not in await lists()
    assert "sealed_read" in await lists()
    house.governance.lay_down(replace(before, version=3, held={"files": (Held("files"),)}))
    assert "files" not in (await lists()).replace("of files", "").replace("'files'", "", 2)
    house.governance.lay_down(replace(before, version=4))
    assert "'write'" in await lists()


async def test_a_change_is_told_only_to_those_who_may_see_the_server(house: House) -> None:
    told: list[tuple[frozenset[str], bool]] = []

    def listener(names: Any, kinds: Any, seen_by: Any = None) -> None:
        told.append((frozenset(names), seen_by(ANN.principal)))

    house.endpoints.subscribe_changes(listener)
    house.catalog.apply(EU, [Record.of(Kind.TOOL, "drop-server/more", {"name": "more"})], [])
    house.catalog.apply(EU, [Record.of(Kind.TOOL, "files/more", {"name": "more"})], [])
    assert told == [
        (frozenset({"drop-server", "drop-server--eu-1"}), False),
        (frozenset({"files", "files--eu-1"}), True),
    ]


@settings(max_examples=30, deadline=None)
@given(first=st.sampled_from(["/srv/a", "/etc/a", "/x"]), then=st.sampled_from(["/srv/b", "/etc/b", "/y"]))
async def test_policy_is_decided_on_the_arguments_that_are_sent(first: str, then: str) -> None:
    """Policy was decided before a mutation."""

    async def mutate(call: Call, resource: Resource) -> dict[str, Any]:
        return {**call.params["arguments"], "path": then}

    house = House(mutators=[mutate])
    told = await house.ask("files", "tools/call", {"name": "write", "arguments": {"path": first}})
    if then.startswith("/etc"):
        assert told[0] is Invalid
        assert house.files.ran == []
    else:
        assert [call.params["arguments"] for call in house.files.ran] == [{"path": then}]


async def test_a_guard_that_cannot_decide_refuses(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guardrails failed open."""
    import cedarpy

    def broken(*_: Any) -> Any:
        raise RuntimeError("cedar is gone")

    call = {"name": "write", "arguments": {"path": "/"}}
    monkeypatch.setattr(cedarpy, "is_authorized", broken)
    assert (await house.ask("files", "tools/call", call))[0] is Unknown
    unsaid = cedarpy.AuthzResult({"decision": "NoDecision", "diagnostics": {"errors": ["no request"]}})
    monkeypatch.setattr(cedarpy, "is_authorized", lambda *_: unsaid)
    assert (await house.ask("files", "tools/call", call))[0] is Unknown
    assert house.files.ran == []
    monkeypatch.undo()
    assert "result" in await house.ask("files", "tools/call", call)


async def test_limits_are_the_principals_whatever_its_sessions() -> None:
    """Limits were keyed by session."""

    class Once:
        weighs = False

        def __init__(self) -> None:
            self.seen: set[tuple[object, str]] = set()

        def enter(self, principal: Principal, server: str, size_bytes: int, **_: bool) -> Lease | None:
            if (principal.identity, server) in self.seen:
                raise Exhausted("once is enough", retry_after_s=1)
            self.seen.add((principal.identity, server))
            return None

    house = House(limits=Once())
    call = {"name": "read", "arguments": {}}
    assert "result" in await house.ask("files", "tools/call", call)
    for session in ("s2", "s3", ""):
        other = replace(ANN, session_key=session, principal=replace(ANN.principal, credential=f"key/{session}"))
        assert (await house.ask("files", "tools/call", call, other))[0] is Exhausted
    assert "result" in await house.ask("files", "tools/call", call, Caller(Principal("bob", "mesh.test")))


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"name": "drop_too"}),
        ("prompts/get", {"name": "x"}),
        ("resources/read", {"uri": "x://y"}),
        ("completion/complete", {"ref": {"type": "ref/resource", "uri": "x://y"}}),
        ("tasks/get", {"taskId": "1"}),
        ("tasks/cancel", {"taskId": "1"}),
        ("vendor/anything", {}),
    ],
)
async def test_no_method_reaches_a_server_that_the_caller_may_not_see(
    house: House, method: str, params: dict[str, Any]
) -> None:
    """One road was checked and another forgotten."""
    for name in ("drop-server", "drop-server--eu-1"):
        hidden = await house.ask(name, method, params)
        assert str(hidden).replace(name, "nothing") == str(await house.ask("nothing", method, params))
    with pytest.raises(Unknown):
        await house.gateway.answer(Call("c", "drop-server", method, params, ANN.principal, via=("us-1",)), Quiet(), US)
    for told in (
        house.gateway.listen("drop-server", {}, ANN, Quiet()),
        house.endpoints.endpoint("drop-server").notify("notifications/roots/list_changed", {}, ANN),
    ):
        with pytest.raises(Unknown):
            await told
    assert house.files.ran == []


async def test_a_vendors_method_takes_the_right_to_call_the_server_and_a_task_that_to_use_any_of_it() -> None:
    house = House('permit(principal, action, resource == Tool::"files/read");')
    assert "result" in await house.ask("files", "tools/call", {"name": "read"})
    assert "result" in await house.ask("files", "tasks/get", {"taskId": "1"})
    assert (await house.ask("files", "vendor/anything", {}))[0] is Unknown
    shown = await house.ask("files", "tools/list", {})
    assert [tool["name"] for tool in shown["result"]["tools"]] == ["read"]


async def test_a_missing_scope_is_told_by_every_road_and_kept_from_no_list(house: House) -> None:
    for road in ("use_tool", "/mcp/NAME", "/mcp-all", "mcp-exec"):
        try:
            told = await ROADS[road](house, "sealed_read")
        except ScopeRequired as e:
            told = (type(e), e.message, e.data)
        assert told[0] is ScopeRequired
        assert told[2]["scopes"] == ["files:seal", "files:all"]
    assert house.record().rule == "scopes"
    assert "policy" not in str(told)


async def test_the_record_of_a_refusal_keeps_the_truth(house: House) -> None:
    await house.ask("files", "tools/call", {"name": "write", "arguments": {"path": "/etc/x"}})
    record = house.record()
    assert (record.outcome, record.rule, record.tool, record.subject) == ("invalid", "policy p #6", "write", "ann")


async def test_a_service_is_called_where_it_is_permitted_under_the_definition_shown_there() -> None:
    """Replicas with other labels and tenants: neither their tools nor their definitions are seen."""
    house = House('permit(principal, action, resource) when { resource.region == "us" };')
    for owner, words in ((EU, "secret words"), (US, "common words")):
        body: dict[str, Any] = {
            "name": "units",
            "service": "measures",
            "health": {"state": "up"},
            "capabilities": {"tools": {}},
        }
        body |= {"serverInfo": {"name": "units", "version": "1"}, "stateless": True}
        tools = [{"name": "convert", "description": words, "inputSchema": {"type": "object"}}]
        tools += [{"name": "only_eu", "inputSchema": {}}] if owner is EU else []
        made = [Record.of(Kind.TOOL, f"units/{tool['name']}", tool) for tool in tools]
        house.catalog.apply(owner, [Record.of(Kind.SERVER, "units", body), *made], [])
    shown = await house.ask("measures", "tools/list", {})
    assert [(tool["name"], tool["description"]) for tool in shown["result"]["tools"]] == [("convert", "common words")]
    await house.ask("measures", "tools/call", {"name": "convert"})
    assert house.record().owner == "us-1"
    visibility = house.guard.visible(ANN.principal, Action.CALL)
    assert [s.owner.id.name for s in house.catalog.route("measures", visibility).servers] == ["us-1"]


@pytest.mark.parametrize("held", [Held("files"), None])
async def test_a_listen_ends_when_what_it_hears_of_is_not_for_its_caller_any_more(
    house: House, held: Held | None
) -> None:
    begun: asyncio.Queue[Call] = asyncio.Queue()

    async def listen(call: Call, exchange: Exchange) -> Answer:
        begun.put_nowait(call)
        await asyncio.Event().wait()
        return {"result": {}}

    house.files.call = listen  # type: ignore[method-assign]
    asked = {"notifications": {"resourceSubscriptions": ["files://keep"]}}
    listening = asyncio.create_task(house.gateway.listen("files", asked, ANN, Quiet()))
    await asyncio.wait_for(begun.get(), 10)
    state = house.governance.state
    house.governance.lay_down(replace(state, version=2))
    house.gateway.recheck()
    await asyncio.sleep(0)
    assert not listening.done()
    forbid = PolicyRule("f", 'forbid(principal, action, resource == Resource::"files/files://keep");', "enforce", "a")
    change = {"held": {"files": (held,)}} if held else {"policies": (*state.policies, forbid)}
    house.governance.lay_down(replace(state, version=3, **change))
    house.gateway.recheck()
    with pytest.raises(Unknown):
        await asyncio.wait_for(listening, 10)
