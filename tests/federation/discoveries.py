"""What every discovery must do, whichever way it finds: the contract that its tests inherit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from federation.ports import Discovery, Found
from proto.names import NodeId

A, B, C = (NodeId.of("mesh.test", "eu", name) for name in "abc")
WAIT_S = 20.0


class Finder:
    """One node's discovery, running; `found` yields what it is told."""

    def __init__(self, discovery: Discovery) -> None:
        self.discovery = discovery
        self.found: asyncio.Queue[Found] = asyncio.Queue()
        self.task = asyncio.create_task(self.discovery.run(self.found.put_nowait))

    async def until(self, hint: Found) -> None:
        """Told again and again is fine; told something else is not what is waited for."""
        async with asyncio.timeout(WAIT_S):
            while await self.found.get() != hint:
                continue

    async def stop(self) -> None:
        await self.discovery.withdraw()
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


Make = Callable[[str], Finder]
"""A discovery for the mesh of that name, running."""


class DiscoveryContract:
    """Subclasses give the fixture `make`, which makes any number of `Finder`s in one world and stops them."""

    async def test_nodes_of_one_mesh_find_each_other_and_no_others(self, make: Make) -> None:
        one, two, foreign = make("blue"), make("blue"), make("red")
        await foreign.discovery.announce(C, "127.0.0.1:7003", "red")
        await one.discovery.announce(A, "127.0.0.1:7001", "blue")
        await two.discovery.announce(B, "localhost:7002", "blue")
        await one.until(Found("localhost:7002", B))
        await two.until(Found("127.0.0.1:7001", A))
        assert foreign.found.empty()
        assert one.found.empty()
        assert "blue" in repr(one.discovery)
        assert one.discovery.problem == ""

    async def test_who_comes_later_finds_who_is_there(self, make: Make) -> None:
        one = make("blue")
        await one.discovery.announce(A, "127.0.0.1:7001", "blue")
        await make("blue").until(Found("127.0.0.1:7001", A))
        await make("blue").until(Found("127.0.0.1:7001", A))

    async def test_a_departure_deletes_nothing_and_a_return_elsewhere_is_told(self, make: Make) -> None:
        one, two = make("blue"), make("blue")
        await two.discovery.announce(B, "127.0.0.1:7002", "blue")
        await one.until(Found("127.0.0.1:7002", B))
        await two.discovery.withdraw()
        await two.discovery.withdraw()
        await two.discovery.announce(B, "127.0.0.1:7012", "blue")
        await one.until(Found("127.0.0.1:7012", B))

    async def test_it_runs_until_it_is_cancelled_and_can_run_again(self, make: Make) -> None:
        one, two = make("blue"), make("blue")
        one.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one.task
        again = asyncio.create_task(one.discovery.run(one.found.put_nowait))
        await two.discovery.announce(B, "127.0.0.1:7002", "blue")
        await one.until(Found("127.0.0.1:7002", B))
        assert not again.done()
        again.cancel()
        with suppress(asyncio.CancelledError):
            await again


async def stop_all(finders: list[Finder]) -> None:
    stops: list[Awaitable[None]] = [finder.stop() for finder in finders]
    await asyncio.gather(*stops)
