"""What an operator has to know of: said once in the log, kept for status."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from federation.clock import Clock

log = logging.getLogger("toolmesh.federation")

ALARMS_MAX = 64

AGAIN_MS = 3_600_000
"""The same words about the same node are news again after so long."""


@dataclass(slots=True)
class Raised:
    """An alarm about `about` (a node's URI); `name` is stable, `message` tells the mend. Times are unix ms."""

    about: str
    name: str
    message: str
    first_ms: int
    last_ms: int
    count: int = 1
    told_ms: int = 0


class Alarms:
    """The `alarms_max` latest by (about, name)."""

    def __init__(self, clock: Clock, alarms_max: int = ALARMS_MAX) -> None:
        self._clock = clock
        self._alarms_max = alarms_max
        self._latest: OrderedDict[tuple[str, str], Raised] = OrderedDict()

    def __repr__(self) -> str:
        return f"Alarms({len(self._latest)} kept)"

    def note(self, about: str, name: str, message: str) -> bool:
        """Returns whether it is news, to be logged: a refused peer is dialled, and raises it, again and again."""
        now = self._clock.wall_ms()
        raised = self._latest.pop((about, name), None)
        if raised is None:
            raised = Raised(about, name, message, now, now)
            news = True
        else:
            news = raised.message != message or now - raised.told_ms >= AGAIN_MS
            raised.message, raised.last_ms, raised.count = message, now, raised.count + 1
        if news:
            raised.told_ms = now
        self._latest[about, name] = raised
        while len(self._latest) > self._alarms_max:
            self._latest.popitem(last=False)
        return news

    @contextmanager
    def contain(self, about: str) -> Iterator[None]:
        """A fault of ours in what concerns one peer ends here, logged: beats go on, and the peer is dialled again."""
        try:
            yield
        except Exception as e:
            if self.note(about, "fault", f"{type(e).__name__}: {e}"):
                log.exception("a fault in what concerns %s", about)

    def latest(self) -> tuple[Raised, ...]:
        """Newest first."""
        return tuple(reversed(self._latest.values()))
