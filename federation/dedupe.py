"""Each call id runs at most once: what is running, what came of it, and what is known not to have run.

Pure: the clock is given. A key is (entry peer, principal's identity, call id), so nobody joins or reads another
caller's run. Finished outcomes are kept `keep_s` seconds, within `bytes_max` (then the oldest lose their text but
are still known to have run) and `count_max` keys (then the oldest are forgotten, which `forgetful` admits).
A promise that a call never will run is not forgotten before: its request may still be on its way. Where `count_max`
promises stand, no more are given, which `forgetful` says too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from proto.calls import Failed

R = TypeVar("R")

KEEP_S = 600.0
BYTES_MAX = 64 * 1024 * 1024
COUNT_MAX = 65_536

Outcome = bytes | Failed
"""The answer as JSON text, or the error."""


class RunKey(NamedTuple):
    peer: str
    identity: tuple[str, str, str]
    call_id: str


@dataclass(frozen=True, slots=True)
class Kept:
    """It ran, and this came of it."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Dropped:
    """It ran; what came of it is no longer kept."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A query found nothing and was told so: it never ran, and never will."""


@dataclass(slots=True)
class _Past:
    at_s: float
    state: Kept | Dropped
    size: int


class Repeats(Generic[R]):
    """`R` is whatever stands for a running call. `now` is a monotonic clock in seconds."""

    def __init__(
        self,
        now: Callable[[], float],
        *,
        keep_s: float = KEEP_S,
        bytes_max: int = BYTES_MAX,
        count_max: int = COUNT_MAX,
    ) -> None:
        self._now = now
        self.keep_s = keep_s
        self._bytes_max = bytes_max
        self._count_max = count_max
        self._running: dict[RunKey, R] = {}
        self._past: OrderedDict[RunKey, _Past] = OrderedDict()
        self._promised_s: OrderedDict[RunKey, float] = OrderedDict()
        self._with_text: OrderedDict[RunKey, None] = OrderedDict()
        self._bytes = 0
        self._forgot_at_s: float | None = None

    def running(self, key: RunKey) -> R | None:
        return self._running.get(key)

    def past(self, key: RunKey) -> Kept | Dropped | Refused | None:
        """What is known of a call that is not running; None: nothing, or nothing any more."""
        self.expire()
        if key in self._promised_s:
            return Refused()
        past = self._past.get(key)
        return past.state if past else None

    def begin(self, key: RunKey, run: R) -> None:
        """It is about to run. The caller has seen that `running` and `past` know nothing of it."""
        if key in self._running or key in self._past or key in self._promised_s:
            raise ValueError(f"{key} was begun before")
        self._running[key] = run

    def finish(self, key: RunKey, outcome: Outcome) -> None:
        """It has ended: keep what came of it, for repeats."""
        del self._running[key]
        self._remember(key, Kept(outcome), _size(outcome))
        self._with_text[key] = None
        while self._bytes > self._bytes_max:
            oldest, _ = self._with_text.popitem(last=False)
            past = self._past[oldest]
            self._bytes -= past.size
            past.state, past.size = Dropped(), 0

    def refuse(self, key: RunKey) -> None:
        """Somebody is told that this never ran: hold to it, should its request still arrive.

        Not to be called while `forgetful`: the oldest promise would have to go.
        """
        self._promised_s[key] = self._now()
        if len(self._promised_s) > self._count_max:
            self._promised_s.popitem(last=False)

    @property
    def forgetful(self) -> bool:
        """Not to be found proves nothing, within `keep_s` of what was forgotten for want of room; or nothing can be
        promised."""
        self.expire()
        if len(self._promised_s) >= self._count_max:
            return True
        return self._forgot_at_s is not None and self._now() - self._forgot_at_s < self.keep_s

    def runs(self) -> list[R]:
        return list(self._running.values())

    def __len__(self) -> int:
        """How many are running."""
        return len(self._running)

    def __repr__(self) -> str:
        past = len(self._past) + len(self._promised_s)
        return f"Repeats({len(self._running)} running, {past} past, {self._bytes} bytes kept)"

    def _remember(self, key: RunKey, state: Kept, size: int) -> None:
        self.expire()
        self._past[key] = _Past(self._now(), state, size)
        self._bytes += size
        while len(self._past) > self._count_max:
            self._forget_oldest()
            self._forgot_at_s = self._now()

    def expire(self) -> bool:
        """Give up what is older than `keep_s`; whether anything is left that will be, one day."""
        horizon = self._now() - self.keep_s
        while self._past and next(iter(self._past.values())).at_s <= horizon:
            self._forget_oldest()
        while self._promised_s and next(iter(self._promised_s.values())) <= horizon:
            self._promised_s.popitem(last=False)
        return bool(self._past or self._promised_s)

    def _forget_oldest(self) -> None:
        key, past = self._past.popitem(last=False)
        self._with_text.pop(key, None)
        self._bytes -= past.size


def _size(outcome: Outcome) -> int:
    """Bytes, near enough: of an error, its text, its data as text, and 256 for its objects."""
    if isinstance(outcome, bytes):
        return len(outcome)
    return len(outcome.message) + len(repr(outcome.data)) + 256
