"""What a person types is understood in every form in which tools are shown."""

from __future__ import annotations

from typing import Any

import pytest

from node.explaining.asked import Meant, understand
from proto.names import NodeId, listed_tool

Nodes = tuple[NodeId, NodeId, NodeId]


@pytest.mark.parametrize(
    ("typed", "server", "tool"),
    [
        ("ledger/post_entry", "ledger", "post_entry"),
        ("ledger__post_entry", "ledger", "post_entry"),
        ("ledger--eu-1/post_entry", "ledger--eu-1", "post_entry"),
        ("ledger--eu-1", "ledger--eu-1", ""),
        ("ledger", "ledger", ""),
        ("post_entry", "ledger", "post_entry"),
        ("ledger/a/b", "ledger", "a/b"),
        ("with__underscores", "ledger", "with__underscores"),
        ("nowhere", "nowhere", ""),
        ("nowhere/x", "nowhere", "x"),
        ("No Such Thing", "", "No Such Thing"),
        ("", "", ""),
    ],
)
def test_each_form_names_a_server_and_a_tool(world: Any, nodes: Nodes, typed: str, server: str, tool: str) -> None:
    world.hosts(nodes[0], "ledger", "post_entry", "a/b", "with__underscores")
    meant = understand(typed, world.catalog)
    assert (meant.server, meant.tool) == (server, tool)


def test_a_listed_name_that_was_rewritten_is_found_by_its_hash(world: Any, nodes: Nodes) -> None:
    tool = "a tool/with signs that no model API takes, and far too long to be listed as it stands"
    world.hosts(nodes[0], "ledger", tool)
    assert understand(listed_tool("ledger", tool), world.catalog) == Meant("ledger", tool)


def test_a_tool_that_several_servers_have_is_not_guessed(world: Any, nodes: Nodes) -> None:
    world.hosts(nodes[0], "ledger", "balance")
    world.hosts(nodes[1], "bank", "balance")
    assert understand("balance", world.catalog) == Meant("", "balance", ("bank", "ledger"))
