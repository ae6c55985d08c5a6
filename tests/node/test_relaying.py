"""What goes through the gateway besides calls: listens, clients' notifications, questions to a node itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from node.catalog import Catalog
from node.gateway import BUDGET_MS, Gateway
from node.guard.open import OpenGuard
from node.ports import Caller
from node.relaying import ACKNOWLEDGED, Relays
from proto.calls import Answer, Call, Exchange, Notification
from proto.errors import Unavailable, Unknown
from proto.names import NodeId
from proto.records import Record

Nodes = tuple[NodeId, NodeId, NodeId]
MakeServer = Callable[..., list[Record]]
WAIT_S = 10.0
ACK: Notification = {"method": ACKNOWLEDGED, "params": {"notifications": {}}}
UPDATED: Notification = {"method": "notifications/resources/updated", "params": {"uri": "a:b"}}


@dataclass
class Ear:
    heard: list[Notification] = field(default_factory=list)
    some: asyncio.Event = field(default_factory=asyncio.Event)

    def event(self, notification: Notification) -> None:
        self.heard.append(notification)
        self.some.set()

    async def request(self, request: Notification) -> Answer:
        raise AssertionError("nothing was to be asked")


@dataclass
class Speaker:
    """A target that acknowledges a listen and goes on until it is cancelled or told to `end`; answers all else."""

    calls: list[Call] = field(default_factory=list)
    open: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    again: asyncio.Event = field(default_factory=asyncio.Event)
    end: asyncio.Event = field(default_factory=asyncio.Event)
    exchanges: list[Exchange] = field(default_factory=list)

    async def call(self, call: Call, exchange: Exchange) -> Answer:
        self.calls.append(call)
        if call.method != "subscriptions/listen":
            return {"result": {}}
        self.exchanges.append(exchange)
        self.open += 1
        exchange.event(ACK)
        (self.again if self.begun.is_set() else self.begun).set()
        try:
            await self.end.wait()
        finally:
            self.open -= 1
        return {"result": {"ended": True}}


class World:
    def __init__(self, catalog: Catalog) -> None:
        self.speakers: dict[str, Speaker] = {}
        self.gateway = Gateway(catalog, OpenGuard(), local=lambda _: self.at("eu-1"), remote=self.at, draw=lambda n: 0)

    def at(self, node: str) -> Speaker:
        return self.speakers.setdefault(node, Speaker())


@pytest.fixture
def world(catalog: Catalog) -> World:
    return World(catalog)


async def listening(world: World, name: str, node: str, ear: Ear) -> asyncio.Task[Answer]:
    task = asyncio.create_task(world.gateway.listen(name, {"notifications": {}}, Caller(), ear))
    async with asyncio.timeout(WAIT_S):
        await world.at(node).begun.wait()
    return task


@pytest.mark.parametrize("at", [0, 1])
async def test_a_listen_reaches_the_owner_and_is_no_call_in_flight(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer, at: int
) -> None:
    catalog.apply(nodes[at], make_server("units"), [])
    ear = Ear()
    task = await listening(world, "units", nodes[at].name, ear)
    speaker = world.at(nodes[at].name)
    assert (speaker.calls[0].server, speaker.calls[0].params) == ("units", {"notifications": {}})
    assert world.gateway.in_flight == 0
    await world.gateway.drained()
    speaker.exchanges[0].event(UPDATED)
    assert ear.heard == [ACK, UPDATED]
    speaker.end.set()
    assert await task == {"result": {"ended": True}}


@pytest.mark.parametrize("at", [0, 1])
async def test_a_stopping_node_ends_its_listens_and_says_why(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer, at: int
) -> None:
    catalog.apply(nodes[at], make_server("units"), [])
    task = await listening(world, "units", nodes[at].name, Ear())
    world.gateway.refusing = True
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(Unavailable) as e:
            await task
    assert e.value.data["stopping"]
    assert world.at(nodes[at].name).open == 0
    with pytest.raises(Unavailable):
        await world.gateway.listen("units", {"notifications": {}}, Caller(), Ear())


async def test_a_listen_for_a_peer_ends_with_the_owner(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[0], make_server("units"), [])
    call = Call("c", "units", "subscriptions/listen", {"notifications": {}}, via=("us-1",))
    task = asyncio.create_task(world.gateway.answer(call, Ear(), nodes[1]))
    async with asyncio.timeout(WAIT_S):
        await world.at("eu-1").begun.wait()
    assert (world.gateway.in_flight, world.gateway.for_peers) == (0, 0)
    world.gateway.refusing = True
    with pytest.raises(Unavailable, match="stopping"):
        await task


async def test_a_cancelled_listen_is_cancelled_where_it_runs(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[1], make_server("units"), [])
    task = await listening(world, "units", "us-1", Ear())
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert world.at("us-1").open == 0


async def test_a_listen_across_a_hop_is_opened_anew_before_its_time_is_over(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[1], make_server("units"), [])
    speaker, ear = Speaker(), Ear()
    relays = Relays("eu-1", OpenGuard(), lambda _: speaker, lambda _: speaker, renew_s=0.01)
    server = catalog.owners["us-1"].servers["units"]
    task = asyncio.create_task(relays.listen(server, Call("c", "units", "subscriptions/listen", {}), ear))
    async with asyncio.timeout(WAIT_S):
        await speaker.again.wait()
    assert len({call.call_id for call in speaker.calls}) == len(speaker.calls) > 1
    speaker.exchanges[1].event(UPDATED)
    assert ear.heard == [ACK, UPDATED]
    task.cancel()
    await asyncio.wait({task})
    assert speaker.open == 0


async def test_a_clients_notification_goes_to_the_owner_and_needs_no_answer(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[1], make_server("units"), [])
    caller = Caller(session_key="s", client_capabilities={"roots": {"listChanged": True}})
    await world.gateway.tell("units", "notifications/roots/list_changed", {"a": None}, caller)
    (call,) = world.at("us-1").calls
    assert (call.server, call.method, call.params) == ("units", "notifications/roots/list_changed", {"a": None})
    assert call.client_capabilities == {"roots": {"listChanged": True}}


async def test_a_notification_is_told_to_every_owner_until_the_session_has_one(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    for node in nodes[1:]:
        catalog.apply(node, make_server("units", "convert", service="units"), [])
    caller = Caller(session_key="s")
    await world.gateway.tell("units", "notifications/roots/list_changed", {}, caller)
    assert {node: len(s.calls) for node, s in world.speakers.items()} == {"us-1": 1, "ap-1": 1}
    await world.gateway.call("units", "tools/call", {"name": "convert"}, caller, Ear())
    holder = next(node for node, s in world.speakers.items() if len(s.calls) == 2)
    await world.gateway.tell("units", "notifications/roots/list_changed", {}, caller)
    assert len(world.at(holder).calls) == 3
    assert sum(len(s.calls) for s in world.speakers.values()) == 4


@pytest.mark.parametrize("method", ["notifications/cancelled", "notifications/initialized", "tools/call"])
async def test_what_means_nothing_on_another_connection_is_not_told(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer, method: str
) -> None:
    catalog.apply(nodes[0], make_server("units"), [])
    with pytest.raises(Unknown):
        await world.gateway.tell("units", method, {}, Caller())
    assert world.speakers == {}


async def handled(call: Call, exchange: Exchange, peer: NodeId) -> Answer:
    exchange.event({"method": "x"})
    return {"result": {"peer": peer.name, "asked": call.params, "who": call.principal.subject}}


async def test_a_node_is_asked_itself_here_and_from_a_peer(world: World, nodes: Nodes) -> None:
    world.gateway.handle("toolmesh/session", handled)
    ear = Ear()
    answer = await world.gateway.carry("eu-1", "toolmesh/session", {"n": 1}, Caller(), ear)
    assert answer["result"] == {"peer": "eu-1", "asked": {"n": 1}, "who": "anonymous"}
    call = Call("c", "", "toolmesh/session", {"n": 2}, via=("us-1",))
    answer = await world.gateway.answer(call, ear, nodes[1])
    assert answer["result"]["peer"] == "us-1"
    assert len(ear.heard) == 2


async def test_a_question_to_a_node_that_the_mesh_does_not_have_is_refused(world: World) -> None:
    with pytest.raises(Unknown, match="no node 'us-9'"):
        await world.gateway.carry("us-9", "toolmesh/session", {}, Caller(), Ear())
    assert world.speakers == {}


async def test_a_question_to_another_node_is_sent_to_it(
    world: World, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[1], make_server("units"), [])
    await world.gateway.carry("us-1", "toolmesh/session", {"n": 1}, Caller(session_key="k"), Ear())
    (call,) = world.at("us-1").calls
    assert (call.server, call.method, call.params, call.session_key) == ("", "toolmesh/session", {"n": 1}, "k")
    assert call.via == ("eu-1",)


async def test_a_question_that_nothing_here_handles_is_refused(world: World, nodes: Nodes) -> None:
    with pytest.raises(Unknown) as e:
        await world.gateway.answer(Call("c", "", "toolmesh/guess", {}, via=("us-1",)), Ear(), nodes[1])
    assert e.value.data["method"] == "toolmesh/guess"


@pytest.mark.parametrize(("budget_ms", "counted"), [(BUDGET_MS, 1), (BUDGET_MS + 1, 0)])
async def test_a_drain_waits_for_a_carried_request_and_not_for_a_carried_stream(
    world: World, budget_ms: int, counted: int
) -> None:
    begun, end = asyncio.Event(), asyncio.Event()

    async def held(call: Call, exchange: Exchange, peer: NodeId) -> Answer:
        begun.set()
        await end.wait()
        return {"result": {}}

    world.gateway.handle("toolmesh/session", held)
    more: dict[str, Any] = {"budget_ms": budget_ms}
    task = asyncio.create_task(world.gateway.carry("eu-1", "toolmesh/session", {}, Caller(), Ear(), **more))
    async with asyncio.timeout(WAIT_S):
        await begun.wait()
    assert world.gateway.in_flight == counted
    world.gateway.refusing = True
    if counted:
        end.set()
        async with asyncio.timeout(WAIT_S):
            await world.gateway.drained()
        assert await task == {"result": {}}
    else:
        with pytest.raises(Unavailable, match="stopping"):
            await task
