"""What a value holds in memory, measured rather than added up."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def weighed(make: Callable[[], T]) -> tuple[T, int]:
    """What `make` returns, and the bytes of everything it allocated that is still there."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        made = make()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return made, after - before
