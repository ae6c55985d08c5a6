"""Peers in one process, without a network: the twin of the other discoveries, for tests and simulations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from federation.ports import Found
from proto.names import NodeId


class Hub:
    """What the discoveries that share it have announced: an address by mesh and node."""

    def __init__(self) -> None:
        self.announced: dict[tuple[str, NodeId], str] = {}
        self.listeners: dict[object, Callable[[str, Found], None]] = {}

    def put(self, mesh: str, node: NodeId, address: str) -> None:
        self.announced[mesh, node] = address
        for tell in list(self.listeners.values()):
            tell(mesh, Found(address, node))


class MemoryDiscovery:
    """Finds and announces nodes of `mesh` in one `hub`."""

    def __init__(self, mesh: str, hub: Hub) -> None:
        self._mesh = mesh
        self._hub = hub
        self._own: NodeId | None = None

    async def run(self, found: Callable[[Found], None]) -> None:
        def tell(mesh: str, hint: Found) -> None:
            if mesh == self._mesh and hint.claimed != self._own:
                found(hint)

        for (mesh, node), address in list(self._hub.announced.items()):
            tell(mesh, Found(address, node))
        self._hub.listeners[self] = tell
        try:
            await asyncio.Event().wait()
        finally:
            del self._hub.listeners[self]

    async def announce(self, me: NodeId, address: str, mesh: str) -> None:
        self._own = me
        self._hub.put(mesh, me, address)

    async def withdraw(self) -> None:
        if self._own is not None:
            self._hub.announced.pop((self._mesh, self._own), None)

    @property
    def problem(self) -> str:
        return ""

    def __repr__(self) -> str:
        return f"MemoryDiscovery({self._mesh}, {self._own or 'nothing announced'})"
