"""A catalogue with owners in three regions, and the words to fill it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest

from node.catalog import Catalog
from proto.names import NodeId
from proto.records import Kind, Record

if TYPE_CHECKING:
    from tests.node.working import Work

EU, US, AP = (NodeId("mesh.test", region, f"{region}-1") for region in ("eu", "us", "ap"))


def server(name: str, *tools: str, state: str = "up", **more: Any) -> list[Record]:
    """A server record and one for each tool; `more` goes into the server's body."""
    body = {
        "name": name,
        "health": {"state": state, "cause": ""},
        "serverInfo": {"name": name, "version": "1"},
        "capabilities": {"tools": {}},
        **more,
    }
    return [Record.of(Kind.SERVER, name, body), *(tool(name, t) for t in tools)]


def tool(server_name: str, name: str, description: str = "") -> Record:
    definition = {"name": name, "description": description or name, "inputSchema": {"type": "object"}}
    return Record.of(Kind.TOOL, f"{server_name}/{name}", definition)


Fill = Callable[..., None]


@pytest.fixture
def catalog() -> Catalog:
    return Catalog(EU)


@pytest.fixture
def nodes() -> tuple[NodeId, NodeId, NodeId]:
    return EU, US, AP


@pytest.fixture
def make_server() -> Callable[..., list[Record]]:
    return server


@pytest.fixture
def make_tool() -> Callable[..., Record]:
    return tool


@pytest.fixture
async def work() -> AsyncIterator[Work]:
    # Most tests here need no whole node.
    from tests.node.working import Work

    work = Work()
    await work.start()
    yield work
    await work.close()
