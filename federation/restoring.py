"""Views from disk, put back while the node already answers: what is remembered of peers must not delay its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from federation.clock import Clock
from federation.finding import unfit
from federation.ports import SavedView, ViewStore
from federation.view import View
from proto.errors import MeshError
from proto.names import NodeId

log = logging.getLogger("toolmesh.federation.restoring")

EARLY_MAX = 512
"""Peers remembered that dial in meanwhile; more are met when they dial again."""


class Restoration:
    """`run` once. Who dials in before it is `done` is met afterwards: its view must be the one that was saved."""

    def __init__(
        self, store: ViewStore, clock: Clock, make: Callable[..., View], put_back: Callable[[View], None], me: NodeId
    ) -> None:
        """`make` is `View.restored` but for what is saved and its age; `put_back` makes a peer of the view."""
        self._store = store
        self._clock = clock
        self._make = make
        self._put_back = put_back
        self._me = me
        self._early: dict[NodeId, str] = {}
        self.done = False
        self.problem: MeshError | None = None
        """Why the disk could not be read: then nothing may be saved, on top of what is there, either."""

    def __repr__(self) -> str:
        return f"Restoration({'done' if self.done else f'{len(self._early)} peers wait'})"

    def defers(self, peer: NodeId, address: str) -> bool:
        """Whether a peer that dials in now, and can be dialled at `address`, is met later."""
        if not self.done and len(self._early) < EARLY_MAX:
            self._early[peer] = address
        return not self.done

    async def run(self) -> dict[NodeId, str]:
        """Returns who has dialled in meanwhile, and their addresses. If the disk fails, `problem` says so."""
        try:
            for saved in await asyncio.to_thread(self._store.views):
                if unfit(self._me, saved.owner) is None:
                    view = self._revive(saved)
                    log.info("%r restored from disk", view)
                    self._put_back(view)
                    await asyncio.sleep(0)
        except MeshError as e:
            self.problem = e
        self.done = True
        return self._early

    def _revive(self, saved: SavedView) -> View:
        return self._make(
            saved.owner,
            version=saved.version,
            instance=saved.instance,
            loaded=saved.loaded,
            records=saved.records.values(),
            age_ms=self._clock.wall_ms() - saved.heard_ms,
            now_ms=self._clock.now_ms(),
        )
