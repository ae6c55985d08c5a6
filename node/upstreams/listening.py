"""`subscriptions/listen` in its one form, towards servers of both eras, for as long as its client wants."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from node.upstreams.attribution import Listener
from node.upstreams.backoff import Backoff
from node.upstreams.channel import LIST_CHANGED, LISTEN, UPDATED
from node.upstreams.connection import Connection
from node.upstreams.loudness import level_in
from node.upstreams.wire import logger
from proto.calls import Answer, Call, Exchange, Notification
from proto.errors import Exhausted, Invalid, OutcomeUnknown, Unavailable

LISTENS_MAX = 20_000
"""Open on one server; further ones are refused."""
URIS_MAX = 1_000
"""In one of them."""
EARLY_MAX = 64
"""What comes before the acknowledgement is told after it; the newest of so many."""
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
SUBSCRIPTIONS = "resourceSubscriptions"
REOPEN_FIRST_S = 0.5
REOPEN_MAX_S = 30.0

Enter = Callable[[], AbstractAsyncContextManager[Connection]]
"""The session in which to listen, open for as long as it is entered."""


class Listening:
    """The open listens of one server. `revived` waits for a server that is down; both raise `Unavailable` once it
    was stopped."""

    def __init__(self, name: str, revived: Callable[[], Any]) -> None:
        self._name = name
        self._revived = revived
        self.open = 0

    async def listen(self, call: Call, exchange: Exchange, holder: str, *, asked: bool, enter: Enter) -> Answer:
        """Until the server ends it, or the caller is cancelled. `asked`: the client can be asked questions.

        The first event says what is honoured. A connection that broke is made again, and what may have changed
        meanwhile is told as updated. Raises what `enter` raises at first, `Invalid`, `Exhausted`.
        """
        wanted = _wanted(call.params)
        if self.open >= LISTENS_MAX:
            raise Exhausted(f"server {self._name!r}: {LISTENS_MAX} subscriptions are open", retry_after_s=60)
        once = _Once(exchange)
        backoff = Backoff(REOPEN_FIRST_S, REOPEN_MAX_S)
        self.open += 1
        try:
            while True:
                try:
                    async with enter() as connection:
                        if connection.modern:
                            return await _at_modern(connection, call, once, wanted)
                        listener = Listener(once, holder, call.principal.identity, asked)
                        await _at_legacy(connection, listener, once, wanted, level_in(call.params))
                        backoff.reset()
                except (Unavailable, OutcomeUnknown) as e:
                    if not once.acknowledged:
                        raise
                    logger.debug("server %s: a subscription broke: %s", self._name, e)
                await asyncio.sleep(backoff.next_s())
                await self._revived()
        finally:
            self.open -= 1


def _wanted(params: dict[str, Any]) -> dict[str, Any]:
    """The filter, less the changes of lists: those are known of every server. Raises `Invalid`."""
    wanted = params.get("notifications", {})
    if not isinstance(wanted, dict):
        raise Invalid("'notifications' must be an object")
    wanted = {k: v for k, v in wanted.items() if k not in _LIST_FILTERS}
    uris = wanted.get(SUBSCRIPTIONS, [])
    if not isinstance(uris, list) or not all(isinstance(uri, str) for uri in uris):
        raise Invalid(f"'notifications.{SUBSCRIPTIONS}' must be a list of URIs")
    if len(uris) > URIS_MAX:
        raise Invalid(f"'notifications.{SUBSCRIPTIONS}' names {len(uris)} resources; at most {URIS_MAX} go into one")
    return wanted


_LIST_FILTERS = frozenset(f"{kind}ListChanged" for kind in LIST_CHANGED.values())


class _Once:
    """The caller's side, which hears the acknowledgement once and first, however often the subscription is made."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._early: deque[Notification] = deque(maxlen=EARLY_MAX)
        self.acknowledged = False

    def event(self, notification: Notification) -> None:
        if notification.get("method") == ACKNOWLEDGED:
            if self.acknowledged:
                _tell_updated(self.exchange, notification)
                return
            self.acknowledged = True
            self.exchange.event(notification)
            while self._early:
                self.exchange.event(self._early.popleft())
        elif self.acknowledged:
            self.exchange.event(notification)
        else:
            self._early.append(notification)

    async def request(self, request: Notification) -> Answer:
        return await self.exchange.request(request)


def _tell_updated(exchange: Exchange, acknowledgement: Notification) -> None:
    """Nobody listened for a while, so everything that is listened to may have changed."""
    params = acknowledgement.get("params")
    honoured = params.get("notifications") if isinstance(params, dict) else None
    uris = honoured.get(SUBSCRIPTIONS) if isinstance(honoured, dict) else None
    for uri in uris if isinstance(uris, list) else ():
        exchange.event({"method": UPDATED, "params": {"uri": uri}})


async def _at_modern(connection: Connection, call: Call, once: _Once, wanted: dict[str, Any]) -> Answer:
    params = {**call.params, "notifications": wanted}
    return await connection.request(LISTEN, params, once, capabilities=call.client_capabilities)


async def _at_legacy(
    connection: Connection, listener: Listener, once: _Once, wanted: dict[str, Any], level: str
) -> None:
    """Until the connection is gone. A server of before 2026-07-28 knows of resources and nothing else."""
    async with _subscribed(connection, listener, once, wanted.get(SUBSCRIPTIONS, [])):
        if level:
            await connection.loudness.ensure(level)
        honoured = {SUBSCRIPTIONS: sorted(listener.uris)} if SUBSCRIPTIONS in wanted else {}
        once.event({"method": ACKNOWLEDGED, "params": {"notifications": honoured}})
        await asyncio.shield(connection.channel.gone)


@asynccontextmanager
async def _subscribed(connection: Connection, listener: Listener, once: _Once, uris: list[str]) -> AsyncIterator[None]:
    honoured: list[str] = []

    async def add(uri: str) -> None:
        # A server may tell of a change before it has answered.
        listener.uris |= {uri}
        if await connection.subscriptions.add(uri):
            honoured.append(uri)
        else:
            listener.uris -= {uri}

    listeners = connection.channel.listeners
    listeners.append(listener)
    if connection.channel.opener is once.exchange:
        # Whoever opened the session by listening is a listener from now on, and is asked no more once it has gone.
        connection.channel.opener = None
    try:
        await asyncio.gather(*(add(uri) for uri in dict.fromkeys(uris)))
        yield
    finally:
        listeners.remove(listener)
        for uri in honoured:
            connection.aside(connection.subscriptions.drop(uri))
