"""The in-memory twin finds as the others do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from federation.discovery.memory import Hub, MemoryDiscovery
from tests.federation.discoveries import DiscoveryContract, Finder, Make, stop_all


class TestMemory(DiscoveryContract):
    @pytest.fixture
    async def make(self) -> AsyncIterator[Make]:
        hub, finders = Hub(), list[Finder]()

        def make(mesh: str) -> Finder:
            finders.append(Finder(MemoryDiscovery(mesh, hub)))
            return finders[-1]

        yield make
        await stop_all(finders)
        assert not hub.listeners
        assert not hub.announced
