"""Each reason why a tool is not visible, or an owner not chosen, is told with its mend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from federation.events import Liveness
from federation.refusals import Reason, Refusal
from node.explaining import asked, case
from proto.names import NodeId
from proto.records import Kind, Record, RecordKey

Nodes = tuple[NodeId, NodeId, NodeId]
Find = Callable[..., list[Any]]


def test_a_tool_that_is_as_it_should_be_says_where_a_call_goes(world: Any, nodes: Nodes) -> None:
    world.hosts(nodes[1], "ledger", "post_entry")
    answer = world.ask("ledger/post_entry")
    assert answer["verdict"] == "visible to anonymous; a call now goes to us-1 (another region)"
    assert answer["visible"]
    assert answer["callable"]
    assert [f for f in answer["findings"] if f["ok"] is False] == []
    assert [o["why_not"] for o in answer["owners"]] == [""]


def test_a_name_that_nobody_bears_gets_those_that_are_near(world: Any, nodes: Nodes, findings: Find) -> None:
    world.hosts(nodes[0], "ledger", "post_entry", "balance")
    assert "nearest names: ledger/post_entry" in findings(world.ask("ledger/post_entri"), "tool")[0]["mend"]
    answer = world.ask("leger/post_entry")
    assert answer["verdict"] == (
        "not in the mesh: nothing known here is named 'leger/post_entry'; nearest names: ledger/post_entry"
    )
    assert not answer["visible"]
    assert world.ask("leger/nothing")["verdict"].endswith("nearest names: ledger")
    assert "toolmesh status" in world.ask("zzz")["findings"][0]["mend"]


def test_near_names_are_looked_for_within_a_bound(world: Any, nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    world.hosts(nodes[0], "many", *(f"tool_{n}" for n in range(50)), "late_bloomer")
    monkeypatch.setattr(asked, "COMPARED_MAX", 5)
    assert "many/late_bloomer" in str(world.ask("many/late_blomer")["findings"])


def test_a_policy_that_hides_names_its_rule_and_what_to_add(world: Any, nodes: Nodes, findings: Find) -> None:
    world.hosts(nodes[1], "ledger", "post_entry")
    world.with_keys()
    answer = world.ask("ledger/post_entry", who="alice")
    assert answer["verdict"].startswith("hidden from alice: alice may not search, list, call ledger--us-1")
    (policy,) = findings(answer, "policy")
    assert "auth.keys 'alice' lets through geo, text-*" in policy["text"]
    assert policy["mend"].startswith("add 'ledger' to the servers of auth.keys 'alice'")
    assert [o["why_not"] for o in answer["owners"]] == ["alice may not call it"]
    assert world.ask("ledger/post_entry", who="root")["callable"]


def test_an_owner_that_is_away_says_for_how_long_and_why(world: Any, nodes: Nodes, findings: Find) -> None:
    world.hosts(nodes[1], "ledger", "post_entry")
    world.becomes(nodes[1], Liveness.DOWN, "ap-1 does not hear it either")
    answer = world.ask("ledger/post_entry")
    (owner,) = findings(answer, "owner")
    assert owner["text"] == "us-1 (us) is down for 1 min: ap-1 does not hear it either"
    assert owner["mend"]
    assert answer["visible"]
    assert not answer["callable"]
    assert answer["verdict"].startswith("visible to anonymous, but nobody can take a call now: us-1 (us) is down")


def test_an_owner_that_left_the_lists_is_still_known_by_name(world: Any, nodes: Nodes) -> None:
    world.hosts(nodes[1], "ledger", "post_entry")
    world.becomes(nodes[1], Liveness.UNREACHABLE, "connection refused", listed=False)
    answer = world.ask("ledger/post_entry")
    assert answer["verdict"].startswith("not listed: us-1 (us) is unreachable")
    assert "left the lists" in answer["verdict"]
    assert [o["why_not"] for o in answer["owners"]] == ["it is not listed"]


def test_a_server_that_is_down_tells_its_cause(world: Any, nodes: Nodes, findings: Find) -> None:
    world.hosts(nodes[1], "ledger", "post_entry", health={"state": "down", "cause": "exited with status 3"})
    answer = world.ask("ledger/post_entry")
    (server,) = findings(answer, "server")
    assert server["text"] == "ledger--us-1 is down: exited with status 3"
    assert "servers.ledger on us-1" in server["mend"]
    assert "exited with status 3" in answer["verdict"]


def test_a_server_that_never_came_up_is_not_said_to_lack_a_tool(world: Any, nodes: Nodes, findings: Find) -> None:
    world.hosts(nodes[1], "ledger", health={"state": "down", "cause": "no such program"})
    answer = world.ask("ledger/post_entry")
    assert answer["verdict"] == (
        "not known: ledger--us-1 is down: no such program; which tools it has is known once it is up"
    )
    (tool,) = findings(answer, "tool")
    assert (tool["ok"], tool["text"]) == (None, "the tools of ledger--us-1 are not known: it has not come up yet")
    assert [o["why_not"] for o in answer["owners"]] == ["its tools are not known yet"]


def test_a_service_of_which_no_member_is_up_says_why_of_more_than_one(world: Any, nodes: Nodes) -> None:
    for node in nodes:
        down = {"state": "down", "cause": f"out of disk in {node.region}"}
        world.hosts(node, "units", "convert", service="units", stateless=True, health=down)
    assert world.ask("units/convert")["verdict"] == (
        "visible to anonymous, but nobody can take a call now: units--ap-1 is down: out of disk in ap; "
        "units--eu-1 is down: out of disk in eu; and 1 more"
    )


def test_a_tool_that_the_server_lacks_is_told_apart_from_a_server_that_is_not_there(
    world: Any, nodes: Nodes, findings: Find
) -> None:
    world.hosts(nodes[1], "ledger", "post_entry")
    answer = world.ask("ledger/delete_all")
    assert answer["verdict"] == "not in the mesh: ledger--us-1 offers no tool 'delete_all'"
    (tool,) = findings(answer, "tool")
    assert tool["ok"] is False
    assert tool["mend"] == "ask its owner: 'toolmesh explain ledger/delete_all' at us-1"


def test_a_bare_name_of_several_servers_lists_the_qualified_ones(world: Any, nodes: Nodes, findings: Find) -> None:
    for node in nodes[:2]:
        world.hosts(node, "ledger", "post_entry")
    answer = world.ask("ledger/post_entry")
    assert answer["visible"]
    assert not answer["callable"]
    assert "ledger--eu-1, ledger--us-1" in answer["verdict"]
    (conflict,) = findings(answer, "conflict")
    assert "qualified name" in conflict["mend"]
    assert world.ask("ledger--us-1/post_entry")["callable"]


def test_a_member_whose_definition_differs_is_named_with_the_majority(
    world: Any, nodes: Nodes, findings: Find, make_tool: Callable[..., Record]
) -> None:
    for node in nodes:
        world.hosts(node, "units", "convert", service="units", stateless=True)
    world.catalog.apply(nodes[0], [make_tool("units", "convert", "another release")], [])
    answer = world.ask("units/convert")
    agreed, other = findings(answer, "definition")
    assert (agreed["ok"], other["ok"]) == (True, False)
    assert agreed["text"].endswith("ap-1, us-1")
    assert "eu-1" in other["text"]
    by_node = {o["node"]: o for o in answer["owners"]}
    assert by_node["eu-1"]["why_not"] == "its definition differs from the one that is listed"
    assert by_node["eu-1"]["digest"] != by_node["us-1"]["digest"] == by_node["ap-1"]["digest"]
    assert "goes to ap-1 or us-1" in answer["verdict"]


def test_each_owner_that_is_not_chosen_says_why(world: Any, nodes: Nodes, findings: Find) -> None:
    for node in nodes:
        world.hosts(node, "units", "convert", service="units", stateless=True)
    world.becomes(nodes[2], Liveness.DRAINING)
    answer = world.ask("units/convert")
    why = {o["node"]: o["why_not"] for o in answer["owners"]}
    assert why["eu-1"] == ""
    assert "eu-1 is nearer" in why["us-1"]
    assert "drains" in why["ap-1"]
    assert answer["verdict"] == "visible to anonymous; a call now goes to eu-1 (this node)"
    assert [f["ok"] for f in findings(answer, "owner") if "drains" in f["text"]] == [None]


def test_a_record_that_is_refused_here_is_the_answer(world: Any, nodes: Nodes, findings: Find) -> None:
    world.hosts(nodes[1], "other", "x")
    refused = ((RecordKey(Kind.TOOL, "ledger/post_entry"), "its body has 9 MiB"),)
    world.peers["us-1"] = replace(world.peers["us-1"], rejected=refused, rejected_count=1)
    answer = world.ask("ledger/post_entry")
    assert answer["verdict"] == (
        "not in the mesh: its record is refused; tool 'ledger/post_entry' of us-1 is refused here: its body has 9 MiB"
    )
    (record,) = findings(answer, "record")
    assert record["mend"] == "mend it at us-1"


def test_a_record_of_ours_that_a_peer_refuses_is_told(world: Any, nodes: Nodes, findings: Find) -> None:
    world.hosts(nodes[0], "ledger", "post_entry")
    world.hosts(nodes[1], "other", "x")
    refused = ((RecordKey(Kind.TOOL, "ledger/post_entry"), "too large"),)
    world.peers["us-1"] = replace(world.peers["us-1"], refused_there=refused)
    (record,) = findings(world.ask("ledger/post_entry"), "record")
    assert record["text"] == "us-1 refuses this node's tool 'ledger/post_entry': too large"


def test_a_record_that_cannot_be_worked_with_is_told_until_it_is_mended(
    world: Any, nodes: Nodes, findings: Find, make_tool: Callable[..., Record]
) -> None:
    world.hosts(nodes[1], "ledger", "post_entry")
    world.catalog.apply(nodes[1], [Record.of(Kind.TOOL, "ledger/bad", {"name": "another"})], [])
    (record,) = findings(world.ask("ledger/bad"), "record")
    assert record["text"].startswith("tool 'ledger/bad' of us-1 cannot be worked with here: ")
    world.catalog.apply(nodes[1], [make_tool("ledger", "bad")], [])
    assert not findings(world.ask("ledger/bad"), "record")
    assert world.ask("ledger/bad")["callable"]


def test_an_own_record_that_may_not_leave_the_node_is_told(world: Any, nodes: Nodes, findings: Find) -> None:
    world.hosts(nodes[0], "ledger", "post_entry", "other")
    message = "tool 'ledger/post_entry': 9 MiB is too much"
    world.refusals = (Refusal("here", nodes[0].uri, Reason.RECORD, message, 0, 0),)
    (record,) = findings(world.ask("ledger/post_entry"), "record")
    assert record["text"] == f"this node does not publish its {message}"
    assert not findings(world.ask("ledger/other"), "record")


def test_a_server_of_the_catalogue_says_how_to_add_it(world: Any) -> None:
    world.catalogue = frozenset({"git"})
    answer = world.ask("git/log")
    assert answer["verdict"] == "not running: 'git' is in this node's catalogue and has not been added"
    assert "add_mcp_server" in answer["findings"][-1]["mend"]
    assert "approve" not in str(answer)
    world.unapproved = frozenset({"git"})
    assert "'toolmesh approve git'" in world.ask("git/log")["findings"][-1]["mend"]


def test_own_servers_that_are_still_starting_are_mentioned(world: Any, findings: Find) -> None:
    world.loaded = False
    assert "still being started" in findings(world.ask("git/log"), "server")[0]["text"]


def test_a_node_that_is_away_and_of_which_nothing_is_held_may_have_it(world: Any, nodes: Nodes, findings: Find) -> None:
    world.hosts(nodes[1], "other", "x")
    world.becomes(nodes[1], Liveness.DOWN)
    world.peers["us-1"] = replace(world.peers["us-1"], records=2)
    assert not findings(world.ask("git/log"), "owner")
    world.peers["us-1"] = replace(world.peers["us-1"], records=0)
    assert findings(world.ask("git/log"), "owner")[0]["text"].endswith("they may have it: us-1")


def test_a_node_that_left_is_not_said_to_hide_what_nobody_has(world: Any, nodes: Nodes, findings: Find) -> None:
    world.hosts(nodes[1], "other", "x")
    world.becomes(nodes[1], Liveness.LEFT)
    (owner,) = findings(world.ask("git/log"), "owner")
    assert owner["text"] == "left the mesh for good, and took what they had with them: us-1"


def test_a_tool_of_several_servers_lists_them(world: Any, nodes: Nodes) -> None:
    world.hosts(nodes[0], "ledger", "balance")
    world.hosts(nodes[1], "bank", "balance")
    answer = world.ask("balance")
    assert answer["verdict"] == "several: 2 servers have a tool 'balance': bank/balance, ledger/balance"
    assert not answer["visible"]


def test_a_stateful_service_says_that_sessions_stay(world: Any, nodes: Nodes, findings: Find) -> None:
    for node in nodes:
        world.hosts(node, "notes", "write", service="notes")
    assert findings(world.ask("notes/write"), "session")
    for node in nodes:
        world.hosts(node, "units", "convert", service="units", stateless=True)
    assert not findings(world.ask("units/convert"), "session")


def test_the_owners_are_bounded(world: Any, nodes: Nodes, findings: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case, "OWNERS_MAX", 2)
    for node in nodes:
        world.hosts(node, "units", "convert", service="units", stateless=True)
    answer = world.ask("units/convert")
    assert len(answer["owners"]) == 2
    assert findings(answer, "owner")[-1]["text"] == "and 1 more owner"
