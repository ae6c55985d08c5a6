"""Which eras a server speaks besides that of its main session, found out when that is needed, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from node.upstreams.connection import Connection
from node.upstreams.ending import to_the_end
from node.upstreams.era import Era, detect
from node.upstreams.keeping import Keeper
from node.upstreams.wire import logger
from proto.errors import MeshError

HANDSHAKE_TIMEOUT_S = 5.0
"""A server of 2026-07-28 that does not answer `initialize` within this time is taken not to know it."""


class Learning:
    """Of one server, for its keeper. Whoever needs the same thing waits for the same question to the server."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopped = False

    async def modern(self) -> None:
        """Settle `Keeper.modern`, by asking a process that serves for nothing else. Once for each version of a
        server."""
        if self._keeper.modern is None:
            await self._once("2026-07-28", self._discover)

    async def legacy(self) -> None:
        """Settle `Keeper.legacy` of a server whose main session is of 2026-07-28. Once for each main session."""
        if self._keeper.legacy is None and self._keeper.main_is_modern:
            await self._once("initialize", self._greet)

    async def stop(self) -> None:
        """Nothing of it is left when this returns."""
        self._stopped = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _once(self, what: str, ask: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._stopped:
            return
        task = self._tasks.get(what)
        if task is None or task.done():
            name = f"{self._keeper.spec.name}: does it know {what}"
            task = self._tasks[what] = asyncio.create_task(ask(), name=name)
        await asyncio.shield(task)

    async def _discover(self) -> None:
        # A server that may run but once is never started a second time only to be asked.
        keeper = self._keeper
        era = Era(keeper.transport, modern=False)
        if keeper.spec.sessions_max:
            try:
                era = await detect(keeper.spec)
            except MeshError as e:
                logger.debug("server %s: its era could not be learnt: %s", keeper.spec.name, e)
        keeper.learnt(era)

    async def _greet(self) -> None:
        keeper = self._keeper
        main = keeper.connection
        connection = Connection(keeper.spec, keeper.transport, _nothing)
        agreement = None
        try:
            async with asyncio.timeout(min(HANDSHAKE_TIMEOUT_S, keeper.spec.start_timeout_s)):
                await connection.open()
            agreement = connection.agreement
        except (MeshError, TimeoutError) as e:
            logger.debug("server %s: speaks 2026-07-28 alone: %s", keeper.spec.name, e or "timeout")
        finally:
            if keeper.connection is main:
                keeper.greeted(agreement)
            await to_the_end(connection.close("only asked for its era"))


def _nothing(_kind: str) -> None:
    """It is over too soon to follow changes."""
