"""A server that is coming up is waited for, by those who may see it and no longer than it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from federation.events import Liveness
from node.catalog import Catalog
from node.endpoints.starting import Starting
from node.guard.keys import ApiKey
from proto.names import NodeId
from proto.records import Kind, Principal, Record
from tests.node.guards import KeyGuard

Nodes = tuple[NodeId, NodeId, NodeId]
MakeServer = Callable[..., list[Record]]

CLERK = Principal("clerk", "mesh.test", kind="key")
INTERN = Principal("intern", "mesh.test", kind="key")
KEYS = KeyGuard([ApiKey("clerk", b"1" * 32), ApiKey("intern", b"2" * 32, servers=("wiki",))], "mesh.test")
PATIENCE_S = 10.0


def silent(name: str, state: str, **more: str) -> list[Record]:
    """A server that has not said yet what it is."""
    return [Record.of(Kind.SERVER, name, {"name": name, "health": {"state": state, "cause": ""}, **more})]


async def waiting(starting: Starting, name: str = "late") -> asyncio.Task[None]:
    """Who waits already."""
    task = asyncio.create_task(starting.over(name, CLERK))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def over(task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await task


@pytest.mark.parametrize("where", [0, 1])
async def test_who_asks_waits_until_it_is_up_at_whichever_node(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer, where: int
) -> None:
    owner, starting = nodes[where], Starting(catalog, KEYS, wait_s=600)
    catalog.apply(owner, silent("late", "starting"), [])
    first, second, other = [await waiting(starting) for _ in range(3)]
    other.cancel()
    catalog.apply(nodes[2], make_server("other"), [])
    await asyncio.sleep(0)
    assert not first.done()
    catalog.apply(owner, make_server("late"), [])
    await over(first)
    await over(second)


async def test_a_server_that_fails_ends_the_wait_at_once(catalog: Catalog, nodes: Nodes) -> None:
    catalog.apply(nodes[0], silent("late", "starting"), [])
    task = await waiting(Starting(catalog, KEYS, wait_s=600))
    catalog.apply(nodes[0], silent("late", "down"), [])
    await over(task)


async def test_an_owner_that_falls_silent_ends_the_wait_at_once(catalog: Catalog, nodes: Nodes) -> None:
    catalog.apply(nodes[1], silent("late", "starting"), [])
    task = await waiting(Starting(catalog, KEYS, wait_s=600))
    catalog.set_liveness(nodes[1], Liveness.DOWN)
    await over(task)


async def test_of_a_service_one_that_is_up_suffices_and_one_that_starts_is_waited_for(
    catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    starting = Starting(catalog, KEYS, wait_s=600)
    catalog.apply(nodes[0], silent("late", "down", service="late"), [])
    catalog.apply(nodes[1], silent("late", "starting", service="late"), [])
    task = await waiting(starting)
    catalog.apply(nodes[2], make_server("late", service="late"), [])
    await over(task)
    await over(asyncio.create_task(starting.over("late", CLERK)))


@pytest.mark.parametrize("state", ["up", "down", "unknown"])
async def test_nothing_else_is_waited_for(catalog: Catalog, nodes: Nodes, state: str) -> None:
    catalog.apply(nodes[0], silent("late", state), [])
    starting = Starting(catalog, KEYS, wait_s=600)
    for name in ("late", "nothing-there", "Not A Name"):
        await over(asyncio.create_task(starting.over(name, CLERK)))


async def test_who_may_not_see_it_cannot_tell_that_it_starts(catalog: Catalog, nodes: Nodes) -> None:
    catalog.apply(nodes[0], silent("payroll", "starting"), [])
    starting = Starting(catalog, KEYS, wait_s=600)
    visible = await waiting(starting, "payroll")
    await over(asyncio.create_task(starting.over("payroll", INTERN)))
    visible.cancel()


async def test_the_wait_is_bounded(catalog: Catalog, nodes: Nodes) -> None:
    catalog.apply(nodes[0], silent("late", "starting"), [])
    await over(asyncio.create_task(Starting(catalog, KEYS, wait_s=0.01).over("late", CLERK)))
