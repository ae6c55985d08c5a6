"""One world of mirrors for each module, and clients that are kept between examples."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.node.mirrored.agents import Clients
from tests.node.mirrored.world import Mirrors, mirrors


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mirrors]:
    async with mirrors(tmp_path_factory.mktemp("mirrors")) as world:
        yield world


@pytest.fixture(scope="module")
def clients(world: Mirrors) -> Clients:
    return Clients(world.http, world.url)
