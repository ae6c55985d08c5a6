"""Peers from a list."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from federation.discovery.static import StaticDiscovery
from federation.ports import Found
from proto.errors import Invalid
from proto.names import NodeId


async def test_each_address_of_a_list_is_found_once() -> None:
    discovery = StaticDiscovery(["a:1", "[::1]:2", "a:1"])
    found: list[Found] = []
    both = asyncio.Event()

    def take(hint: Found) -> None:
        found.append(hint)
        if len(found) == 2:
            both.set()

    task = asyncio.create_task(discovery.run(take))
    await both.wait()
    await discovery.announce(NodeId.of("mesh.test", "eu", "a"), "a:1", "mesh")
    await discovery.withdraw()
    assert not task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert found == [Found("a:1"), Found("[::1]:2")]
    assert repr(discovery) == "StaticDiscovery(a:1, [::1]:2)"


@pytest.mark.parametrize("bad", ["", "a", "a:", "a:b", ":1", "a:0", "a:70000", "::1:1"])
def test_a_malformed_address_is_refused_when_the_list_is_read(bad: str) -> None:
    with pytest.raises(Invalid, match="host:port"):
        StaticDiscovery(["ok:1", bad])
