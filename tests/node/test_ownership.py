"""What a server's owner lays down about it: whose it is, which scopes it takes, which of its tools are offered."""

from __future__ import annotations

from typing import Any

import pytest

from node.catalog import Catalog
from node.offers import Offered
from node.ownership import ownership_of
from node.upstreams.offer import Health, Offer
from node.upstreams.spec import UpstreamSpec
from proto.errors import Invalid
from proto.names import NodeId
from proto.records import Kind, Record

EU = NodeId("mesh.test", "eu", "eu-1")


def offer(**laid_down: Any) -> Offer:
    tools = tuple({"name": name, "inputSchema": {}} for name in ("read", "read_all", "drop", "drop_all"))
    spec = UpstreamSpec("files", command=("files",), **laid_down)
    return Offer(spec, Health("up", 0), capabilities={"tools": {}}, tools=tools)


@pytest.mark.parametrize(
    ("lists", "offered"),
    [
        ({}, ["drop", "drop_all", "read", "read_all"]),
        ({"tools_allow": ("read*",)}, ["read", "read_all"]),
        ({"tools_block": ("drop*",)}, ["read", "read_all"]),
        ({"tools_allow": ("*_all",), "tools_block": ("drop*",)}, ["read_all"]),
        ({"tools_allow": ("nothing",)}, []),
    ],
)
def test_a_tool_that_is_left_out_is_published_to_nobody(lists: dict[str, Any], offered: list[str]) -> None:
    puts, _ = Offered().take(offer(**lists))
    assert sorted(r.data()["name"] for r in puts if r.kind is Kind.TOOL) == offered
    assert "drop" not in str([r.body for r in puts if r.kind is Kind.SERVER])


def test_whose_a_server_is_and_what_it_takes_reach_the_guard_of_every_node() -> None:
    laid_down = {"tenant": "acme", "teams": ("ops",), "scopes": {"read*": ("files:read",), "*_all": ("files:all",)}}
    puts, _ = Offered().take(offer(**laid_down))
    catalog = Catalog(NodeId("mesh.test", "us", "us-1"))
    catalog.apply(EU, puts, [])
    server = catalog.find("eu-1", "files")
    assert server is not None
    assert (server.resource().tenant, server.resource().teams, server.resource().scopes) == ("acme", ("ops",), ())
    assert server.resource("read_all").scopes == ("files:read", "files:all")
    assert server.resource("read").scopes == ("files:read",)
    assert server.resource("read") is server.resource("read")


def test_what_was_asked_about_is_made_anew_when_the_server_says_something_else() -> None:
    catalog = Catalog(EU)
    offered = Offered()
    catalog.apply(EU, offered.take(offer(tenant="acme"))[0], [])
    server = catalog.find("eu-1", "files")
    assert server is not None
    before = server.resource("read")
    catalog.apply(EU, offered.take(offer(tenant="other"))[0], [])
    assert (before.tenant, server.resource("read").tenant) == ("acme", "other")


@pytest.mark.parametrize(
    "body",
    [
        {"tenant": ["acme"]},
        {"tenant": "a" * 300},
        {"teams": "ops"},
        {"teams": [""]},
        {"teams": ["t"] * 65},
        {"scopes": ["x"]},
        {"scopes": {"*": "files:read"}},
        {"scopes": {"*": [1]}},
        {"scopes": {"*" * 300: ["s"]}},
        {"scopes": {str(n): ["s"] for n in range(257)}},
    ],
)
def test_a_server_whose_ownership_cannot_be_read_is_not_known_at_all(body: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        ownership_of(body)
    catalog = Catalog(EU)
    catalog.apply(EU, [Record.of(Kind.SERVER, "files", {"name": "files", **body})], [])
    found = catalog.find("eu-1", "files")
    assert found is None or found.info is None
