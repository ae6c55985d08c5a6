"""A call of a modern client that runs at a legacy server: between two rounds it is parked, with its questions open.

The server notices nothing: its call runs in a task of its own, and each question waits until some round brings the
answer. What the server tells meanwhile is kept for the next round, the newest `EVENTS_MAX` of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from node.bridge.eras import RESPONSES, may_be_asked, not_declared
from proto.calls import Answer, Call, Exchange, Notification
from proto.errors import Exhausted, Invalid

EVENTS_MAX = 64
QUESTIONS_MAX = 16
"""Open at a time in one call."""
QUIET_S = 0.005
"""Without another question: what a server asks in one breath comes in several writes, and from several tasks."""
BREATH_MAX_S = 0.1
"""How long questions may keep coming before those that are there are put to the client."""

Run = Callable[[Call, Exchange], Awaitable[Answer]]


class ParkedCall:
    """Also the `Exchange` of the call that it runs. Used by one round at a time."""

    def __init__(self, parked_id: str, call: Call, digest: bytes, run: Run) -> None:
        self.id = parked_id
        self.call = call
        self.digest = digest
        self.round = 0
        self.attended = False
        self._token = _token(call)
        self._run = run
        self._exchange: Exchange | None = None
        self._missed: deque[Notification] = deque(maxlen=EVENTS_MAX)
        self._open: dict[str, tuple[Notification, asyncio.Future[Answer]]] = {}
        self._asked = 0
        self._news = asyncio.Event()
        self._task: asyncio.Task[Answer] | None = None

    def __repr__(self) -> str:
        asked = ", ".join(f"{key}: {q['method']}" for key, (q, _) in self._open.items())
        return f"ParkedCall({self.call.method} at {self.call.server}, round {self.round}, asked {{{asked}}})"

    @property
    def questions(self) -> dict[str, Notification]:
        """What is to be asked, by key."""
        return {key: question for key, (question, _) in self._open.items()}

    # ---- one round ------------------------------------------------------------------------------

    async def attend(self, call: Call, exchange: Exchange) -> Answer | None:
        """Until the call ends, or, with None, until there are questions. Cancelling cancels the call.

        Progress and logs go to `exchange`, progress under the token of this round.
        """
        self.round += 1
        self.attended = True
        self._exchange, self._token = exchange, _token(call)
        while self._missed:
            self.event(self._missed.popleft())
        if self._task is None:
            self._task = asyncio.create_task(self._run_it(), name=f"call {self.call.call_id}")
            self._task.add_done_callback(lambda _: self._news.set())
        try:
            while not self._task.done():
                if self._open:
                    await self._gather()
                    if self._open and not self._task.done():
                        return None
                    continue
                self._news.clear()
                await self._news.wait()
            return self._task.result()
        except asyncio.CancelledError:
            await self.cancel()
            raise
        finally:
            self.attended = False
            self._exchange = None

    async def _run_it(self) -> Answer:
        return await self._run(self.call, self)

    async def _gather(self) -> None:
        """Questions that the server asked in one breath are put to the client together."""
        for _ in range(round(BREATH_MAX_S / QUIET_S)):
            before = self._asked
            await asyncio.sleep(QUIET_S)
            if self._asked == before or (self._task is not None and self._task.done()):
                return

    def check(self, responses: Any) -> Mapping[str, dict[str, Any]]:
        """The responses, if they answer what was asked. Raises `Invalid`."""
        if responses is None:
            return {}
        if not isinstance(responses, dict):
            raise Invalid(f"params.{RESPONSES} must be an object: a member for each key of inputRequests")
        for key, response in responses.items():
            if key in self._open and not isinstance(response, dict):
                raise Invalid(f"params.{RESPONSES}[{key!r}] must be an object: the result of what was asked")
        return responses

    def deliver(self, responses: Mapping[str, dict[str, Any]]) -> None:
        """Checked ones. What was not asked, was taken back by the server, or is answered already is left alone."""
        for key, response in responses.items():
            _, waiting = self._open.pop(key, (None, None))
            if waiting is not None and not waiting.done():
                waiting.set_result({"result": response})

    async def cancel(self) -> None:
        """End it, at the server too. Returns once it has ended."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.exception()

    # ---- Exchange of the call that runs ----------------------------------------------------------

    def event(self, notification: Notification) -> None:
        exchange = self._exchange
        if exchange is None:
            self._missed.append(notification)
            return
        params = notification.get("params")
        if notification.get("method") == "notifications/progress" and isinstance(params, dict):
            if self._token is None:
                return
            if params.get("progressToken") != self._token:
                notification = {**notification, "params": {**params, "progressToken": self._token}}
        exchange.event(notification)

    async def request(self, request: Notification) -> Answer:
        """Waits for a round that answers. Raises `Exhausted` beyond `QUESTIONS_MAX`."""
        if not may_be_asked(self.call.client_capabilities, request):
            return not_declared(request.get("method"))
        if len(self._open) >= QUESTIONS_MAX:
            raise Exhausted(f"{QUESTIONS_MAX} questions of this call are open, the most that one call may have")
        self._asked += 1
        key = f"q{self._asked}"
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open[key] = ({k: request[k] for k in ("method", "params") if k in request}, waiting)
        self._news.set()
        try:
            return await waiting
        finally:
            self._open.pop(key, None)


def _token(call: Call) -> str | int | None:
    meta = call.params.get("_meta")
    token = meta.get("progressToken") if isinstance(meta, dict) else None
    return token if isinstance(token, str | int) else None
