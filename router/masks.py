"""Which slots a filter lets through: computed once for equal keys, then kept up with changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.ports import Filter, ToolEntry

MASKS_MAX = 64
JOURNAL_MAX = 10_000

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class View:
    """The documents that one filter class may see; good until the next change, and not to be written to.

    Shapes: `rows` and `slots` (capacity,) of their own kinds, `indices` the visible rows in order, (count,). A row is
    visible if one of its slots is. Equal `key` and `version`: the same rows with the same texts.
    """

    key: Hashable
    version: int
    rows: NDArray[np.bool_]
    indices: NDArray[np.int64]
    count: int
    everything: bool
    slots: NDArray[np.bool_]


@dataclass(slots=True)
class _Kept:
    mask: Mask
    version: int


class Masks:
    """At most 64 masks, the least recently used goes. A mask more than 10,000 changes behind is made anew."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._journal: list[int] = []
        self._base = 0

    @property
    def version(self) -> int:
        """Counts changes of slots."""
        return self._base + len(self._journal)

    def changed(self, slot: int) -> None:
        self._journal.append(slot)
        if len(self._journal) > JOURNAL_MAX:
            dropped = JOURNAL_MAX // 2
            del self._journal[:dropped]
            self._base += dropped

    def of(self, only: Filter, entries: Sequence[ToolEntry | None]) -> Mask:
        """bool, shape (len(entries),), False for free slots. The caller must not write to it."""
        kept = self._kept.get(only.key)
        if kept is None or kept.version < self._base:
            mask = np.fromiter((e is not None and only.allows(e) for e in entries), dtype=np.bool_, count=len(entries))
            kept = _Kept(mask, self.version)
        elif kept.version < self.version:
            if len(kept.mask) < len(entries):
                kept.mask = np.concatenate([kept.mask, np.zeros(len(entries) - len(kept.mask), np.bool_)])
            for slot in set(self._journal[kept.version - self._base :]):
                entry = entries[slot]
                kept.mask[slot] = entry is not None and only.allows(entry)
            kept.version = self.version
        self._kept[only.key] = kept
        self._kept.move_to_end(only.key)
        while len(self._kept) > MASKS_MAX:
            self._kept.popitem(last=False)
        return kept.mask
