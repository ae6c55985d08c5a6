"""A limit on a call that stands still while its client is being asked something: people take their time."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Place(Protocol):
    """What a call takes from others while it runs, and gives up while it waits for a person."""

    def step_out(self) -> None: ...

    def step_in(self) -> None: ...


class CallClock:
    """Drives one `asyncio.timeout`. `pause` and `resume` come in pairs and may overlap; once the call has ended, or
    its time ran out, they do nothing. `stop` is for the end of the call, and once it is over the place is its own."""

    __slots__ = ("_left_s", "_open", "_place", "_stopped", "_timeout")

    def __init__(self, timeout: asyncio.Timeout, place: Place) -> None:
        self._timeout = timeout
        self._place = place
        self._open = 0
        self._left_s = 0.0
        self._stopped = False

    def __repr__(self) -> str:
        return f"CallClock({'stopped' if self._stopped else f'{self._open} open'})"

    def pause(self) -> None:
        if self._stopped:
            return
        self._open += 1
        when = self._timeout.when()
        if self._open == 1:
            self._place.step_out()
            if when is not None and not self._timeout.expired():
                self._left_s = when - asyncio.get_running_loop().time()
                self._timeout.reschedule(None)

    def resume(self) -> None:
        if self._stopped:
            return
        self._open -= 1
        if self._open == 0:
            self._place.step_in()
            if not self._timeout.expired():
                self._timeout.reschedule(asyncio.get_running_loop().time() + self._left_s)

    def stop(self) -> None:
        if self._open and not self._stopped:
            self._place.step_in()
        self._stopped = True
