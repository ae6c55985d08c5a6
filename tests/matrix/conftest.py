"""The nodes of the matrix: one set for each module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.matrix.world import World, worlds


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with worlds(tmp_path_factory.mktemp("matrix")) as made:
        yield made
