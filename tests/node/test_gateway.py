"""The straight path: routing, failing over, keeping sessions with their owner, and what is told to whom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from federation.events import Liveness
from node import gateway
from node.catalog import Catalog
from node.gateway import Gateway
from node.guard.keys import ApiKey, KeyGuard
from node.guard.open import OpenGuard
from node.ports import Caller, Resource
from proto.calls import Answer, Call, Exchange, Notification
from proto.errors import Conflict, Fault, Forbidden, OutcomeUnknown, Unavailable, Unknown
from proto.names import NodeId
from proto.records import Kind, Principal, Record, RecordKey

Nodes = tuple[NodeId, NodeId, NodeId]
MakeServer = Callable[..., list[Record]]
MakeTool = Callable[..., Record]


class NoExchange:
    def event(self, notification: Notification) -> None:
        raise AssertionError("nothing was to be told")

    async def request(self, request: Notification) -> Answer:
        raise AssertionError("nothing was to be asked")


@dataclass
class Runner:
    """A target that records its calls and answers, or raises what it was given."""

    where: str
    raises: Exception | None = None
    calls: list[Call] = field(default_factory=list)

    async def call(self, call: Call, exchange: Exchange) -> Answer:
        self.calls.append(call)
        if self.raises is not None:
            raise self.raises
        return {"result": {"content": [], "ran": self.where}}


class World:
    """A gateway at eu-1 whose servers and peers are runners."""

    def __init__(self, catalog: Catalog, guard: Any = None) -> None:
        self.runners: dict[str, Runner] = {}
        self.gateway = Gateway(
            catalog,
            guard or OpenGuard(),
            local=lambda _: self.at("eu-1"),
            remote=self.at,
            draw=lambda n: 0,
        )

    def at(self, node: str) -> Runner:
        return self.runners.setdefault(node, Runner(node))

    async def use(self, server: str, tool: str = "convert", **more: Any) -> str:
        answer = await self.gateway.call(server, "tools/call", {"name": tool}, Caller(**more), NoExchange())
        return str(answer["result"]["ran"])


@pytest.fixture
def world(catalog: Catalog) -> World:
    return World(catalog)


def replicate(catalog: Catalog, owners: tuple[NodeId, ...], make_server: MakeServer, **more: Any) -> None:
    for owner in owners:
        catalog.apply(owner, make_server("units", "convert", service="units", **more), [])


async def test_a_call_runs_where_its_server_lives(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[2], make_server("weather", "forecast"), [])
    assert await world.use("weather", "forecast") == "ap-1"
    (call,) = world.at("ap-1").calls
    assert (call.server, call.method, call.params, call.via) == (
        "weather",
        "tools/call",
        {"name": "forecast"},
        ("eu-1",),
    )


async def test_this_node_is_preferred_to_any_other(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    replicate(catalog, nodes, make_server)
    assert await world.use("units") == "eu-1"


async def test_an_unknown_tool_is_refused_before_anything_is_sent(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[1], make_server("units", "convert"), [])
    with pytest.raises(Unknown, match="no tool 'rm'"):
        await world.use("units", "rm")
    assert world.runners == {}


async def test_an_unavailable_replica_is_replaced_by_the_next(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    replicate(catalog, nodes, make_server, stateless=True)
    world.at("eu-1").raises = Unavailable("stopping")
    assert await world.use("units") in ("us-1", "ap-1")
    assert world.gateway.recent[-1].attempts == 2
    ids = [c.call_id for r in world.runners.values() for c in r.calls]
    assert len(set(ids)) == 2


async def test_a_call_that_may_have_run_is_never_run_again(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    replicate(catalog, nodes, make_server, stateless=True)
    world.at("eu-1").raises = OutcomeUnknown("the stream broke", call_id="x")
    with pytest.raises(OutcomeUnknown):
        await world.use("units")
    assert sum(len(r.calls) for r in world.runners.values()) == 1


async def test_tools_of_a_suspect_owner_are_not_chosen_while_a_replica_lives(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    _, us, ap = nodes
    replicate(catalog, (us, ap), make_server, stateless=True)
    for state in (Liveness.SUSPECT, Liveness.UNREACHABLE, Liveness.DOWN):
        catalog.set_liveness(ap, state)
        assert {await world.use("units") for _ in range(8)} == {"us-1"}


async def test_when_nobody_lives_the_answer_names_each_owner_and_its_state(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    _, us, ap = nodes
    replicate(catalog, (us,), make_server)
    replicate(catalog, (ap,), make_server, state="down")
    catalog.set_liveness(us, Liveness.DOWN)
    with pytest.raises(Unavailable, match=r"units on ap-1 is down; us-1 is down"):
        await world.use("units")


async def test_a_session_stays_with_its_owner_and_is_told_once_when_its_state_is_lost(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    _, us, ap = nodes
    replicate(catalog, (us, ap), make_server)
    first = await world.use("units", session_key="s1")
    assert {await world.use("units", session_key="s1") for _ in range(5)} == {first}
    lost = us if first == "us-1" else ap
    catalog.set_liveness(lost, Liveness.SUSPECT)
    with pytest.raises(Unavailable, match="state is lost") as e:
        await world.use("units", session_key="s1")
    assert e.value.data["state_lost"] is True
    assert await world.use("units", session_key="s1") != first


async def test_a_stateful_call_is_not_moved_when_its_owner_refuses(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    replicate(catalog, nodes, make_server)
    world.at("eu-1").raises = Unavailable("stopping")
    with pytest.raises(Unavailable, match="stopping"):
        await world.use("units", session_key="s1")


async def test_a_changed_definition_is_a_conflict_at_the_owner(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer, make_tool: MakeTool
) -> None:
    eu, us, _ = nodes
    catalog.apply(eu, make_server("units", "convert"), [])
    seen = make_tool("units", "convert").digest
    call = Call("c1", "units", "tools/call", {"name": "convert"}, tool_digest=seen, via=("us-1",))
    assert (await world.gateway.answer(call, NoExchange(), us))["result"]["ran"] == "eu-1"
    catalog.apply(eu, [make_tool("units", "convert", "changed")], [])
    with pytest.raises(Conflict, match="has changed"):
        await world.gateway.answer(call, NoExchange(), us)
    catalog.apply(eu, [], [RecordKey(Kind.TOOL, "units/convert")])
    with pytest.raises(Conflict):
        await world.gateway.answer(call, NoExchange(), us)


async def test_the_owner_decides_again_under_its_own_rules(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    eu, us, _ = nodes
    catalog.apply(eu, make_server("payroll", "read"), [])
    key = ApiKey("intern", b"0" * 32, servers=("wiki",))
    world = World(catalog, KeyGuard([key], "mesh.test"))
    call = Call(
        "c1",
        "payroll",
        "tools/call",
        {"name": "read"},
        principal=Principal("intern", "mesh.test", kind="key"),
        via=("us-1",),
    )
    with pytest.raises(Unknown) as hidden:
        await world.gateway.answer(call, NoExchange(), us)
    assert world.runners == {}
    with pytest.raises(Unknown) as missing:
        await world.gateway.answer(Call("c2", "nothing", "tools/call", {"name": "read"}), NoExchange(), us)
    assert hidden.value.message.replace("payroll", "nothing") == missing.value.message


async def test_the_guard_is_asked_about_the_inner_tool_and_told_the_outcome(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    class Strict(OpenGuard):
        def __init__(self) -> None:
            self.log: list[tuple[str, ...]] = []

        async def admit(self, call: Call, resource: Any) -> Any:
            self.log.append(("admit", resource.server, resource.tool))
            if resource.tool == "drop":
                raise Forbidden("no")
            return await super().admit(call, resource)

        def settle(self, call: Call, outcome: str) -> None:
            self.log.append(("settle", outcome))

    guard = Strict()
    world = World(catalog, guard)
    catalog.apply(nodes[1], make_server("db", "read", "drop"), [])
    await world.use("db", "read")
    with pytest.raises(Unknown) as hidden:
        await world.use("db", "drop")
    with pytest.raises(Unknown) as missing:
        await world.use("db", "never")
    assert hidden.value.message.replace("drop", "never") == missing.value.message
    assert world.gateway.recent[-1].outcome == "forbidden"
    assert guard.log == [("admit", "db", "read"), ("settle", "ok"), ("admit", "db", "drop"), ("settle", "forbidden")]
    assert len(world.at("us-1").calls) == 1


async def test_a_bug_of_ours_becomes_a_fault_that_hides_its_cause(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    catalog.apply(nodes[0], make_server("units", "convert"), [])
    world.at("eu-1").raises = KeyError("secret detail")
    with pytest.raises(Fault) as e:
        await world.use("units")
    assert "secret" not in e.value.message
    assert e.value.data["fault_id"] in caplog.text


async def test_what_was_called_is_kept_without_arguments(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[1], make_server("units", "convert"), [])
    await world.use("units")
    kept = world.gateway.recent[-1]
    assert (kept.server, kept.tool, kept.owner, kept.region, kept.outcome) == ("units", "convert", "us-1", "us", "ok")
    assert (world.gateway.calls_total, world.gateway.calls_failed, world.gateway.in_flight) == (1, 0, 0)


async def test_a_tool_that_fails_is_a_result_not_an_exception(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[1], make_server("units", "convert"), [])

    async def failing(call: Call, exchange: Exchange) -> Answer:
        return {"result": {"content": [], "isError": True, "x-kept": 1}}

    world.at("us-1").call = failing  # type: ignore[method-assign]
    answer = await world.gateway.call("units", "tools/call", {"name": "convert"}, Caller(), NoExchange())
    assert answer == {"result": {"content": [], "isError": True, "x-kept": 1}}
    assert world.gateway.recent[-1].outcome == "tool_error"


async def test_methods_without_a_name_go_to_the_service_as_they_are(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[1], make_server("units", "convert"), [])
    await world.gateway.call("units", "vendor/odd", {"a": [1]}, Caller(), NoExchange())
    assert world.at("us-1").calls[0].params == {"a": [1]}


async def test_a_server_that_never_came_up_is_unavailable_with_its_cause_not_empty(
    world: World, catalog: Catalog, nodes: Nodes
) -> None:
    body = {"name": "git", "health": {"state": "down", "cause": "command 'gti' was not found on PATH"}}
    catalog.apply(nodes[0], [Record.of(Kind.SERVER, "git", body)], [])
    with pytest.raises(Unavailable, match="git on eu-1 is down \\(command 'gti' was not found on PATH\\)"):
        await world.use("git", "log")


async def test_a_session_whose_owner_left_the_lists_is_told_and_not_moved_silently(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    _, us, ap = nodes
    replicate(catalog, (us, ap), make_server)
    first = await world.use("units", session_key="s1")
    catalog.set_liveness(us if first == "us-1" else ap, Liveness.DOWN, listed=False)
    with pytest.raises(Unavailable, match="state is lost"):
        await world.use("units", session_key="s1")


async def test_a_session_begun_with_the_only_owner_stays_there_when_a_nearer_one_joins(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    eu, us, _ = nodes
    replicate(catalog, (us,), make_server)
    assert await world.use("units", session_key="s1") == "us-1"
    replicate(catalog, (eu,), make_server)
    assert await world.use("units", session_key="s1") == "us-1"
    assert await world.use("units", session_key="s2") == "eu-1"


async def test_beyond_the_bound_the_session_that_called_longest_ago_is_forgotten(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    eu, us, ap = nodes
    monkeypatch.setattr(gateway, "AFFINITIES_MAX", 2)
    replicate(catalog, (us, ap), make_server)
    for session in ("busy", "idle", "busy", "new"):
        await world.use("units", session_key=session)
    replicate(catalog, (eu,), make_server)
    assert await world.use("units", session_key="busy") != "eu-1"
    assert await world.use("units", session_key="idle") == "eu-1"


async def test_a_session_is_not_given_another_definition_than_the_one_listed(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer, make_tool: MakeTool
) -> None:
    eu = nodes[0]
    replicate(catalog, nodes, make_server)
    assert await world.use("units", session_key="s1") == "eu-1"
    catalog.apply(eu, [make_tool("units", "convert", "changed")], [])
    with pytest.raises(Conflict, match="as it was listed"):
        await world.use("units", session_key="s1")


async def test_when_no_other_owner_is_left_the_refusal_is_the_owners_own(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    _, us, ap = nodes
    replicate(catalog, nodes, make_server, stateless=True)
    catalog.set_liveness(us, Liveness.DOWN)
    catalog.set_liveness(ap, Liveness.DOWN)
    world.at("eu-1").raises = Unavailable("the database is being restored", retry_after_s=7)
    with pytest.raises(Unavailable, match="restored") as e:
        await world.use("units")
    assert e.value.data == {"retry_after_s": 7}


async def test_a_call_that_its_caller_gave_up_is_kept_as_cancelled_and_not_as_a_fault(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[0], make_server("units", "convert"), [])
    begun = asyncio.Event()

    async def never(call: Call, exchange: Exchange) -> Answer:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    world.at("eu-1").call = never  # type: ignore[method-assign]
    task = asyncio.create_task(world.use("units"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.gateway.recent[-1].outcome == "cancelled"
    assert (world.gateway.calls_failed, world.gateway.in_flight) == (0, 0)


@dataclass(frozen=True)
class Hiding:
    """Lets everything through but one tool, or one tool of one owner."""

    tool: str
    owner: str = ""
    key: str = "hiding"

    def allows(self, resource: Resource) -> bool:
        return resource.tool != self.tool or self.owner not in ("", resource.owner)


class HidingGuard(OpenGuard):
    def __init__(self, hiding: Hiding) -> None:
        self._hiding = hiding

    def visible(self, principal: Principal, action: Any) -> Any:
        return self._hiding


@pytest.mark.parametrize("state", ["up", "down"])
async def test_a_hidden_tool_is_answered_like_a_missing_one_whatever_the_servers_state(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer, state: str
) -> None:
    world = World(catalog, HidingGuard(Hiding("drop")))
    catalog.apply(nodes[1], make_server("db", "read", "drop", state=state), [])
    with pytest.raises((Unknown, Unavailable)) as hidden:
        await world.use("db", "drop")
    with pytest.raises((Unknown, Unavailable)) as missing:
        await world.use("db", "gone")
    assert type(hidden.value) is type(missing.value)
    assert hidden.value.message.replace("drop", "gone") == missing.value.message


async def test_a_tool_that_is_hidden_at_one_owner_runs_at_another(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    world = World(catalog, HidingGuard(Hiding("convert", owner="eu-1")))
    replicate(catalog, nodes[:2], make_server)
    assert await world.use("units") == "us-1"


@pytest.mark.parametrize(
    "method", ["notifications/cancelled", "notifications/initialized", "initialize", "logging/setLevel", "tasks/list"]
)
async def test_what_belongs_to_the_shared_connection_is_no_callers_to_ask(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer, method: str
) -> None:
    eu, us, _ = nodes
    catalog.apply(eu, make_server("units", "convert"), [])
    with pytest.raises(Unknown) as e:
        await world.gateway.call("units", method, {"requestId": 1}, Caller(), NoExchange())
    assert e.value.data["method"] == method
    with pytest.raises(Unknown):
        await world.gateway.answer(Call("c1", "units", method, {}, via=("us-1",)), NoExchange(), us)
    assert world.runners == {}


async def test_of_two_members_of_a_service_on_one_node_the_one_that_is_up_is_asked(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    us = nodes[1]
    for name, state in (("units-a", "up"), ("units-b", "down")):
        catalog.apply(us, make_server(name, "convert", service="units", state=state), [])
    assert await world.use("units") == "us-1"
    assert world.at("us-1").calls[0].server == "units-a"


async def test_a_member_that_refuses_is_replaced_by_another_on_the_same_node(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    us = nodes[1]
    for name in ("units-a", "units-b"):
        catalog.apply(us, make_server(name, "convert", service="units", stateless=True), [])

    async def first_refuses(call: Call, exchange: Exchange) -> Answer:
        runner.calls.append(call)
        if len(runner.calls) == 1:
            raise Unavailable("stopping")
        return {"result": {"ran": call.server}}

    runner = world.at("us-1")
    runner.call = first_refuses  # type: ignore[method-assign]
    await world.use("units")
    assert sorted(c.server for c in runner.calls) == ["units-a", "units-b"]
