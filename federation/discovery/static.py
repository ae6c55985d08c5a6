"""Peers from a list: the addresses that an operator wrote down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from federation.ports import AGAIN_S, Found
from federation.tls import split_address
from proto.names import NodeId


class StaticDiscovery:
    """`addresses` are `host:port`; a node's own may be among them, so that all nodes can share one list.

    Raises `Invalid` for a malformed address.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        for address in addresses:
            split_address(address)
        self._addresses = tuple(dict.fromkeys(addresses))

    async def run(self, found: Callable[[Found], None]) -> None:
        """The same addresses every `AGAIN_S`, until cancelled: a list does not change."""
        while True:
            for address in self._addresses:
                found(Found(address))
            await asyncio.sleep(AGAIN_S)

    async def announce(self, me: NodeId, address: str, mesh: str) -> None:
        """Nothing: whoever wants to find this node has it on a list."""

    async def withdraw(self) -> None:
        """Nothing was announced."""

    @property
    def problem(self) -> str:
        return ""

    def __repr__(self) -> str:
        first = ", ".join(self._addresses[:3])
        more = len(self._addresses) - 3
        return f"StaticDiscovery({first}, and {more} more)" if more > 0 else f"StaticDiscovery({first})"
