"""All two-way connections of a node, whatever carries them: how many may be open, and their common end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from node.ingress.duplex import Duplex
from node.ingress.legacy import LegacyEdge
from node.ingress.modern import ModernEdge
from node.ingress.settings import IngressSettings
from proto.errors import Unavailable
from proto.records import Principal

CLOSE_S = 2.0
"""So long may the agents of a closing node take for what was written to them last."""


class Connections:
    """`none_left` is set while no connection is open and nothing of one is left."""

    def __init__(self, legacy: LegacyEdge, modern: ModernEdge, settings: IngressSettings) -> None:
        self._legacy = legacy
        self._modern = modern
        self._settings = settings
        self._open: set[Duplex] = set()
        self.none_left = asyncio.Event()
        self.none_left.set()

    def __repr__(self) -> str:
        return f"Connections({len(self._open)} of {self._settings.connections_max})"

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def opened(self, name: str | None, principal: Principal) -> AsyncIterator[Duplex]:
        """One connection of `principal` at the address `name`, ended on leaving. Raises `Unavailable` at the bound."""
        if len(self._open) >= self._settings.connections_max:
            raise Unavailable(f"{len(self._open)} connections are open; try again later, or at another node")
        duplex = Duplex(name, principal, self._legacy, self._modern, self._settings)
        self._open.add(duplex)
        self.none_left.clear()
        try:
            yield duplex
        finally:
            try:
                await duplex.end()
            finally:
                self._open.discard(duplex)
                if not self._open:
                    self.none_left.set()

    def recheck(self, valid: Callable[[Principal], bool]) -> None:
        """Close the connections of callers that are not `valid` any more."""
        for duplex in self._open:
            if not valid(duplex.incoming.principal):
                duplex.outbox.close()

    async def close(self) -> None:
        """End every connection. The edges come first: what they say to their subscribers is still written."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await asyncio.gather(*(duplex.finish() for duplex in self._open))
                await self.none_left.wait()
        except TimeoutError:
            await asyncio.gather(*(duplex.end() for duplex in self._open))
