"""Whom a server means by what it says of its own accord: a call, the calls of one client, or those who listen. Pure.

HTTP says on whose stream a message comes. Pipes do not, and a guess between callers could tell one of another: so
where it cannot be known, a message is nobody's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Any

from node.upstreams.clock import CallClock
from proto.calls import Answer, Exchange

SUBSCRIPTION_ID = "io.modelcontextprotocol/subscriptionId"


class Pending:
    """A request whose answer is awaited. Without an `exchange` it is our own; `holder` is the client behind it.

    `standing`: it is a subscription, which stays open, and no call.
    """

    __slots__ = ("answer", "clock", "exchange", "holder", "on_sent", "sent", "standing", "token")

    def __init__(
        self,
        answer: asyncio.Future[Answer],
        exchange: Exchange | None,
        on_sent: Callable[[], None] | None,
        holder: str = "",
        clock: CallClock | None = None,
        standing: bool = False,
    ) -> None:
        self.answer = answer
        self.exchange = exchange
        self.on_sent = on_sent
        self.holder = holder
        self.clock = clock
        self.standing = standing
        self.token: str | int | None = None
        """The caller's own progress token, where the server was given another."""
        self.sent = False

    @property
    def is_call(self) -> bool:
        """A client's, and still without an answer."""
        return self.exchange is not None and not self.standing and not self.answer.done()

    def mark_sent(self) -> None:
        self.sent = True
        if self.on_sent is not None:
            self.on_sent()


class Listener:
    """One open `subscriptions/listen` of a client, on a session with a server of before 2026-07-28.

    `asked`: its client can be asked something outside of any call.
    """

    __slots__ = ("asked", "exchange", "holder", "principal", "uris")

    def __init__(self, exchange: Exchange, holder: str, principal: tuple[str, ...], asked: bool) -> None:
        self.exchange = exchange
        self.holder = holder
        self.principal = principal
        self.asked = asked
        self.uris: frozenset[str] = frozenset()

    def wants(self, uri: str) -> bool:
        """Is this one of the resources that it listens to, or a part of one?"""
        return uri in self.uris or any(_is_part(uri, whole) for whole in self.uris)


def _is_part(uri: str, whole: str) -> bool:
    return uri.startswith(whole) and (whole.endswith("/") or uri[len(whole) : len(whole) + 1] in ("/", "?", "#"))


def of_one_client(calls: Collection[Pending]) -> list[Pending]:
    """The calls that run, if all are of one client; the newest is the last."""
    running = [p for p in calls if p.is_call]
    return running if len({p.holder for p in running}) == 1 else []


def only_call(calls: Iterable[Pending]) -> Pending | None:
    """The call that runs, if there is but one, and no request of our own that could have brought a message about."""
    running = [p for p in calls if not p.standing and not p.answer.done()]
    return running[0] if len(running) == 1 and running[0].exchange is not None else None


def to_be_asked(listeners: Iterable[Listener]) -> Exchange | None:
    """Who takes a question that belongs to no call, if those who could are all of one client."""
    asked = [x for x in listeners if x.asked]
    return asked[-1].exchange if len({x.holder for x in asked}) == 1 else None


def of_one_principal(listeners: Collection[Listener]) -> list[Listener]:
    """Those who hear what belongs to no call, if they are one principal's."""
    return list(listeners) if len({x.principal for x in listeners}) == 1 else []


def subscription_of(params: Any) -> Any:
    """The id of the `subscriptions/listen` that a notification of 2026-07-28 is tagged with, or None."""
    meta = params.get("_meta") if isinstance(params, dict) else None
    return meta.get(SUBSCRIPTION_ID) if isinstance(meta, dict) else None


def without_subscription(notification: dict[str, Any]) -> dict[str, Any]:
    """A notification less its subscription's id, which is between us and the server."""
    params = notification.get("params")
    if not isinstance(params, dict) or subscription_of(params) is None:
        return notification
    meta = {k: v for k, v in params["_meta"].items() if k != SUBSCRIPTION_ID}
    rest = {k: v for k, v in params.items() if k != "_meta"}
    return {**notification, "params": {**rest, "_meta": meta} if meta else rest}
