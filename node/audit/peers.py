"""What becomes of other nodes, put on record: how they fare, what is refused between them and us, and alarms.

The federation counts and keeps these for operators already; once in a while what is new there is told to the audit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from federation.events import Liveness
from node.audit.entries import rfc3339
from node.audit.port import Audit
from proto.names import NodeId
from proto.records import Record, RecordKey

if TYPE_CHECKING:
    from federation.driver import Federation
    from federation.ports import ViewListener

log = logging.getLogger("toolmesh.audit")

EVERY_S = 1.0


class PeerWatch:
    """A `ViewListener` in front of another one, that notes whose state may have changed."""

    def __init__(self, audit: Audit, listener: ViewListener, *, every_s: float = EVERY_S) -> None:
        self._audit = audit
        self._listener = listener
        self._every_s = every_s
        self._changed: dict[NodeId, Liveness] = {}
        # Of each peer the time of the last transition that was told, of refusals and alarms how often they were news.
        self._told: dict[NodeId, int] = {}
        self._news: dict[tuple[str, ...], int] = {}
        self._refusals = 0
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"PeerWatch({len(self._told)} peers)"

    def changed(self, owner: NodeId, puts: Sequence[Record], deletes: Sequence[RecordKey]) -> None:
        self._listener.changed(owner, puts, deletes)

    def liveness(self, owner: NodeId, state: Liveness, *, listed: bool) -> None:
        self._listener.liveness(owner, state, listed=listed)
        self._changed[owner] = state

    def start(self, federation: Federation) -> None:
        self._task = asyncio.create_task(self._run(federation), name="audit of peers")

    async def stop(self, federation: Federation | None) -> None:
        """Tell what is left to be told. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            if federation is not None:
                self.look(federation)

    async def _run(self, federation: Federation) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                self.look(federation)
            except Exception:
                log.exception("what became of peers could not be recorded")

    def look(self, federation: Federation) -> None:
        """Tell what is new since the last look. Costs nothing to speak of where nothing is."""
        if self._changed:
            changed, self._changed = self._changed, {}
            self._transitions(federation, changed)
        total = federation.refusals.totals.total()
        if total != self._refusals:
            self._refusals = total
            for r in reversed(federation.refusals.latest()):
                if self._is_news(("refusal", r.side, r.who, str(r.reason)), r.told_ms):
                    self._audit.peer(r.who, "refused", reason=r.message, side=r.side, why=str(r.reason), count=r.count)
        for a in reversed(federation.alarms):
            if self._is_news(("alarm", a.about, a.name), a.told_ms):
                self._audit.peer(a.about, "alarm", reason=a.message, alarm=a.name, count=a.count)

    def _transitions(self, federation: Federation, changed: dict[NodeId, Liveness]) -> None:
        known = {p.node: p for p in federation.peers() if p.node in changed}
        for node, state in changed.items():
            peer = known.get(node)
            if peer is None:
                # Gone from the roster already: what it became last is known all the same.
                self._told.pop(node, None)
                self._audit.peer(node.name, str(state), id=node.uri)
                continue
            told = self._told.get(node, 0)
            for t in peer.history:
                if t.at_ms > told:
                    self._told[node] = t.at_ms
                    since = rfc3339(t.at_ms)
                    self._audit.peer(node.name, str(t.state), reason=t.cause, id=node.uri, since=since)

    def _is_news(self, key: tuple[str, ...], told_ms: int) -> bool:
        if self._news.get(key, -1) >= told_ms:
            return False
        self._news.pop(key, None)
        self._news[key] = told_ms
        # As many as the federation itself keeps, and then some.
        while len(self._news) > 1_024:
            del self._news[next(iter(self._news))]
        return True
