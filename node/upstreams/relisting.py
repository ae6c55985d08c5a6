"""What a server lists, kept current while its main session is open: listed again when it says so, and not otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from node.upstreams.connection import Connection
from node.upstreams.listing import CAPABILITIES
from node.upstreams.spec import UpstreamSpec
from node.upstreams.wire import logger
from proto.errors import MeshError

COALESCE_S = 0.05
RELIST_EVERY_S = 1.0
"""A server that announces changes without pause is listed once in this time."""


class Relisting:
    """`publish` takes lists by field of `Offer`; `doubt` hears when they could not be had."""

    def __init__(self, spec: UpstreamSpec, publish: Callable[..., None], doubt: Callable[[], None]) -> None:
        self._spec = spec
        self._publish = publish
        self._doubt = doubt
        self._stale: set[str] = set()
        self._connection: Connection | None = None
        self._up = False
        self._refreshing: asyncio.Task[None] | None = None

    def begin(self, connection: Connection) -> None:
        """This is the session to list from; everything is listed right after."""
        self._connection = connection
        self._stale.clear()

    def catch_up(self) -> None:
        """From here on changes are listed at once; so are those that came while everything was listed."""
        self._up = True
        if self._stale:
            self._soon()

    def end(self) -> None:
        self._connection = None
        self._up = False
        if self._refreshing is not None:
            self._refreshing.cancel()
            self._refreshing = None

    def changed(self, kind: str) -> None:
        """A capability whose lists are no longer what they were."""
        if kind in CAPABILITIES:
            self._stale.add(kind)
            if self._up:
                self._soon()

    def _soon(self) -> None:
        if self._connection is not None and (self._refreshing is None or self._refreshing.done()):
            self._refreshing = asyncio.create_task(self._refresh(self._connection))

    async def _refresh(self, connection: Connection) -> None:
        wait_s = COALESCE_S
        while self._stale:
            await asyncio.sleep(wait_s)
            wait_s = RELIST_EVERY_S
            kinds = frozenset(self._stale)
            self._stale.clear()
            try:
                async with asyncio.timeout(self._spec.start_timeout_s):
                    lists = await connection.lists(kinds)
            except (MeshError, TimeoutError) as e:
                what = ", ".join(sorted(kinds))
                logger.warning("server %s: %s could not be listed again: %s", self._spec.name, what, e or "timeout")
                self._doubt()
                return
            self._publish(**lists)
