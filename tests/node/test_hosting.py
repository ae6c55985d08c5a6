"""Servers brought in at run time: by several at once, by one who leaves, and those that do not come up."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.catalog import Catalog
from node.hosting import Hosting
from node.upstreams.offer import Health
from node.upstreams.spec import UpstreamSpec
from proto.errors import Unavailable
from proto.names import NodeId
from proto.records import Kind

TEXT = Path(__file__).parents[2] / "deploy" / "examples" / "servers" / "text.py"
GOOD = UpstreamSpec("text", command=(sys.executable, str(TEXT)))
DIES = UpstreamSpec("dies", command=(sys.executable, "-c", "raise SystemExit(3)"))


@pytest.fixture
async def hosting(catalog: Catalog) -> AsyncIterator[Hosting]:
    hosting = Hosting(catalog, lambda puts, deletes: None)
    yield hosting
    await hosting.stop()


def state(catalog: Catalog, nodes: tuple[NodeId, ...], name: str) -> str:
    server = catalog.find(nodes[0].name, name)
    return "" if server is None else str(server.health.get("state"))


async def test_two_who_add_a_server_that_dies_are_both_told_why_and_nothing_is_left(
    hosting: Hosting, catalog: Catalog, nodes: tuple[NodeId, ...]
) -> None:
    told = await asyncio.gather(*(hosting.add("dies", DIES) for _ in range(3)), return_exceptions=True)
    assert [type(e) for e in told] == [Unavailable] * 3
    assert all("status 3" in str(e) for e in told)
    assert catalog.find(nodes[0].name, "dies") is None
    with pytest.raises(Unavailable):
        hosting.target("dies")


async def test_a_server_that_failed_can_be_added_again_at_once(hosting: Hosting) -> None:
    for _ in range(2):
        with pytest.raises(Unavailable, match="status 3"):
            await hosting.add("dies", DIES)


async def test_two_who_add_one_server_start_it_once_and_it_is_remembered_once(
    hosting: Hosting, catalog: Catalog, nodes: tuple[NodeId, ...]
) -> None:
    remembered: list[str] = []
    await asyncio.gather(*(hosting.add("text", GOOD, remembered.append) for _ in range(2)))
    assert remembered == ["text"]
    assert state(catalog, nodes, "text") == "up"


async def test_who_stops_waiting_does_not_stop_the_start_for_the_others(
    hosting: Hosting, catalog: Catalog, nodes: tuple[NodeId, ...]
) -> None:
    remembered: list[str] = []
    leaving = asyncio.create_task(hosting.add("text", GOOD, remembered.append))
    staying = asyncio.create_task(hosting.add("text", GOOD, remembered.append))
    await asyncio.sleep(0)
    leaving.cancel()
    await staying
    assert leaving.cancelled()
    assert (remembered, state(catalog, nodes, "text")) == (["text"], "up")


async def test_a_server_is_known_as_starting_until_it_is_up(
    hosting: Hosting, catalog: Catalog, nodes: tuple[NodeId, ...]
) -> None:
    seen: list[str] = []
    catalog.listen(lambda *_: seen.append(state(catalog, nodes, "text")))
    await hosting.start({"text": GOOD})
    assert state(catalog, nodes, "text") == "starting"
    await hosting.settled()
    assert state(catalog, nodes, "text") == "up"
    server = catalog.find(nodes[0].name, "text")
    assert server is not None
    assert server.members[Kind.TOOL]
    assert seen[0] == "starting"


async def test_a_stop_while_a_server_is_being_added_ends_both(
    hosting: Hosting, catalog: Catalog, nodes: tuple[NodeId, ...]
) -> None:
    sleeps = UpstreamSpec("sleeps", command=(sys.executable, "-c", "import time; time.sleep(600)"))
    begun = asyncio.Event()
    catalog.listen(lambda *_: begun.set())
    adding = asyncio.create_task(hosting.add("sleeps", sleeps))
    await begun.wait()
    await hosting.stop()
    with pytest.raises(Unavailable, match="did not start"):
        await adding
    assert catalog.find(nodes[0].name, "sleeps") is None
    with pytest.raises(Unavailable, match="stopping"):
        await hosting.add("sleeps", sleeps)


@pytest.mark.parametrize("turns", [1, 2, 5])
async def test_what_is_dropped_while_it_is_added_does_not_come_up(
    hosting: Hosting, catalog: Catalog, nodes: tuple[NodeId, ...], turns: int
) -> None:
    remembered: list[str] = []
    adding = asyncio.create_task(hosting.add("text", GOOD, remembered.append))
    for _ in range(turns):
        await asyncio.sleep(0)
    await hosting.drop("text")
    with pytest.raises(Unavailable, match="did not start"):
        await adding
    assert (catalog.find(nodes[0].name, "text"), remembered) == (None, [])
    await hosting.drop("text")


async def test_a_name_in_retry_safe_that_no_tool_bears_is_said_once(
    hosting: Hosting, caplog: pytest.LogCaptureFixture
) -> None:
    await hosting.add("text", replace(GOOD, retry_safe=("count_words", "cuont", "ant")))
    upstream = hosting._upstreams["text"]
    hosting._told(upstream, replace(upstream.offer, health=Health("down", 1, "it exited")))
    hosting._told(upstream, upstream.offer)
    said = [m for m in caplog.messages if "retry_safe" in m]
    assert said == ["server text: retry_safe names what is no tool of it: ant, cuont"]
