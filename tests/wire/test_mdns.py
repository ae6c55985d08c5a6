"""Nodes on one machine find each other by multicast DNS over 127.0.0.1."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from federation.discovery.mdns import MdnsDiscovery
from proto.errors import Invalid, Unavailable
from tests.federation.discoveries import A, DiscoveryContract, Finder, Make, stop_all

pytestmark = pytest.mark.timeout(30)


class TestMdns(DiscoveryContract):
    @pytest.fixture
    async def make(self) -> AsyncIterator[Make]:
        finders = list[Finder]()

        def make(mesh: str) -> Finder:
            finders.append(Finder(MdnsDiscovery(mesh, interfaces=["127.0.0.1"])))
            return finders[-1]

        yield make
        await stop_all(finders)


async def test_an_interface_that_is_not_ours_is_unavailable() -> None:
    discovery = MdnsDiscovery("blue", interfaces=["192.0.2.1"])
    with pytest.raises(Unavailable, match=r"192\.0\.2\.1"):
        await discovery.announce(A, "127.0.0.1:7001", "blue")
    assert "192.0.2.1" in discovery.problem
    await discovery.withdraw()


async def test_what_cannot_be_announced_is_invalid() -> None:
    discovery = MdnsDiscovery("blue", interfaces=["127.0.0.1"])
    with pytest.raises(Invalid, match="host:port"):
        await discovery.announce(A, "nowhere", "blue")
    with pytest.raises(Invalid, match="mesh name"):
        await discovery.announce(A, "127.0.0.1:1", "x" * 251)
    with pytest.raises(Invalid, match="interface"):
        MdnsDiscovery("blue", interfaces=["eth0"])
