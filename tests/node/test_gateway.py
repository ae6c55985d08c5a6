"""The straight path: routing, failing over, keeping sessions with their owner, and what is told to whom."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from federation.events import Liveness
from node.bonds import Bonds
from node.catalog import Catalog
from node.gateway import Gateway
from node.guard.keys import ApiKey
from node.guard.open import OpenGuard
from node.ports import Action, Caller, Resource
from proto.calls import Answer, Call, Exchange, Notification
from proto.errors import (
    Conflict,
    Exhausted,
    Fault,
    Forbidden,
    Invalid,
    MeshError,
    OutcomeUnknown,
    Unavailable,
    Unknown,
)
from proto.names import NodeId
from proto.records import Kind, Principal, Record, RecordKey
from tests.node.guards import KeyGuard

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

    def __init__(self, catalog: Catalog, guard: Any = None, **more: Any) -> None:
        self.runners: dict[str, Runner] = {}
        self.gateway = Gateway(
            catalog,
            guard or OpenGuard(),
            local=lambda _: self.at("eu-1"),
            remote=self.at,
            draw=lambda n: 0,
            **more,
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


async def test_a_session_that_has_called_is_not_moved_when_its_owner_refuses(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    replicate(catalog, nodes, make_server)
    assert await world.use("units", session_key="s1") == "eu-1"
    world.at("eu-1").raises = Unavailable("stopping")
    with pytest.raises(Unavailable, match="stopping"):
        await world.use("units", session_key="s1")
    assert await world.use("units", session_key="s2") != "eu-1"


async def test_a_fresh_session_is_not_bound_to_an_owner_that_refuses_its_first_call(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    replicate(catalog, nodes, make_server)
    world.at("eu-1").raises = Unavailable("stopping")
    first = await world.use("units", session_key="s1")
    assert first != "eu-1"
    world.at("eu-1").raises = None
    assert {await world.use("units", session_key="s1") for _ in range(5)} == {first}


async def test_a_session_whose_other_call_still_runs_at_an_owner_stays_there(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    replicate(catalog, nodes, make_server)
    begun, end = asyncio.Event(), asyncio.Event()

    async def slow_then_refusing(call: Call, exchange: Exchange) -> Answer:
        if begun.is_set():
            raise Unavailable("busy")
        begun.set()
        await end.wait()
        return {"result": {"ran": "eu-1"}}

    world.at("eu-1").call = slow_then_refusing  # type: ignore[method-assign]
    running = asyncio.create_task(world.use("units", session_key="s1"))
    await begun.wait()
    with pytest.raises(Unavailable, match="busy"):
        await world.use("units", session_key="s1")
    end.set()
    assert await running == "eu-1"


async def test_a_session_is_told_that_its_state_is_lost_when_its_server_was_away_unnoticed(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    _, us, ap = nodes
    replicate(catalog, (us, ap), make_server)
    first = await world.use("units", session_key="s1")
    owner = us if first == "us-1" else ap
    for state in (Liveness.SUSPECT, Liveness.ALIVE):
        catalog.set_liveness(owner, state)
    with pytest.raises(Unavailable, match="was away; its state is lost") as e:
        await world.use("units", session_key="s1")
    assert e.value.data["state_lost"] is True
    again = await world.use("units", session_key="s1")
    owner = us if again == "us-1" else ap
    health = {"state": "up", "cause": "", "since": 1_700_000_000_000}
    catalog.apply(owner, make_server("units", "convert", service="units", health=health), [])
    with pytest.raises(Unavailable, match="was away; its state is lost"):
        await world.use("units", session_key="s1")


async def test_a_session_whose_owner_stops_is_told_once_and_begins_afresh_elsewhere(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    replicate(catalog, nodes, make_server)
    assert await world.use("units", session_key="s1") == "eu-1"
    world.at("eu-1").raises = Unavailable("this node is stopping", stopping=True)
    with pytest.raises(Unavailable, match="is stopping; its state is lost") as e:
        await world.use("units", session_key="s1")
    assert e.value.data["state_lost"] is True
    assert await world.use("units", session_key="s1") != "eu-1"


async def test_a_draining_owner_keeps_its_sessions_and_gets_no_new_ones(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    _, us, ap = nodes
    replicate(catalog, (us, ap), make_server)
    first = await world.use("units", session_key="s1")
    catalog.set_liveness(us if first == "us-1" else ap, Liveness.DRAINING)
    assert {await world.use("units", session_key="s1") for _ in range(4)} == {first}
    assert first not in {await world.use("units", session_key=f"t{i}") for i in range(8)}


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


async def test_an_owner_that_has_not_listed_its_tools_again_yet_refuses_as_not_up(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer, make_tool: MakeTool
) -> None:
    eu, us, _ = nodes
    catalog.apply(eu, make_server("units", state="starting"), [])
    call = Call("c1", "units", "tools/call", {"name": "convert"}, tool_digest=b"of its last life", via=("us-1",))
    with pytest.raises(Unavailable, match="starting"):
        await world.gateway.answer(call, NoExchange(), us)


async def test_a_node_that_still_begins_its_servers_refuses_what_it_does_not_know_yet_as_unavailable(
    world: World, nodes: Nodes
) -> None:
    _, us, _ = nodes
    call = Call("c1", "units", "tools/call", {"name": "convert"}, via=("us-1",))
    world.gateway.loading = True
    with pytest.raises(Unavailable, match="only just started"):
        await world.gateway.answer(call, NoExchange(), us)
    world.gateway.loading = False
    with pytest.raises(Unknown):
        await world.gateway.answer(call, NoExchange(), us)


async def test_an_owner_that_lists_a_tool_anew_is_replaced_by_one_that_still_offers_what_was_seen(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    replicate(catalog, nodes, make_server, stateless=True)
    world.at("eu-1").raises = Conflict("'eu-1' has changed it", listed_anew=True)
    assert await world.use("units") in ("us-1", "ap-1")
    assert world.gateway.recent[-1].attempts == 2


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

        async def admit(self, call: Call, *resources: Any) -> Any:
            self.log.append(("admit", resources[0].server, resources[0].tool))
            if resources[0].tool == "drop":
                raise Forbidden("no")
            return await super().admit(call, *resources)

        def settle(self, call: Call, ended: Any) -> None:
            self.log.append(("settle", ended.record.outcome))

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


async def test_a_task_of_a_service_without_sessions_is_asked_after_where_it_runs(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    _, us, ap = nodes
    replicate(catalog, (us, ap), make_server, stateless=True)
    ran: list[tuple[str, str, Any]] = []
    told: list[Notification] = []

    def at(node: str) -> Any:
        async def call(call: Call, exchange: Exchange) -> Answer:
            ran.append((node, call.method, call.params))
            if call.method == "subscriptions/listen":
                exchange.event({"method": "notifications/tasks", "params": {"taskId": "7", "status": "working"}})
            return {"result": {"resultType": "task" if call.method == "tools/call" else "complete", "taskId": "7"}}

        return call

    for node in (us, ap):
        world.at(node.name).call = at(node.name)  # type: ignore[method-assign]

    async def ask(method: str, params: dict[str, Any]) -> Any:
        return (await world.gateway.call("units", method, params, Caller(), NoExchange()))["result"]

    task_id = (await ask("tools/call", {"name": "convert"}))["taskId"]
    first = ran[0][0]
    assert task_id == f"units--{first}__7"
    # Whoever asks anew is served elsewhere; whoever asks after the task is not.
    catalog.set_liveness(us if first == us.name else ap, Liveness.DRAINING)
    assert (await ask("tools/call", {"name": "convert"}))["taskId"] != task_id
    assert (await ask("tasks/get", {"taskId": task_id, "vendor": None}))["taskId"] == task_id
    assert ran[-1] == (first, "tasks/get", {"taskId": "7", "vendor": None})

    class Listener(NoExchange):
        def event(self, notification: Notification) -> None:
            told.append(notification)

    await world.gateway.listen("units", {"notifications": {"taskIds": [task_id]}}, Caller(), Listener())
    assert ran[-1] == (first, "subscriptions/listen", {"notifications": {"taskIds": ["7"]}})
    assert told[0]["params"] == {"taskId": task_id, "status": "working"}
    # An id that names no owner is any owner's to refuse.
    await ask("tasks/get", {"taskId": "another"})
    assert ran[-1][2] == {"taskId": "another"}


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
    monkeypatch.setattr(world.gateway._chooser, "bonds", Bonds(bonds_max=2))
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
    "method",
    ["notifications/cancelled", "notifications/initialized", "initialize", "logging/setLevel", "resources/subscribe"],
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


@pytest.mark.parametrize("safe", [True, ["convert", "list"]])
async def test_a_call_that_may_have_run_is_run_again_where_the_configuration_says_that_it_may(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer, safe: Any
) -> None:
    replicate(catalog, nodes, make_server, stateless=True, retrySafe=safe)
    world.at("eu-1").raises = OutcomeUnknown("the stream broke", call_id="x")
    assert await world.use("units") in ("us-1", "ap-1")
    ids = [c.call_id for r in world.runners.values() for c in r.calls]
    assert len(ids) == len(set(ids)) == 2
    assert world.gateway.counters.retries == 1


@pytest.mark.parametrize("safe", [False, ["list"], "convert", {"convert": True}])
async def test_neither_annotations_nor_another_tools_safety_let_a_call_run_twice(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer, safe: Any
) -> None:
    replicate(catalog, nodes, make_server, stateless=True, retrySafe=safe)
    definition = {"name": "convert", "inputSchema": {"type": "object"}, "annotations": {"idempotentHint": True}}
    for owner in nodes:
        catalog.apply(owner, [Record.of(Kind.TOOL, "units/convert", definition)], [])
    world.at("eu-1").raises = OutcomeUnknown("the stream broke", call_id="x")
    with pytest.raises(OutcomeUnknown):
        await world.use("units")
    assert sum(len(r.calls) for r in world.runners.values()) == 1


async def test_what_may_have_run_is_not_run_at_a_replica_that_does_not_call_it_safe(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    eu, us, _ = nodes
    replicate(catalog, (eu,), make_server, stateless=True, retrySafe=True)
    replicate(catalog, (us,), make_server, stateless=True)
    runner = world.at("eu-1")
    runner.raises = OutcomeUnknown("the stream broke", call_id="x")
    with pytest.raises(OutcomeUnknown):
        await world.use("units")
    assert len(runner.calls) == 2, "the only one that may run it again is asked once more"
    assert world.at("us-1").calls == []


async def test_a_lone_owner_of_a_retry_safe_tool_is_asked_once_more_if_it_is_up(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    us = nodes[1]
    catalog.apply(us, make_server("units", "convert", retrySafe=True), [])
    runner = world.at("us-1")

    async def once_broken(call: Call, exchange: Exchange) -> Answer:
        runner.calls.append(call)
        if len(runner.calls) % 2:
            raise OutcomeUnknown("the stream broke", call_id=call.call_id)
        return {"result": {"ran": "us-1"}}

    runner.call = once_broken  # type: ignore[method-assign]
    assert await world.use("units") == "us-1"
    assert len(runner.calls) == 2

    async def dying(call: Call, exchange: Exchange) -> Answer:
        catalog.set_liveness(us, Liveness.DOWN)
        raise OutcomeUnknown("it died", call_id=call.call_id)

    runner.call = dying  # type: ignore[method-assign]
    with pytest.raises(OutcomeUnknown, match="it died"):
        await world.use("units")


async def test_once_a_call_may_have_run_a_later_refusal_does_not_unsay_it(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    replicate(catalog, nodes, make_server, stateless=True, retrySafe=True)
    world.at("eu-1").raises = OutcomeUnknown("the stream broke", call_id="x")
    world.at("us-1").raises = world.at("ap-1").raises = Unavailable("stopping")
    with pytest.raises(OutcomeUnknown, match="the stream broke"):
        await world.use("units")
    assert world.gateway.recent[-1].attempts == 3


async def test_retries_of_a_sick_service_are_bounded_and_the_first_error_says_so(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    replicate(catalog, nodes[:2], make_server, stateless=True)
    for node in ("eu-1", "us-1"):
        world.at(node).raises = Unavailable(f"{node} is sick")
    errors = []
    for _ in range(200):
        with pytest.raises(Unavailable) as e:
            await world.use("units")
        errors.append(e.value.message)
    counters = world.gateway.counters
    assert counters.retries + counters.retries_refused == 200
    assert counters.retries <= 0.2 * 200 + 10 + 3
    refused = [e for e in errors if "is sick (not tried again: retries of 'units'" in e]
    assert len(refused) == counters.retries_refused > 0


async def test_an_owner_that_keeps_failing_is_left_alone_and_let_in_again(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    _, us, ap = nodes
    now_s = 0.0
    world = World(catalog, clock=lambda: now_s)
    replicate(catalog, (us, ap), make_server, stateless=True)
    # Between equals the first by name is asked: nothing but its failures speaks against it.
    world.at("ap-1").raises = OutcomeUnknown("half dead", call_id="x")
    for _ in range(5):
        with pytest.raises(OutcomeUnknown):
            await world.use("units")
    assert world.gateway.counters.ejections == 1
    assert {await world.use("units") for _ in range(20)} == {"us-1"}
    assert len(world.at("ap-1").calls) == 5
    route = catalog.route("units", OpenGuard().visible(Caller().principal, Action.CALL))
    out = {s.qualified: c.ejected for s, c in world.gateway.candidates(route, "convert")}
    assert out == {"units--us-1": False, "units--ap-1": True}
    world.at("ap-1").raises = None
    catalog.set_liveness(us, Liveness.DOWN)
    assert await world.use("units") == "ap-1", "nobody else is left"
    catalog.set_liveness(us, Liveness.ALIVE)
    now_s = 31.0
    found = {s.qualified: c for s, c in world.gateway.candidates(route, "convert")}
    assert not found["units--ap-1"].ejected
    assert found["units--ap-1"].warmth < 0.2


async def test_half_of_those_that_could_be_asked_is_what_counts_not_half_of_all(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    us, ap = nodes[1:]
    for name in ("units-a", "units-b", "units-c"):
        catalog.apply(us, make_server(name, "convert", service="units", stateless=True), [])
        catalog.apply(ap, make_server(name, "convert", service="units", stateless=True), [])
    catalog.set_liveness(ap, Liveness.DOWN)
    route = catalog.route("units", OpenGuard().visible(Caller().principal, Action.CALL))
    world.gateway.candidates(route, "convert")
    for name in ("units-a--us-1", "units-b--us-1"):
        for _ in range(5):
            world.gateway.standings[name].begin()
            world.gateway.standings[name].failed(time.monotonic())
    assert sum(c.ejected for _, c in world.gateway.candidates(route, "convert")) == 1


@pytest.mark.parametrize("error", [Invalid("no such unit"), Exhausted("too large"), Conflict("changed"), None])
async def test_tools_that_fail_and_callers_mistakes_eject_nobody(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer, error: MeshError | None
) -> None:
    replicate(catalog, nodes[:2], make_server, stateless=True)

    async def failing(call: Call, exchange: Exchange) -> Answer:
        if error is not None:
            raise error
        return {"result": {"content": [], "isError": True, "ran": "eu-1"}}

    world.at("eu-1").call = failing  # type: ignore[method-assign]
    for _ in range(30):
        with contextlib.suppress(MeshError):
            await world.use("units")
    assert world.gateway.counters.ejections == 0
    assert world.gateway.standings["units--eu-1"].calls == 30


async def test_a_slow_server_does_not_taint_another_on_its_node(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    us = nodes[1]
    for name in ("units", "notes"):
        catalog.apply(us, make_server(name, "convert"), [])
    await world.use("units")
    assert world.gateway.standings["units--us-1"].average_ms > 0
    assert "notes--us-1" not in world.gateway.standings


async def test_outcomes_are_counted_by_kind(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[0], make_server("units", "convert"), [])
    await world.use("units")
    world.at("eu-1").raises = Unavailable("no")
    with pytest.raises(Unavailable):
        await world.use("units")
    assert world.gateway.counters.outcomes == {"ok": 1, "unavailable": 1}
