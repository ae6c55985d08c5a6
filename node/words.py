"""Numbers and spans of time, as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta


def count(number: int, what: str) -> str:
    """`1 tool`, `2 tools`."""
    return f"{number} {what}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """In the largest whole unit: `59 s`, `2 min`, `3 h`, `4 d`."""
    whole = int(seconds)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def since(at: datetime, now: datetime) -> str:
    """When, and how long ago."""
    return f"{clock(at, now)}, {duration(max(0.0, (now - at).total_seconds()))}"


def clock(at: datetime, now: datetime) -> str:
    """The time of day, with the day where that is not the last one."""
    return f"{at:%H:%M:%S}" if now - at < timedelta(days=1) else f"{at:%Y-%m-%d %H:%M}"


def ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} ms"


def size(number: float) -> str:
    """Bytes: `812 B`, `1.2 kB`, `3.4 MB`."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= limit:
            return f"{number / limit:.1f} {unit}"
    return f"{number:.0f} B"
