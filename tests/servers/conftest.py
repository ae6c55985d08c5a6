"""Tests with the marker `servers` run MCP servers that are not ours: `make servers`; a plain run leaves them out."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.servers.world import World, lacking


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
