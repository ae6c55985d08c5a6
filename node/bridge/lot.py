"""Where parked calls stand: found by id, bounded in number, and cancelled when nobody comes back in time."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
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

PATIENCE_S = 30.0
"""So long a person may think at least, however many others want the session that the call has with its server."""

End = Literal["answered", "expired", "given up", "given up for others that came after it"]


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """What an event loop is, of which no more is needed."""

    def time(self) -> float: ...

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer: ...


@dataclass(slots=True)
class _Place:
    """`timer` is None while a round is under way."""

    call: ParkedCall
    since_s: float
    timer: Timer | None


class Lot:
    """`parked_s`: so long a call waits for its next round, then it is cancelled.

    At most `parked_max` calls wait at a time, `per_principal_max` of them of one principal; a call beyond that is
    cancelled, and its caller told `Exhausted`. `clock` is the running loop unless another one is given.
    """

    def __init__(
        self,
        *,
        parked_s: float = PARKED_S,
        parked_max: int = PARKED_MAX,
        per_principal_max: int = PARKED_PER_PRINCIPAL_MAX,
        clock: Clock | None = None,
    ) -> None:
        self.parked_s = parked_s
        self.parked_max = parked_max
        self._per_principal_max = per_principal_max
        self._clock = clock
        self._calls: OrderedDict[str, _Place] = OrderedDict()
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
        clock = self._clock or asyncio.get_running_loop()
        timer = clock.call_later(self.parked_s, lambda: self._give_up(parked, "expired"))
        self._calls[parked.id] = _Place(parked, clock.time(), timer)
        self._calls.move_to_end(parked.id)

    def _check_room(self, call: Call) -> None:
        mine = self._of[call.principal.identity]
        if len(self._calls) < self.parked_max and mine < self._per_principal_max:
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
        parked = held.call
        if round_ != parked.round or parked.attended:
            raise Conflict(
                "params.requestState has been used already, by another request that brought its answers; each round is "
                "answered once, with the state that came with its questions"
            )
        return parked

    def attended(self, parked: ParkedCall) -> None:
        """Its next round has begun: its time stands still."""
        if (held := self._calls.get(parked.id)) is not None and held.timer is not None:
            held.timer.cancel()
            held.timer = None

    def give_way(self, server: str) -> bool:
        """Let go of the call that has waited longest for its client, `PATIENCE_S` or more, at a server that is full."""
        now_s = (self._clock or asyncio.get_running_loop()).time()
        for held in self._calls.values():
            if held.call.call.server == server and held.timer is not None and now_s - held.since_s >= PATIENCE_S:
                self._give_up(held.call, "given up for others that came after it")
                return True
        return False

    def end(self, parked: ParkedCall, how: End) -> None:
        """It is parked no more."""
        held = self._calls.pop(parked.id, None)
        if held is None:
            return
        if held.timer is not None:
            held.timer.cancel()
        who = parked.call.principal.identity
        self._of[who] -= 1
        if not self._of[who]:
            del self._of[who]
        self._ended[parked.id] = how
        if len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)

    def _give_up(self, parked: ParkedCall, how: End) -> None:
        self.end(parked, how)
        ending = asyncio.create_task(parked.cancel(), name=f"{parked!r} is given up")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Cancel all that waits; their servers are told."""
        for held in list(self._calls.values()):
            if held.timer is not None:
                self._give_up(held.call, "given up")
        if self._ending:
            await asyncio.wait(set(self._ending))
