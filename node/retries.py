"""Whether an attempt that failed may be made again. Pure: the clock is given, in seconds.

A call is tried again where it certainly did not run (`Unavailable`, or an owner that has listed its tools anew), or
where its owner's configuration says that running it twice does no harm (`retry_safe`); a tool's own annotations are
hints for people, and count for nothing here. So that a sick mesh is not made sicker, the retries of a service are at
most a fifth of its recent calls, beside a few that are always free.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from proto.errors import Conflict, MeshError, OutcomeUnknown, Unavailable

ATTEMPTS_MAX = 3
CALLS_PER_RETRY = 5
CALLS_MAX = 500
"""So many calls are remembered: they are worth a hundred retries at once."""
FREE_PER_S = 3.0
FREE_MAX = 10.0
"""Enough for the calls that meet a node in the moment in which it stops, where little was called before."""
SERVICES_MAX = 4_096


@dataclass(slots=True)
class RetryBudget:
    """What the retries of one service may cost. At its bound a retry is refused, and the first error stands."""

    _calls: int = 0
    _free: float = FREE_MAX
    _free_at_s: float = 0.0

    def called(self) -> None:
        if self._calls < CALLS_MAX:
            self._calls += 1

    def take(self, now_s: float) -> bool:
        """Whether one more retry may be made; it is counted."""
        if self._calls >= CALLS_PER_RETRY:
            self._calls -= CALLS_PER_RETRY
            return True
        self._free = min(FREE_MAX, self._free + FREE_PER_S * (now_s - self._free_at_s))
        self._free_at_s = now_s
        if self._free < 1:
            return False
        self._free -= 1
        return True


@dataclass(slots=True)
class RetryBudgets:
    """By name of the service; of more than `services_max` the one made first is forgotten, and begins anew."""

    services_max: int = SERVICES_MAX
    _held: OrderedDict[str, RetryBudget] = field(default_factory=OrderedDict)

    def of(self, service: str) -> RetryBudget:
        budget = self._held.get(service)
        if budget is None:
            if len(self._held) >= self.services_max:
                self._held.popitem(last=False)
            budget = self._held[service] = RetryBudget()
        return budget


def may_run_again(error: MeshError, retry_safe: bool) -> bool:
    """Whether this end of an attempt leaves another one open."""
    if isinstance(error, Conflict):
        # Another owner of the service may still offer what the caller saw.
        return "listed_anew" in error.data
    return isinstance(error, Unavailable) or (retry_safe and isinstance(error, OutcomeUnknown))


def not_tried_elsewhere(error: MeshError, service: str) -> MeshError:
    """The same error, saying why it was not mended by another attempt."""
    why = f"not tried again: retries of {service!r} are at most a fifth of its recent calls, and these are used up"
    return type(error)(f"{error.message} ({why})", **error.data)
