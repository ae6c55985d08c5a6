"""Views written behind: changes of one owner merge while the disk is busy, so nothing queues and the loop never waits.

What a crash loses is the latest of it, never half of a change: each write is one transaction of whole `Save`s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from federation.events import Save
from federation.ports import ViewStore
from proto.errors import MeshError
from proto.names import NodeId

log = logging.getLogger("toolmesh.federation.saving")

GATHER_S = 0.1
"""What changes within this time is written together, and not while the news itself is on its way to the others."""

RETRY_S = 5.0
"""After a failed write. What waits meanwhile is bounded by the size of the views."""


class Saver:
    """The one user of a `ViewStore` while the node runs."""

    def __init__(self, store: ViewStore, wall_ms: Callable[[], int]) -> None:
        self._store = store
        self._wall_ms = wall_ms
        self._pending: dict[NodeId, Save] = {}
        self._forgotten: set[NodeId] = set()
        self._heard: set[NodeId] = set()
        self._wake = asyncio.Event()
        self._failing = False

    def save(self, owner: NodeId, change: Save) -> None:
        before = self._pending.get(owner)
        self._pending[owner] = change if before is None else before.then(change)
        self._wake.set()

    def forget(self, owner: NodeId) -> None:
        self._pending.pop(owner, None)
        self._forgotten.add(owner)
        self._wake.set()

    def heard(self, owners: Iterable[NodeId]) -> None:
        self._heard.update(owners)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            self._wake.clear()
            if not await self.flush():
                await asyncio.sleep(RETRY_S)
                self._wake.set()

    async def flush(self) -> bool:
        """Write what waits. False, and it goes on waiting, if the disk failed."""
        pending, self._pending = self._pending, {}
        forgotten, self._forgotten = self._forgotten, set()
        heard, self._heard = self._heard, set()
        writing = asyncio.ensure_future(asyncio.to_thread(self._write, pending, forgotten, heard))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            # The thread goes on; whoever writes or closes next must not meet it.
            await asyncio.wait({writing})
            if writing.exception() is not None:
                self._put_back(pending, forgotten, heard)
            raise
        except MeshError as e:
            if not self._failing:
                log.error("views cannot be saved, the node runs on without: %s", e.message)
            self._failing = True
            self._put_back(pending, forgotten, heard)
            return False
        self._failing = False
        return True

    def _write(self, pending: dict[NodeId, Save], forgotten: set[NodeId], heard: set[NodeId]) -> None:
        for owner in forgotten:
            self._store.forget(owner)
        if pending:
            self._store.save(pending, self._wall_ms())
        if heard:
            self._store.heard(sorted(heard), self._wall_ms())

    def _put_back(self, pending: dict[NodeId, Save], forgotten: set[NodeId], heard: set[NodeId]) -> None:
        newer, self._pending = self._pending, pending
        for owner in self._forgotten:
            self._pending.pop(owner, None)
        for owner, change in newer.items():
            self.save(owner, change)
        self._forgotten |= forgotten
        self._heard |= heard
