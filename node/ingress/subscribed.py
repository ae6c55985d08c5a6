"""What a legacy session hears out of its calls: one listen for each subscribed resource, and one for logs.

A listen that its server or the way to it ends is begun anew while the session lasts, after 1 s, then 2 s, at most a
minute; the client does not notice, except that its resource is said to have changed, since it may have.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from mcp_types import LOG_LEVEL_META_KEY
from mcp_types.jsonrpc import METHOD_NOT_FOUND

from node.ingress import envelope
from node.ingress.changes import NOTICE
from node.ingress.exchange import LegacyExchange
from node.ingress.sessions import Session
from proto.calls import Answer, Exchange, Notification
from proto.errors import Exhausted, MeshError, Unavailable

log = logging.getLogger("toolmesh.ingress")

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
UPDATED = "notifications/resources/updated"
MESSAGE = "notifications/message"
RETRY_S = 1.0
RETRY_S_MAX = 60.0
LOGS_WITHIN_S = 2.0

Listen = Callable[[dict[str, Any], Exchange], Awaitable[Answer]]
"""`Endpoint.listen` of the session's endpoint, as the session's caller."""

_LIST_NOTICES = frozenset(NOTICE.values())
_NOT_SERVED: Answer = {
    "error": {"code": METHOD_NOT_FOUND, "message": "the server does not tell of changes of this resource"}
}


class SessionListens:
    """The open listens of one session, at most `uris_max` and one for logs."""

    def __init__(self, session: Session, uris_max: int) -> None:
        self._session = session
        self._uris_max = uris_max
        self._resources: dict[str, _Hearing] = {}
        self._logs: _Hearing | None = None

    def __repr__(self) -> str:
        return f"SessionListens({len(self._resources)} resources{', logs' if self._logs else ''})"

    async def subscribe(self, uri: str, listen: Listen) -> Answer:
        """Hear of a resource. Answers once the server has said whether it will tell.

        Raises `Exhausted` at the bound, and what `listen` raises before that.
        """
        hearing = self._resources.get(uri)
        if hearing is None:
            if len(self._resources) >= self._uris_max:
                raise Exhausted(f"{len(self._resources)} resources are subscribed to; unsubscribe from one first")
            hearing = _Hearing(self._session, {"notifications": {"resourceSubscriptions": [uri]}}, uri, listen)
            self._resources[uri] = hearing
        hearing.waiting += 1
        try:
            # Shielded: somebody else may wait for the same acknowledgement.
            return await asyncio.shield(hearing.acknowledged)
        finally:
            hearing.waiting -= 1
            if not hearing.waiting and not hearing.honoured:
                self._drop(uri, hearing)

    def unsubscribe(self, uri: str) -> None:
        """Hear of it no more; nothing happens where it was not subscribed to."""
        if (hearing := self._resources.get(uri)) is not None:
            self._drop(uri, hearing)

    async def hear_logs(self, level: str, listen: Listen) -> Answer:
        """Log messages that belong to no call, at `level` and above, instead of those of the level before.

        An empty result once the server has been told, or cannot be within `LOGS_WITHIN_S`: then it is later.
        """
        if self._logs is not None:
            self._logs.task.cancel()
        self._logs = _Hearing(self._session, {"notifications": {}, "_meta": {LOG_LEVEL_META_KEY: level}}, "", listen)
        await asyncio.wait((self._logs.acknowledged,), timeout=LOGS_WITHIN_S)
        return {"result": {}}

    def end(self) -> list[asyncio.Task[None]]:
        """End all; returns the tasks that are ending."""
        hearings = [*self._resources.values(), *((self._logs,) if self._logs else ())]
        self._resources.clear()
        self._logs = None
        for hearing in hearings:
            hearing.task.cancel()
        return [hearing.task for hearing in hearings]

    def _drop(self, uri: str, hearing: _Hearing) -> None:
        hearing.task.cancel()
        if self._resources.get(uri) is hearing:
            del self._resources[uri]


class _Hearing:
    """One listen, of a resource (`uri`) or of logs, begun anew when it ends; it is the `Exchange` of each.

    `acknowledged` is the answer to those `waiting` for it: an empty result, or why it will not be.
    """

    def __init__(self, session: Session, params: dict[str, Any], uri: str, listen: Listen) -> None:
        self.acknowledged: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.waiting = 0
        self._session = session
        self._uri = uri
        self._asking = LegacyExchange(session, session)
        self._heard = False
        self.task = asyncio.get_running_loop().create_task(self._keep(params, listen))
        self.task.add_done_callback(self._ended)

    @property
    def honoured(self) -> bool:
        """Has the server said that it will tell?"""
        said = self.acknowledged
        return said.done() and said.exception() is None and "error" not in said.result()

    def event(self, notification: Notification) -> None:
        method = notification.get("method")
        if method == ACKNOWLEDGED:
            self._acknowledge(notification.get("params"))
        elif method == MESSAGE:
            # A listen of a resource may hear what the one of logs hears too.
            if not self._uri and not self._session.quiet(notification):
                self._session.send(envelope.notification(notification))
        elif method not in _LIST_NOTICES:
            # Changes of lists are told by the catalogue, which knows them of every server.
            self._session.notify(envelope.notification(notification))

    async def request(self, request: Notification) -> Answer:
        return await self._asking.request(request)

    async def _keep(self, params: dict[str, Any], listen: Listen) -> None:
        retry_s = RETRY_S
        while True:
            self._heard = False
            try:
                answer = await listen(params, self)
            except MeshError as e:
                if not self.acknowledged.done() and self._uri:
                    raise
                log.debug("%r hears no more of %s: %s", self._session, self._uri or "logs", e.message)
            else:
                if not self.acknowledged.done():
                    self.acknowledged.set_result(answer if "error" in answer else _NOT_SERVED)
            if self.acknowledged.done() and "error" in self.acknowledged.result():
                return
            retry_s = RETRY_S if self._heard else min(RETRY_S_MAX, 2 * retry_s)
            await asyncio.sleep(retry_s)

    def _acknowledge(self, params: Any) -> None:
        self._heard = True
        if self.acknowledged.done():
            if self._uri:
                updated = {"method": UPDATED, "params": {"uri": self._uri}}
                self._session.notify(envelope.notification(updated))
            return
        honoured = params.get("notifications") if isinstance(params, dict) else None
        uris = honoured.get("resourceSubscriptions") if isinstance(honoured, dict) else None
        kept = not self._uri or (isinstance(uris, list) and self._uri in uris)
        self.acknowledged.set_result({"result": {}} if kept else _NOT_SERVED)

    def _ended(self, task: asyncio.Task[None]) -> None:
        fault = None if task.cancelled() else task.exception()
        if not self.acknowledged.done():
            gone = Unavailable("the subscription was ended before the server acknowledged it")
            self.acknowledged.set_exception(gone if fault is None else fault)
            # Nobody may be waiting for it.
            self.acknowledged.exception()
        elif fault is not None:
            log.error("a listen of %r failed: %r", self._session, fault, exc_info=fault)
