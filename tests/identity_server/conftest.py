"""Tests with the marker `oauth` ask a real authorization server: `make oauth`; a plain run leaves them out."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.identity_server.world import AuthorizationServer, lacking


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def authorities(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[AuthorizationServer]]:
    """Two of them, which know the same people and each its own keys."""
    if reason := lacking():
        pytest.skip(reason)
    servers = [AuthorizationServer(tmp_path_factory.mktemp(name)) for name in ("first", "second")]
    try:
        for server in servers:
            await server.start()
        yield servers
    finally:
        for server in servers:
            await server.stop()
