"""Tests with the marker `lab` build networks and need root: `make lab` runs them, a plain run leaves them out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.lab import netns
from tests.lab.fleet import Fleet, stamping, told
from tests.lab.net import Lab
from tests.lab.world import DELAYS, MANY, REGIONS, World


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The nine nodes come last: what they do on the side is no load to the others then."""
    items.sort(key=lambda item: "nine" in getattr(item, "fixturenames", ()))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("lab") and (reason := netns.lacking()):
        pytest.skip(reason)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Three regions of three nodes, started once for all scenarios; each leaves them whole."""
    directory = tmp_path_factory.mktemp("lab")
    stamps = directory / "stamps"

    def servers(node: str) -> dict[str, dict[str, Any]]:
        own = stamping(node, stamps, MANY if node == "us-3" else 0)
        replica = stamping(node, stamps, service="stamp", stateless=True)
        # The third node of each region is there to be entered at.
        return {"own": own} if node.endswith("3") else {"own": own, "replica": replica}

    async with await Lab.up(REGIONS, DELAYS) as lab, Fleet(lab, directory, servers) as fleet:
        await fleet.start()
        world = World(lab, fleet, stamps)
        await world.whole()
        began = time.time()
        yield world
        told(f"of three seconds the machine kept from running at most: {fleet.standstill(began)}")


@pytest_asyncio.fixture(loop_scope="session")
async def world(nine: World) -> AsyncIterator[World]:
    """The nine nodes, whole. What a scenario broke and, having failed, has not mended is mended after it."""
    await nine.whole()
    nine.begin()
    yield nine
    nine.lab.heal()
    await nine.fleet.revive()
