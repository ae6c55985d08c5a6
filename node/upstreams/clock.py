"""A limit on a call that stands still while its client is being asked something: people take their time."""

from __future__ import annotations

import asyncio


class CallClock:
    """Drives one `asyncio.timeout`. `pause` and `resume` come in pairs and may overlap; once the call has ended, or
    its time ran out, they do nothing."""

    __slots__ = ("_left_s", "_open", "_timeout", "stopped")

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout
        self._open = 0
        self._left_s = 0.0
        self.stopped = False
        """The call has ended: its timeout is not to be touched any more."""

    def __repr__(self) -> str:
        return f"CallClock({'stopped' if self.stopped else f'{self._open} open'})"

    def pause(self) -> None:
        self._open += 1
        when = self._timeout.when()
        if self._open == 1 and when is not None and not self._over():
            self._left_s = when - asyncio.get_running_loop().time()
            self._timeout.reschedule(None)

    def resume(self) -> None:
        self._open -= 1
        if self._open == 0 and not self._over():
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._left_s)

    def _over(self) -> bool:
        return self.stopped or self._timeout.expired()
