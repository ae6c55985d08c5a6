"""Nodes on one machine find each other by multicast DNS over 127.0.0.1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from federation.discovery.mdns import MdnsDiscovery
from federation.ports import Found
from proto.errors import Invalid, Unavailable
from proto.names import NodeId

A, B, C = (NodeId.of("mesh.test", "eu", name) for name in "abc")
pytestmark = pytest.mark.timeout(30)


class Finder:
    """One node's discovery, running; `found` yields what it is told."""

    def __init__(self, mesh: str) -> None:
        self.discovery = MdnsDiscovery(mesh, interfaces=["127.0.0.1"])
        self.found: asyncio.Queue[Found] = asyncio.Queue()
        self._task = asyncio.create_task(self.discovery.run(self.found.put_nowait))

    async def stop(self) -> None:
        await self.discovery.withdraw()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


@pytest.fixture
async def finders() -> AsyncIterator[list[Finder]]:
    finders = [Finder("blue"), Finder("blue"), Finder("red")]
    yield finders
    await asyncio.gather(*(f.stop() for f in finders))


async def test_nodes_of_one_mesh_find_each_other_and_no_others(finders: list[Finder]) -> None:
    one, two, foreign = finders
    await foreign.discovery.announce(C, "127.0.0.1:7003", "red")
    await one.discovery.announce(A, "127.0.0.1:7001", "blue")
    await two.discovery.announce(B, "localhost:7002", "blue")
    assert await one.found.get() == Found("localhost:7002", B)
    assert await two.found.get() == Found("127.0.0.1:7001", A)
    assert foreign.found.empty()
    assert one.found.empty()
    assert "blue" in repr(one.discovery)


async def test_a_goodbye_deletes_nothing_and_a_return_is_told(finders: list[Finder]) -> None:
    one, two, _ = finders
    await two.discovery.announce(B, "127.0.0.1:7002", "blue")
    assert await one.found.get() == Found("127.0.0.1:7002", B)
    await two.discovery.withdraw()
    await two.discovery.withdraw()
    assert one.found.empty()
    await two.discovery.announce(B, "127.0.0.1:7012", "blue")
    assert await one.found.get() == Found("127.0.0.1:7012", B)


async def test_an_interface_that_is_not_ours_is_unavailable() -> None:
    discovery = MdnsDiscovery("blue", interfaces=["192.0.2.1"])
    with pytest.raises(Unavailable, match=r"192\.0\.2\.1"):
        await discovery.announce(A, "127.0.0.1:7001", "blue")
    await discovery.withdraw()


async def test_what_cannot_be_announced_is_invalid() -> None:
    discovery = MdnsDiscovery("blue", interfaces=["127.0.0.1"])
    with pytest.raises(Invalid, match="host:port"):
        await discovery.announce(A, "nowhere", "blue")
    with pytest.raises(Invalid, match="mesh name"):
        await discovery.announce(A, "127.0.0.1:1", "x" * 251)
    with pytest.raises(Invalid, match="interface"):
        MdnsDiscovery("blue", interfaces=["eth0"])
