"""Tests with the marker `oauth` ask a real authorization server: `make oauth`; a plain run leaves them out."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.identity_server.world import AuthorizationServer, lacking


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "oauth: asks a real authorization server; run by 'make oauth' (-m oauth)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Left out, not skipped: a skip says that something is missing here that should be there."""
    if config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("oauth")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


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
