"""What operators and callers are shown of servers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from node.catalog import Catalog
from node.operations import _server
from node.ports import Resource
from proto.names import NodeId
from proto.records import Record


@dataclass(frozen=True)
class Without:
    """Hides one tool."""

    tool: str
    key: Hashable = "without"

    def allows(self, resource: Resource) -> bool:
        return resource.tool != self.tool


def test_a_server_counts_only_the_tools_that_its_reader_may_see(
    catalog: Catalog, nodes: tuple[NodeId, ...], make_server: Callable[..., list[Record]]
) -> None:
    catalog.apply(nodes[1], make_server("db", "read", "drop"), [])
    server = catalog.find("us-1", "db")
    assert server is not None
    assert [_server(catalog, server, Without(tool))["tools"] for tool in ("none", "drop")] == [2, 1]
