"""Views of rows for tests of what is scored by row."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from router.masks import View

_versions = itertools.count()


def view(rows: Iterable[int], capacity: int, *, everything: bool = False) -> View:
    """One that no other view is mistaken for: its version is its own."""
    mask = np.zeros(capacity, dtype=np.bool_)
    mask[list(rows)] = True
    indices = np.flatnonzero(mask)
    return View("test", next(_versions), mask, indices, len(indices), everything, mask, len(indices))
