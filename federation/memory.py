"""The view store's twin in memory: for nodes that keep nothing, for tests and the simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from federation import epochs
from federation.events import Save
from federation.ports import SavedView
from proto.names import NodeId


class MemoryViewStore:
    """A `ViewStore` that lasts as long as the object."""

    def __init__(self) -> None:
        self._epoch = 0
        self._views: dict[NodeId, SavedView] = {}

    def __repr__(self) -> str:
        return f"MemoryViewStore(epoch {self._epoch}, {len(self._views)} views)"

    def open(self) -> None:
        """Nothing to do."""

    def begin_epoch(self, wall_ms: int, instance: bytes) -> int:
        self._epoch = epochs.first(self._epoch, wall_ms, instance)
        return self._epoch

    def raise_epoch(self, epoch: int) -> None:
        self._epoch = max(self._epoch, epoch)

    def views(self) -> Sequence[SavedView]:
        return tuple(self._views.values())

    def save(self, changes: Mapping[NodeId, Save], heard_ms: int) -> None:
        for owner, change in changes.items():
            held = self._views.get(owner)
            records = dict(held.records) if held else {}
            for key in change.deletes:
                records.pop(key, None)
            records.update(change.puts)
            self._views[owner] = SavedView(owner, change.version, change.instance, change.loaded, heard_ms, records)

    def heard(self, owners: Sequence[NodeId], heard_ms: int) -> None:
        for owner in owners:
            if (held := self._views.get(owner)) is not None:
                self._views[owner] = SavedView(owner, held.version, held.instance, held.loaded, heard_ms, held.records)

    def forget(self, owner: NodeId) -> None:
        self._views.pop(owner, None)

    def close(self) -> None:
        """Nothing to do: what was kept stays."""
