"""Tests with the marker `servers` run MCP servers that are not ours: `make servers`; a plain run leaves them out."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.servers.world import World, lacking


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "servers: runs servers of npm and PyPI; run by 'make servers' (-m servers)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Left out, not skipped: a skip says that something is missing here that should be there."""
    if config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("servers")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One node for all of these tests, with every server up."""
    if reason := lacking():
        pytest.skip(reason)
    world = World(tmp_path_factory.mktemp("servers"))
    try:
        await world.start()
        yield world
    finally:
        await world.stop()
