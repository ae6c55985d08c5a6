"""What the listener is told of views, in order and in slices, so that a large one does not stop the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from federation.events import Liveness
from federation.ports import ViewListener
from proto.names import NodeId
from proto.records import Record, RecordKey

SLICE = 500
"""Records that the listener is given in one turn of the loop: some 15 ms of work for it."""


class Teller:
    """A `ViewListener` in front of another. While nothing waits, what fits one slice is passed on at once.

    What waits is bounded by the views: a slice goes in each turn of the loop, and an owner's next slice takes as long
    to be read from its stream.
    """

    def __init__(self, listener: ViewListener) -> None:
        self._listener = listener
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        return f"Teller({len(self._waiting)} wait)"

    def changed(self, owner: NodeId, puts: Sequence[Record], deletes: Sequence[RecordKey]) -> None:
        if len(puts) + len(deletes) <= SLICE:
            self._tell(len(puts) + len(deletes), lambda: self._listener.changed(owner, puts, deletes))
            return
        for i in range(0, len(deletes), SLICE):
            self._wait(SLICE, lambda gone=deletes[i : i + SLICE]: self._listener.changed(owner, (), gone))  # type: ignore[misc]
        for i in range(0, len(puts), SLICE):
            self._wait(SLICE, lambda some=puts[i : i + SLICE]: self._listener.changed(owner, some, ()))  # type: ignore[misc]

    def liveness(self, owner: NodeId, state: Liveness, *, listed: bool) -> None:
        self._tell(1, lambda: self._listener.liveness(owner, state, listed=listed))

    async def told(self) -> None:
        """Until nothing waits."""
        await self._idle.wait()

    def _tell(self, cost: int, what: Callable[[], None]) -> None:
        if self._waiting:
            self._wait(cost, what)
        else:
            what()

    def _wait(self, cost: int, what: Callable[[], None]) -> None:
        if not self._waiting:
            self._idle.clear()
            asyncio.get_running_loop().call_soon(self._next)
        self._waiting.append((cost, what))

    def _next(self) -> None:
        budget = SLICE
        while self._waiting and budget > 0:
            cost, what = self._waiting[0]
            budget -= cost
            what()
            # Not before it was told: what comes meanwhile must wait behind it.
            self._waiting.popleft()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
        else:
            self._idle.set()
