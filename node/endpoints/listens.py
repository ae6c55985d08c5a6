"""Listens that an endpoint answers itself: one that hears nothing, and several servers heard as one."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from proto.calls import Answer, Exchange, Notification
from proto.errors import Unavailable

log = logging.getLogger("toolmesh.endpoints")

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
EARLY_MAX = 256
"""Notifications kept until all servers have answered; beyond it the oldest are dropped."""
HONOURED_WITHIN_S = 10.0
"""So long may a server among others take to say what it will tell of; after that it is left out."""

Listen = Callable[[Exchange], Awaitable[Answer]]


async def nothing_to_hear(exchange: Exchange) -> Answer:
    """A listen that honours nothing, until it is cancelled."""
    exchange.event({"method": ACKNOWLEDGED, "params": {"notifications": {}}})
    ended: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    return await ended


async def merged(listens: Mapping[str, Listen], exchange: Exchange) -> Answer:
    """Several listens, each under a name for the log, as one.

    What one of them refuses, or is silent about for `HONOURED_WITHIN_S`, is not honoured; if that is true of all, the
    first refusal is raised or answered. Once acknowledged, the end of one is the end of all: a listener that asks
    again is told what is honoured now, and one that was kept on would not know what it no longer hears.
    """
    loop = asyncio.get_running_loop()
    whole = _Whole(exchange)
    parts = {name: _Part(whole) for name in listens}
    tasks = {name: loop.create_task(_run(listens[name], part)) for name, part in parts.items()}
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(HONOURED_WITHIN_S):
                for name, part in parts.items():
                    await asyncio.wait((tasks[name], part.honoured), return_when=asyncio.FIRST_COMPLETED)
        heard = [name for name, part in parts.items() if part.honoured.done()]
        refused = [task for name, task in tasks.items() if name not in heard and task.done()]
        for name in parts.keys() - set(heard):
            log.debug("a listen at %r is not honoured: %r", name, tasks[name])
            tasks[name].cancel()
        if not heard:
            if refused:
                return refused[0].result()
            raise Unavailable(f"none of the servers said within {HONOURED_WITHIN_S:g} s what it will tell of")
        whole.acknowledge([parts[name].honoured.result() for name in heard])
        await asyncio.wait([tasks[name] for name in heard], return_when=asyncio.FIRST_COMPLETED)
        ended = next(tasks[name] for name in heard if tasks[name].done())
        return ended.result()
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.wait(tasks.values())
        for task in tasks.values():
            # Looked at, so that the end of one that nobody waits for is not reported as lost.
            _ = task.cancelled() or task.exception()


async def _run(listen: Listen, part: _Part) -> Answer:
    return await listen(part)


class _Whole:
    """The listener, to whom nothing is said before the acknowledgement."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._early: deque[Notification] | None = deque(maxlen=EARLY_MAX)

    def acknowledge(self, parts: list[dict[str, Any]]) -> None:
        honoured: dict[str, Any] = {}
        for part in parts:
            for key, value in part.items():
                known = honoured.get(key)
                both = isinstance(known, list) and isinstance(value, list)
                honoured[key] = [*known, *value] if both and known is not None else value
        self.exchange.event({"method": ACKNOWLEDGED, "params": {"notifications": honoured}})
        early, self._early = self._early or (), None
        for notification in early:
            self.exchange.event(notification)

    def event(self, notification: Notification) -> None:
        if self._early is None:
            self.exchange.event(notification)
        else:
            self._early.append(notification)


class _Part:
    """The `Exchange` of one of the listens."""

    def __init__(self, whole: _Whole) -> None:
        self._whole = whole
        self.honoured: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def event(self, notification: Notification) -> None:
        if self.honoured.done():
            self._whole.event(notification)
            return
        params = notification.get("params")
        said = params.get("notifications") if isinstance(params, dict) else None
        self.honoured.set_result(said if isinstance(said, dict) else {})

    async def request(self, request: Notification) -> Answer:
        return await self._whole.exchange.request(request)
