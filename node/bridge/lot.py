"""Where parked calls stand: found by id, bounded in number, and cancelled when nobody comes back in time."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Literal, Protocol

from node.bridge.parked import ParkedCall
from node.bridge.states import AFRESH
from proto.calls import Call
from proto.errors import Conflict, Exhausted, Invalid

PARKED_S = 300.0
PARKED_MAX = 1_000
PARKED_PER_PRINCIPAL_MAX = 100
"""A caller without a name shares this bound with all others without one."""
ENDED_MAX = 4_096
"""Calls whose end is remembered, so that a late retry is told of it; then it is told that nobody knows the call."""

End = Literal["answered", "expired", "given up"]


class Timer(Protocol):
    def cancel(self) -> None: ...


Later = Callable[[float, Callable[[], None]], Timer]
"""`(seconds, do)`, as `loop.call_later`."""


class Lot:
    """`parked_s`: so long a call waits for its next round, then it is cancelled.

    At most `parked_max` calls wait at a time, `per_principal_max` of them of one principal; a call beyond that is
    cancelled, and its caller told `Exhausted`. `later` is the loop's unless another clock is given.
    """

    def __init__(
        self,
        *,
        parked_s: float = PARKED_S,
        parked_max: int = PARKED_MAX,
        per_principal_max: int = PARKED_PER_PRINCIPAL_MAX,
        later: Later | None = None,
    ) -> None:
        self.parked_s = parked_s
        self._max = parked_max
        self._per_principal_max = per_principal_max
        self._later = later
        self._calls: dict[str, tuple[ParkedCall, Timer | None]] = {}
        self._of: Counter[tuple[str, str, str]] = Counter()
        self._ended: OrderedDict[str, End] = OrderedDict()
        self._ending: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._calls)

    def __repr__(self) -> str:
        return f"Lot({len(self._calls)} parked)"

    @staticmethod
    def new_id() -> str:
        return secrets.token_urlsafe(12)

    def park(self, parked: ParkedCall) -> None:
        """Keep it until its next round, or until its time is over. Raises `Exhausted`."""
        if parked.id not in self._calls:
            self._check_room(parked.call)
            self._of[parked.call.principal.identity] += 1
        later = self._later or asyncio.get_running_loop().call_later
        self._calls[parked.id] = (parked, later(self.parked_s, lambda: self._expire(parked)))

    def _check_room(self, call: Call) -> None:
        mine = self._of[call.principal.identity]
        if len(self._calls) < self._max and mine < self._per_principal_max:
            return
        n, whose = (mine, "of this caller ") if mine >= self._per_principal_max else (len(self._calls), "")
        raise Exhausted(
            f"{n} calls {whose}wait for their clients' answers on this node already, the most that it keeps: answer or "
            f"let go of some; they are given up after {self.parked_s:g} s",
            retry_after_s=min(self.parked_s, 30),
        )

    def find(self, parked_id: str, round_: int) -> ParkedCall:
        """The call that a round goes on with. Raises `Invalid` where it has ended, `Conflict` if the round was had."""
        held = self._calls.get(parked_id)
        if held is None:
            end = self._ended.get(parked_id)
            said = f"the call has been {end}" if end else "no call waits for it here"
            raise Invalid(f"params.requestState cannot be used: {said}; {AFRESH}")
        parked = held[0]
        if round_ != parked.round or parked.attended:
            raise Conflict(
                "params.requestState has been used already, by another request that brought its answers; each round is "
                "answered once, with the state that came with its questions"
            )
        return parked

    def attended(self, parked: ParkedCall) -> None:
        """Its next round has begun: its time stands still."""
        if (held := self._calls.get(parked.id)) is not None and held[1] is not None:
            held[1].cancel()
            self._calls[parked.id] = (parked, None)

    def end(self, parked: ParkedCall, how: End) -> None:
        """It is parked no more."""
        held = self._calls.pop(parked.id, None)
        if held is None:
            return
        _, timer = held
        if timer is not None:
            timer.cancel()
        who = parked.call.principal.identity
        self._of[who] -= 1
        if not self._of[who]:
            del self._of[who]
        self._ended[parked.id] = how
        if len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)

    def _expire(self, parked: ParkedCall) -> None:
        self.end(parked, "expired")
        ending = asyncio.create_task(parked.cancel(), name=f"{parked!r} expires")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Cancel all that waits; their servers are told."""
        for parked, _ in list(self._calls.values()):
            if not parked.attended:
                self._expire(parked)
        if self._ending:
            await asyncio.wait(set(self._ending))
