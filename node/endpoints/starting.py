"""Patience with a server that is coming up: desktop agents ask once, and take a refusal for good."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from node.catalog import SERVING, Catalog
from node.ports import Action, Guard
from proto.errors import MeshError
from proto.records import Principal

START_WAIT_S = 10.0


class Starting:
    """`wait_s` bounds each wait. Who waits holds the connection that it asks on and no more."""

    def __init__(self, catalog: Catalog, guard: Guard, wait_s: float = START_WAIT_S) -> None:
        self._catalog = catalog
        self._guard = guard
        self._wait_s = wait_s

    async def over(self, name: str, principal: Principal) -> None:
        """Until the server, or one of the service, has said what it is, here or at another node; or none will.

        At once where nothing is coming up: it is down, its owner is silent, or there is none that `principal` may see.
        Never raises.
        """
        if not self._coming_up(name, principal):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._wait_s):
                while self._coming_up(name, principal):
                    await self._catalog.change()

    def _coming_up(self, name: str, principal: Principal) -> bool:
        try:
            servers = self._catalog.route(name, self._guard.visible(principal, Action.LIST)).servers
        except MeshError:
            return False
        if any(s.introduced for s in servers):
            return False
        return any(s.health.get("state") == "starting" and s.owner.liveness in SERVING for s in servers)
