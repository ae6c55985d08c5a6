"""One `subscriptions/listen` of 2026-07-28: list changes and what the endpoint tells, merged into one stream.

Every message is tagged with the listen's id; the first acknowledges what is honoured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mcp_types import LOG_LEVEL_META_KEY

from node.ingress import envelope
from node.ingress.changes import KINDS, NOTICE
from node.ingress.envelope import RequestId
from node.ingress.exchange import LOG_LEVELS, loud_enough
from node.ingress.reply import Out
from node.ports import Caller, Endpoint
from node.sdk import subscriptions
from proto import jsons
from proto.calls import Answer, Notification
from proto.errors import Invalid, Unavailable

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
URIS_MAX = 1_000
"""Resources that one listen may name; more are refused."""

_LOG = "notifications/message"
_LIST_KEYS = {f"{kind}ListChanged": kind for kind in KINDS}
_LIST_NOTICES = frozenset(NOTICE.values())


class Filter:
    """What `params` of a listen asks for: `kinds` of lists, and the `rest`, which is for the server to honour.

    Raises `Invalid` where a member that MCP knows is not what MCP says.
    """

    def __init__(self, params: dict[str, Any]) -> None:
        asked = params.get("notifications")
        if not isinstance(asked, dict):
            raise Invalid(f"params.notifications is {jsons.type_name(asked)}; give an object of what to hear of")
        for key in _LIST_KEYS:
            if not isinstance(asked.get(key), bool | None):
                raise Invalid(f"params.notifications.{key} is {jsons.type_name(asked[key])}; give true or false")
        uris = asked.get("resourceSubscriptions")
        if uris is not None and not (isinstance(uris, list) and all(isinstance(uri, str) for uri in uris)):
            raise Invalid("params.notifications.resourceSubscriptions must be an array of URIs")
        if uris and len(uris) > URIS_MAX:
            raise Invalid(f"params.notifications.resourceSubscriptions names {len(uris)} URIs; at most {URIS_MAX}")
        self.kinds = frozenset(kind for key, kind in _LIST_KEYS.items() if asked.get(key) is True)
        # Empty and null members ask for nothing.
        self.rest = {key: value for key, value in asked.items() if key not in _LIST_KEYS and value}


class Listening:
    """The `Exchange` of one listen that hears of the lists `kinds`. Nothing goes out before the acknowledgement.

    List changes that come earlier wait for it: at most one of each kind. A client that reads so slowly that a change
    cannot be told is left: `lost` is called, and the end of the stream tells it to read everything again. Log
    messages may go missing.
    """

    def __init__(
        self, request_id: RequestId, kinds: frozenset[str], out: Out, log_level: str, lost: Callable[[], None]
    ) -> None:
        self.meta = {subscriptions.SUBSCRIPTION_ID_META_KEY: request_id}
        self.acknowledged = asyncio.Event()
        self._kinds = kinds
        self._out = out
        self._log_level = log_level
        self._lost = lost
        self._early: dict[str, None] = {}

    def acknowledge(self, rest: dict[str, Any]) -> None:
        """Say what is honoured: the lists, and of the rest what the endpoint says."""
        honoured = {f"{kind}ListChanged": True for kind in sorted(self._kinds)}
        self._send({"method": ACKNOWLEDGED, "params": {"notifications": {**honoured, **rest}}})
        self.acknowledged.set()
        for kind in self._early:
            self.changed(kind)
        self._early.clear()

    def changed(self, kind: str) -> None:
        """A list of this kind changed."""
        if self.acknowledged.is_set():
            self._send({"method": NOTICE[kind]})
        else:
            self._early[kind] = None

    def event(self, notification: Notification) -> None:
        method, params = notification.get("method"), notification.get("params")
        if not self.acknowledged.is_set():
            # By its contract an endpoint says this first.
            rest = params.get("notifications") if method == ACKNOWLEDGED and isinstance(params, dict) else None
            self.acknowledge(rest if isinstance(rest, dict) else {})
            if method == ACKNOWLEDGED:
                return
        # List changes are told by the catalogue, which knows them of every server.
        if method != ACKNOWLEDGED and method not in _LIST_NOTICES and not self._quiet(notification):
            self._send(notification)

    async def request(self, request: Notification) -> Answer:
        raise Unavailable(f"the client cannot be asked for {request.get('method')!r} on a subscription's stream")

    def _quiet(self, notification: Notification) -> bool:
        if notification.get("method") != _LOG:
            return False
        return self._log_level not in LOG_LEVELS or not loud_enough(notification, self._log_level)

    def _send(self, notification: Notification) -> None:
        params = notification.get("params")
        params = params if isinstance(params, dict) else {}
        meta = params.get("_meta")
        tagged = {**params, "_meta": {**(meta if isinstance(meta, dict) else {}), **self.meta}}
        keep = notification.get("method") != _LOG
        if not self._out.send(envelope.notification({**notification, "params": tagged}), keep=keep) and keep:
            self._lost()


async def hear(
    endpoint: Endpoint,
    asked: Filter,
    params: dict[str, Any],
    caller: Caller,
    hearing: Listening,
    closed: asyncio.Event,
) -> Answer:
    """Until `closed`, or the endpoint ends its part; it is only asked where something is asked of it."""
    if not asked.rest:
        hearing.acknowledge({})
        await closed.wait()
        return {"result": {}}
    canonical: dict[str, Any] = {"notifications": asked.rest}
    if (level := log_level(params)) in LOG_LEVELS:
        canonical["_meta"] = {LOG_LEVEL_META_KEY: level}
    loop = asyncio.get_running_loop()
    listen, closing = loop.create_task(endpoint.listen(canonical, caller, hearing)), loop.create_task(closed.wait())
    try:
        await asyncio.wait((listen, closing), return_when=asyncio.FIRST_COMPLETED)
        return listen.result() if listen.done() else {"result": {}}
    finally:
        for task in (listen, closing):
            task.cancel()
        # What the endpoint holds for it is let go of before the stream ends.
        await asyncio.wait((listen, closing))


def log_level(params: dict[str, Any]) -> str:
    """The level that a request's `_meta` asks logs at; empty: none asked for."""
    meta = params.get("_meta")
    level = meta.get(LOG_LEVEL_META_KEY) if isinstance(meta, dict) else None
    return level if isinstance(level, str) else ""
