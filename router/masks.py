"""What each class of callers may see: judged once for equal keys, then kept up with changes, a slice at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from router.ports import Filter, Narrowing
from router.slots import Slots

MASKS_MAX = 64
NARROWED_MAX = 16
SLICE = 4_000
"""Entries judged at a time, some 10 ms of a guard's work: between slices other searches go on."""


@dataclass(frozen=True, slots=True)
class View:
    """The documents that one filter class may see; good until the next change, and not to be written to.

    Shapes: `rows` (row capacity,), `slots` (slot capacity,), `indices` the visible rows in order, (count,). A row is
    visible if one of its slots is. `everything`: no row holds anything that is not visible. Equal `key` and `version`:
    the same rows with the same texts.
    """

    key: Hashable
    version: int
    rows: NDArray[np.bool_]
    indices: NDArray[np.int64]
    count: int
    everything: bool
    slots: NDArray[np.bool_]
    searched: int
    """How many slots may be seen."""


@dataclass(slots=True)
class _Class:
    """`mask` holds for every slot that changed up to `version`, but for those of `stale` from `at` on."""

    mask: NDArray[np.bool_]
    version: int = 0
    stale: NDArray[np.int64] | None = None
    at: int = 0
    until: int = 0
    touched: bool = True
    concluded: int = -1
    view: View | None = None


class Masks:
    """At most 64 classes (about 1.2 MB each at 100,000 tools); the least recently used goes and is judged anew.

    Beside them the last 16 narrowed views, as large, which nobody judges: they are cut out of the view of their class,
    and so push none of these out."""

    def __init__(self) -> None:
        self._classes: OrderedDict[Hashable, _Class] = OrderedDict()
        self._narrowed: OrderedDict[tuple[Hashable, Narrowing], tuple[View, View]] = OrderedDict()
        self._changed_at = np.zeros(0, dtype=np.int64)
        self._version = 0

    def __repr__(self) -> str:
        return f"Masks({len(self._classes)} classes, {len(self._narrowed)} narrowed, version {self._version})"

    def changed(self, slot: int) -> None:
        """The slot has another entry, or none, or its entry stands on another row."""
        self._version += 1
        if slot >= len(self._changed_at):
            grown = np.zeros(max(64, slot * 3 // 2, slot + 1), dtype=np.int64)
            grown[: len(self._changed_at)] = self._changed_at
            self._changed_at = grown
        self._changed_at[slot] = self._version

    def view(self, only: Filter, slots: Slots, budget: int = SLICE) -> View | None:
        """What `only` lets through; None while there is more to judge than `budget` entries: ask again."""
        view = self._judged(only, slots, budget)
        return view if view is None or only.narrowed is None else self._narrow(view, only.narrowed, slots)

    def _narrow(self, view: View, to: Narrowing, slots: Slots) -> View:
        key = view.key, to
        whole, narrowed = self._narrowed.pop(key, (None, None))
        if narrowed is None or whole is not view:
            narrowed = _cut(view, to, slots)
        self._narrowed[key] = view, narrowed
        while len(self._narrowed) > NARROWED_MAX:
            self._narrowed.popitem(last=False)
        return narrowed

    def _judged(self, only: Filter, slots: Slots, budget: int) -> View | None:
        kept = self._classes.get(only.key)
        if kept is None:
            kept = self._classes[only.key] = _Class(np.zeros(0, dtype=np.bool_))
        self._classes.move_to_end(only.key)
        while len(self._classes) > MASKS_MAX:
            self._classes.popitem(last=False)
        while kept.version < self._version:
            if kept.stale is None:
                kept.stale = np.flatnonzero(self._changed_at > kept.version)
                kept.at, kept.until = 0, self._version
            budget -= _judge(kept, only, slots, budget)
            if kept.at < len(kept.stale):
                return None
            kept.version, kept.stale = kept.until, None
        if kept.view is None or kept.concluded < kept.version:
            kept.view = _conclude(kept, only.key, slots)
            kept.concluded, kept.touched = kept.version, False
        return kept.view


def _judge(kept: _Class, only: Filter, slots: Slots, budget: int) -> int:
    """Judges the next stale slots, at most `budget`; returns how many."""
    assert kept.stale is not None  # noqa: S101 - the caller has looked
    if len(kept.mask) < len(slots.row_of):
        grown = np.zeros(len(slots.row_of), dtype=np.bool_)
        grown[: len(kept.mask)] = kept.mask
        kept.mask = grown
    batch = kept.stale[kept.at : kept.at + budget].tolist()
    mask, entries = kept.mask, slots.entries
    for slot in batch:
        entry = entries[slot]
        seen = entry is not None and only.allows(entry)
        if seen or mask[slot]:
            kept.touched = True
            mask[slot] = seen
    kept.at += len(batch)
    return len(batch)


def _conclude(kept: _Class, key: Hashable, slots: Slots) -> View:
    """A new view, or the old one where what changed meanwhile was hidden before and is hidden now."""
    before = kept.view
    if before is not None and not kept.touched:
        everything = before.count == slots.rows and before.searched == len(slots)
        if len(before.rows) == slots.capacity and len(before.slots) == len(kept.mask):
            return before if everything == before.everything else replace(before, everything=everything)
    version = before.version if before is not None and not kept.touched else kept.version
    return _view(key, version, kept.mask, slots)


def _cut(view: View, to: Narrowing, slots: Slots) -> View:
    """What of `view` is of the servers that are meant. Its version is that of `view`: what is hidden has no say."""
    if to.only is None:
        mask = view.slots.copy()
    else:
        mask = np.zeros_like(view.slots)
        among = slots.at(to.only)
        mask[among] = view.slots[among]
    mask[slots.at(to.without)] = False
    return _view((view.key, to), view.version, mask, slots)


def _view(key: Hashable, version: int, mask: NDArray[np.bool_], slots: Slots) -> View:
    seen = np.flatnonzero(mask)
    rows = np.zeros(slots.capacity, dtype=np.bool_)
    rows[slots.row_of[seen]] = True
    indices = np.flatnonzero(rows)
    # Rows of a snapshot that no entry stands on yet are there, too, and hidden.
    everything = len(indices) == slots.rows and len(seen) == len(slots)
    return View(key, version, rows, indices, len(indices), everything, mask, len(seen))
