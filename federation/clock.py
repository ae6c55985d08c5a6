"""The two clocks that the federation reads, in one place so that a test can bring its own."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """`now_ms` never goes back and decides; `wall_ms` is unix time, for epochs, ages on disk and people."""

    def now_ms(self) -> int: ...

    def wall_ms(self) -> int: ...


class SystemClock:
    def now_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000
