"""Names and what they mean: services, bare names, qualified names, and what a caller may not see."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import pytest

from federation.events import Liveness
from node.catalog import Catalog
from node.ports import Resource
from proto.errors import Conflict, Invalid, Unknown
from proto.names import NodeId
from proto.records import Kind, Record, RecordKey

Nodes = tuple[NodeId, NodeId, NodeId]
MakeServer = Callable[..., list[Record]]
MakeTool = Callable[..., Record]


@dataclass(frozen=True)
class Only:
    """A filter that hides the owners named."""

    hidden: tuple[str, ...] = ()
    key: Hashable = "test"

    def allows(self, resource: Resource) -> bool:
        return resource.owner not in self.hidden


ALL = Only()


def tools(*names: str) -> tuple[tuple[Kind, str], ...]:
    return tuple((Kind.TOOL, name) for name in names)


def test_a_bare_name_means_the_only_server_of_that_name(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    us = nodes[1]
    catalog.apply(us, make_server("git", "log"), [])
    route = catalog.route("git", ALL)
    assert [s.qualified for s in route.servers] == ["git--us-1"]
    assert list(route.members(Kind.TOOL)) == ["log"]


def test_undeclared_servers_that_share_a_name_are_a_conflict_that_lists_them(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    eu, us, _ = nodes
    catalog.apply(us, make_server("git", "log"), [])
    catalog.apply(eu, make_server("git", "log"), [])
    with pytest.raises(Conflict) as e:
        catalog.route("git", ALL)
    assert e.value.data["candidates"] == ["git--eu-1", "git--us-1"]
    assert [s.owner.id for s in catalog.route("git--us-1", ALL).servers] == [us]


def test_what_a_caller_may_not_see_does_not_make_a_name_ambiguous(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    eu, us, _ = nodes
    catalog.apply(us, make_server("git"), [])
    catalog.apply(eu, make_server("git"), [])
    assert [s.qualified for s in catalog.route("git", Only(("us-1",))).servers] == ["git--eu-1"]


def test_hidden_and_missing_are_the_same_answer(catalog: Catalog, nodes: Nodes, make_server: MakeServer) -> None:
    with pytest.raises(Unknown) as missing:
        catalog.route("git", ALL)
    catalog.apply(nodes[1], make_server("git"), [])
    with pytest.raises(Unknown) as hidden:
        catalog.route("git", Only(("us-1",)))
    assert (missing.value.message, missing.value.data) == (hidden.value.message, hidden.value.data)


def test_replicas_are_declared_and_then_one_name(catalog: Catalog, nodes: Nodes, make_server: MakeServer) -> None:
    _, us, ap = nodes
    for owner in (us, ap):
        catalog.apply(owner, make_server("units", "convert", service="units"), [])
    route = catalog.route("units", ALL)
    assert [s.owner.id.name for s in route.servers] == ["ap-1", "us-1"]
    assert catalog.shown_name(route.servers[0], ALL, "convert") == "units"


def test_a_service_shows_the_definition_that_most_members_share(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer, make_tool: MakeTool
) -> None:
    eu, us, ap = nodes
    for owner in (eu, us):
        catalog.apply(owner, make_server("units", "convert", service="units"), [])
    odd = [make_server("units", service="units")[0], make_tool("units", "convert", "another meaning")]
    catalog.apply(ap, odd, [])
    route = catalog.route("units", ALL)
    member = route.member(Kind.TOOL, "convert")
    assert member is not None
    assert member.definition["description"] == "convert"
    names = {s.owner.id.name: catalog.shown_name(s, ALL, "convert") for s in route.servers}
    assert names == {"eu-1": "units", "us-1": "units", "ap-1": "units--ap-1"}


@pytest.mark.parametrize("name", ["", "Git", "git_log", "git--", "a--b--c", "x" * 41])
def test_what_cannot_be_a_name_is_invalid(catalog: Catalog, name: str) -> None:
    with pytest.raises(Invalid):
        catalog.route(name, ALL)


def test_tools_that_arrive_before_their_server_wait_for_it(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer, make_tool: MakeTool
) -> None:
    us = nodes[1]
    catalog.apply(us, [make_tool("git", "log")], [])
    with pytest.raises(Unknown):
        catalog.route("git", ALL)
    catalog.apply(us, make_server("git"), [])
    assert list(catalog.route("git", ALL).members(Kind.TOOL)) == ["log"]


def test_listeners_hear_exactly_what_changed(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer, make_tool: MakeTool
) -> None:
    us = nodes[1]
    heard: list[tuple[Any, ...]] = []
    catalog.listen(lambda s, kinds, put, deleted: heard.append((s.name, sorted(kinds), put, deleted)))
    catalog.apply(us, make_server("git", "log", "diff"), [])
    assert heard.pop() == ("git", ["tool"], tools("log", "diff"), ())
    catalog.apply(us, [make_tool("git", "blame")], [RecordKey(Kind.TOOL, "git/log")])
    assert heard.pop() == ("git", ["tool"], tools("blame"), tools("log"))
    catalog.apply(us, [], [RecordKey(Kind.TOOL, "git/never-there")])
    assert heard == []


def test_an_owner_that_leaves_the_lists_takes_its_tools_and_brings_them_back(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    us = nodes[1]
    catalog.apply(us, make_server("git", "log"), [])
    heard: list[tuple[Any, ...]] = []
    catalog.listen(lambda s, kinds, put, deleted: heard.append((put, deleted)))
    catalog.set_liveness(us, Liveness.DOWN, listed=True)
    assert heard == []
    assert not catalog.route("git", ALL).lead.up
    catalog.set_liveness(us, Liveness.DOWN, listed=False)
    assert heard.pop() == ((), tools("log"))
    with pytest.raises(Unknown):
        catalog.route("git", ALL)
    catalog.set_liveness(us, Liveness.ALIVE, listed=True)
    assert heard.pop() == (tools("log"), ())
    assert catalog.route("git", ALL).lead.up


def test_a_server_that_is_deleted_is_gone_from_every_index(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    us = nodes[1]
    records = make_server("units", "convert", service="measures")
    catalog.apply(us, records, [])
    catalog.apply(us, [], [r.key for r in records])
    for name in ("units", "measures", "units--us-1"):
        with pytest.raises(Unknown):
            catalog.route(name, ALL)


def test_an_owner_that_left_for_good_is_forgotten(catalog: Catalog, nodes: Nodes, make_server: MakeServer) -> None:
    us = nodes[1]
    catalog.apply(us, make_server("git", "log"), [])
    catalog.forget(us)
    assert list(catalog.servers(ALL)) == []
    assert "us-1" not in catalog.owners


def test_a_record_that_is_not_what_its_kind_needs_is_left_out_alone(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    bad = Record(Kind.TOOL, "git/broken", b"", b"[1, 2]")
    catalog.apply(nodes[1], [bad, *make_server("git", "log")], [])
    assert list(catalog.route("git", ALL).members(Kind.TOOL)) == ["log"]
    assert "git/broken" in caplog.text


def test_a_listener_that_fails_keeps_no_other_from_hearing(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    catalog.listen(broken)
    catalog.listen(lambda server, *_: heard.append(server.name))
    catalog.apply(nodes[1], [*make_server("git", "log"), *make_server("wiki", "read")], [])
    assert heard == ["git", "wiki"]
    assert "a listener failed" in caplog.text


@pytest.mark.parametrize(
    "more",
    [{"health": "up"}, {"service": ["git"]}, {"service": "Not A Name"}, {"labels": []}, {"capabilities": [1]}],
)
def test_a_peers_server_record_of_the_wrong_shape_is_left_out_alone(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer, caplog: pytest.LogCaptureFixture, more: dict[str, Any]
) -> None:
    bad = Record.of(Kind.SERVER, "bad", {"name": "bad", **more})
    catalog.apply(nodes[1], [bad, *make_server("git", "log")], [])
    assert [s.name for s in catalog.servers(ALL)] == ["git"]
    assert f"'{next(iter(more))}'" in caplog.text or "server name" in caplog.text


def test_a_member_whose_definition_bears_another_name_than_its_record_is_left_out(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    odd = Record.of(Kind.TOOL, "git/log", {"name": "push", "inputSchema": {"type": "object"}})
    catalog.apply(nodes[1], [*make_server("git", "status"), odd], [])
    assert list(catalog.route("git", ALL).members(Kind.TOOL)) == ["status"]


def test_an_owner_that_was_issued_anew_in_another_region_is_where_its_last_word_came_from(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[1], make_server("db", "read"), [])
    moved = NodeId(nodes[1].trust_domain, "ap", nodes[1].name)
    catalog.apply(moved, make_server("db", "read"), [])
    server = catalog.find(moved.name, "db")
    assert server is not None
    assert (server.owner.id, server.resource().region, server.owner.place.region) == (moved, "ap", "ap")
