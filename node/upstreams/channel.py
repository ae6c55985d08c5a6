"""JSON-RPC 2.0 with one server, whatever carries it: ids, progress tokens, cancellation, and who gets what."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from node.upstreams.attribution import (
    Listener,
    Pending,
    of_one_client,
    of_one_principal,
    only_call,
    subscription_of,
    to_be_asked,
    without_subscription,
)
from node.upstreams.clock import CallClock
from node.upstreams.questions import INTERNAL_ERROR, METHOD_NOT_FOUND, Questions
from node.upstreams.wire import Message, Wire, logger
from proto.calls import Answer, Exchange, Notification
from proto.errors import Exhausted, MeshError, OutcomeUnknown, Unavailable

PENDING_MAX = 4096
ABANDONED_MAX = 1024
"""Requests given up whose late answers are still expected; the oldest are forgotten."""
TASK_TOKENS_MAX = 1024
"""Tasks whose progress is still expected; the oldest are forgotten."""
ERRANDS_MAX = 256
"""Replies and cancellations on their way; what is beyond is dropped with a warning."""
ERRAND_TIMEOUT_S = 30.0
ASK_TIMEOUT_S = 600.0

LISTEN = "subscriptions/listen"
UPDATED = "notifications/resources/updated"

LIST_CHANGED = {
    "notifications/tools/list_changed": "tools",
    "notifications/prompts/list_changed": "prompts",
    "notifications/resources/list_changed": "resources",
}

LOG_LEVEL = "io.modelcontextprotocol/logLevel"
_HOP_WORDS = (
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/clientCapabilities",
    LOG_LEVEL,
)
"""`_meta` members (2026-07-28) that describe the connection to the caller, not ours to the server."""


_NONE: dict[str, Any] = {}
"""No capabilities; never changed."""

Dress = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
"""Gives (params, the client's capabilities) the form that the agreed revision asks for; changes neither."""


def legacy_dress(params: dict[str, Any], _capabilities: dict[str, Any]) -> dict[str, Any]:
    """On a connection with a handshake, the envelope of another hop would be misread: it is left out.

    Capabilities were declared once and for all when the session began.
    """
    meta = params.get("_meta")
    if not isinstance(meta, dict) or not any(word in meta for word in _HOP_WORDS):
        return params
    kept = {k: v for k, v in meta.items() if k not in _HOP_WORDS}
    rest = {k: v for k, v in params.items() if k != "_meta"}
    return {**rest, "_meta": kept} if kept else rest


class Channel:
    """Requests over one `Wire`. `on_changed` hears which list (`tools`, `prompts`, `resources`) went stale.

    At most `PENDING_MAX` requests are pending. Where this side has declared nothing (`may_ask` is False), whatever
    the server asks beyond `ping` is answered -32601.
    """

    def __init__(
        self,
        name: str,
        wire: Wire,
        on_changed: Callable[[str], None],
        *,
        may_ask: bool = False,
        ask_timeout_s: float = ASK_TIMEOUT_S,
    ) -> None:
        self.name = name
        self.wire = wire
        self.dress: Dress = legacy_dress
        self.cancel_by_notification = True
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.heard_at = asyncio.get_running_loop().time()
        self.listeners: list[Listener] = []
        """Who hears what belongs to no call, first come first."""
        self.opener: Exchange | None = None
        """While the session begins on behalf of a call that has not been sent yet: that call's side."""
        self._may_ask = may_ask
        self._on_changed = on_changed
        self._pending: dict[int, Pending] = {}
        self._abandoned: OrderedDict[int, None] = OrderedDict()
        self._errands: set[asyncio.Task[None]] = set()
        self._questions = Questions(name, self._errand, ask_timeout_s)
        self._last_id = 0
        self._task_tokens: OrderedDict[int, str | int] = OrderedDict()

    def __repr__(self) -> str:
        state = "gone" if self.gone.done() else "open"
        return f"Channel({self.name} {state} pending={len(self._pending)} abandoned={len(self._abandoned)})"

    async def open(self) -> None:
        """Raises `Unavailable` with an actionable cause."""
        await self.wire.open(self)

    async def request(
        self,
        method: str,
        params: dict[str, Any],
        exchange: Exchange | None = None,
        on_sent: Callable[[], None] | None = None,
        *,
        capabilities: dict[str, Any] = _NONE,
        holder: str = "",
        clock: CallClock | None = None,
    ) -> Answer:
        """Ask, and give back `{"result": …}` or `{"error": …}` as the server said it.

        Without an `exchange` the request is our own. `on_sent` hears when it starts to leave; `holder` is the client
        session that asks, `clock` stands still while it is asked back. Cancelling the awaiting task tells the server,
        best effort. Raises `Unavailable` (not sent), `OutcomeUnknown` (sent, the answer will not come), `Exhausted`.
        """
        if self.gone.done():
            raise Unavailable(f"server {self.name!r} is not connected: {self.gone.result()}")
        if len(self._pending) >= PENDING_MAX:
            raise Exhausted(f"server {self.name!r}: {PENDING_MAX} requests are pending", retry_after_s=1)
        self._last_id += 1
        rid = self._last_id
        params = self.dress(params, capabilities)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        pending = Pending(answer, exchange, on_sent, holder, clock, method == LISTEN)
        meta = params.get("_meta")
        if exchange is not None and isinstance(meta, dict) and isinstance(meta.get("progressToken"), str | int):
            pending.token = meta["progressToken"]
            params = {**params, "_meta": {**meta, "progressToken": rid}}
        self._pending[rid] = pending
        if exchange is not None:
            self.opener = None
        try:
            await self.wire.carry({"jsonrpc": "2.0", "id": rid, "method": method, "params": params}, pending.mark_sent)
            return await answer
        except asyncio.CancelledError:
            # Cancelling a task that awaits the answer has cancelled the future too.
            if pending.sent and (answer.cancelled() or not answer.done()):
                self._abandon(rid)
            raise
        finally:
            del self._pending[rid]
            if self._may_ask:
                self._questions.ended(pending)
            if answer.done() and not answer.cancelled():
                answer.exception()

    async def notify(self, method: str, params: dict[str, Any] | None = None) -> None:
        """Raises `Unavailable` or `OutcomeUnknown`."""
        message: Message = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        await self.wire.carry(message, _nothing)

    async def close(self, cause: str) -> None:
        """Fail what is pending and let the wire go. Never raises."""
        self.lost(cause)
        await self._questions.close()
        for errand in tuple(self._errands):
            errand.cancel()
        await self.wire.close()

    # ---- what the wire hears (Sink) --------------------------------------------------------------

    def received(self, message: Any, related: int | None = None) -> None:
        """Route one parsed JSON value. Arrays are 2025-03-26 batches."""
        self.heard_at = asyncio.get_running_loop().time()
        if isinstance(message, list):
            for part in message:
                self._route(part, related)
        else:
            self._route(message, related)

    def unreadable(self, request_id: int | None, why: str) -> None:
        pending = self._pending.get(request_id) if request_id is not None else None
        if pending is not None and not pending.answer.done():
            pending.answer.set_exception(
                OutcomeUnknown(f"server {self.name!r} answered, but its answer cannot be taken: {why}")
            )

    def lost(self, cause: str) -> None:
        if self.gone.done():
            return
        self.gone.set_result(cause)
        for pending in self._pending.values():
            # A request that was not written yet hears of it from `carry`.
            if pending.sent and not pending.answer.done():
                pending.answer.set_exception(OutcomeUnknown(f"server {self.name!r} went away during the call: {cause}"))

    def _route(self, message: Any, related: int | None) -> None:
        if not isinstance(message, dict):
            logger.debug("server %s: dropped a message that is not a JSON object", self.name)
        elif isinstance(method := message.get("method"), str):
            if "id" in message:
                self._asked(message, related)
            else:
                self._told(method, message, related)
        else:
            self._answered(message)

    def _answered(self, message: Message) -> None:
        rid = _own_id(message.get("id"))
        pending = self._pending.get(rid) if rid is not None else None
        if pending is None or pending.answer.done():
            late = rid is not None and self._abandoned.pop(rid, False) is None
            logger.debug("server %s: dropped %s answer", self.name, "a late" if late else "an unexpected")
            return
        if message.get("error") is not None:
            pending.answer.set_result({"error": _error(message["error"])})
        elif "result" in message:
            if pending.token is not None and rid is not None:
                self._keep_token(rid, pending.token, message["result"])
            pending.answer.set_result({"result": message["result"]})
        else:
            pending.answer.set_exception(
                OutcomeUnknown(f"server {self.name!r} answered with neither a result nor an error")
            )

    # ---- what the server says of its own accord --------------------------------------------------

    def _asked(self, message: Message, related: int | None) -> None:
        request_id, method = message["id"], message["method"]
        if method == "ping":
            self._errand({"jsonrpc": "2.0", "id": request_id, "result": {}}, "reply to ping")
            return
        if not self._may_ask:
            why = f"{method} is not available: this client did not declare it"
            self._questions.refuse(request_id, METHOD_NOT_FOUND, why)
            return
        calls: list[Pending] = []
        if related is not None:
            pending = self._pending.get(related)
            calls = [pending] if pending is not None and pending.is_call else []
        else:
            calls = of_one_client(self._pending.values())
        exchange = calls[-1].exchange if calls else None
        if exchange is None and related is None and not self._calls_run():
            exchange = to_be_asked(self.listeners) or self.opener
        if exchange is None:
            why = f"{method}: it belongs to no call that runs, and no client listens that could be asked"
            self._questions.refuse(request_id, INTERNAL_ERROR, why)
            return
        self._questions.begin(message, exchange, calls, exact=related is not None)

    def _calls_run(self) -> bool:
        return any(p.is_call for p in self._pending.values())

    def _told(self, method: str, message: Message, related: int | None) -> None:
        if (kind := LIST_CHANGED.get(method)) is not None:
            self._on_changed(kind)
            return
        notification: Notification = {k: v for k, v in message.items() if k != "jsonrpc"}
        params = notification.get("params")
        if method == "notifications/progress":
            self._progressed(notification)
        elif method == "notifications/cancelled":
            self._questions.take_back(params.get("requestId") if isinstance(params, dict) else None)
        else:
            exchanges = self._hearers(method, params, related)
            if not exchanges:
                logger.debug("server %s: dropped %s, which belongs to nobody", self.name, method)
            for exchange in exchanges:
                self._pass_on(exchange, without_subscription(notification))

    def _hearers(self, method: str, params: Any, related: int | None) -> list[Exchange]:
        """Those whom a notification is for; none where it cannot be known."""
        if (tag := subscription_of(params)) is not None:
            related = _own_id(tag)
        if method == UPDATED and self.listeners and isinstance(params, dict):
            uri = params.get("uri")
            return [x.exchange for x in self.listeners if isinstance(uri, str) and x.wants(uri)]
        if related is not None:
            pending = self._pending.get(related)
            return [pending.exchange] if pending is not None and pending.exchange is not None else []
        calls = self._pending.values()
        call = only_call(calls) if not self._abandoned else None
        if call is None and self._may_ask and not self._abandoned:
            # Such a session runs calls of one client at a time, where it cannot tell them apart.
            one = of_one_client(calls)
            call = one[-1] if one else None
        if call is not None and call.exchange is not None:
            return [call.exchange]
        return [x.exchange for x in of_one_principal(self.listeners)]

    def _pass_on(self, exchange: Exchange, notification: Notification) -> None:
        try:
            exchange.event(notification)
        except Exception:
            # One caller's end must not stop the reading for all of them.
            logger.exception("server %s: whoever hears of its notifications failed", self.name)

    def _progressed(self, notification: Notification) -> None:
        params = notification.get("params")
        if not isinstance(params, dict):
            return
        rid = _own_id(params.get("progressToken"))
        if rid is None:
            return
        pending = self._pending.get(rid)
        token: str | int | None = None
        exchanges: list[Exchange] = []
        if pending is not None and pending.exchange is not None and not pending.answer.done():
            token, exchanges = pending.token, [pending.exchange]
        elif rid in self._task_tokens:
            token, exchanges = self._task_tokens[rid], self._hearers("notifications/progress", None, None)
        if token is None or not exchanges:
            logger.debug("server %s: dropped progress that belongs to no call", self.name)
            return
        for exchange in exchanges:
            self._pass_on(exchange, {**notification, "params": {**params, "progressToken": token}})

    def _keep_token(self, rid: int, token: str | int, result: Any) -> None:
        """Where the result is a task (2025-11-25), progress goes on under the token of the call that began it."""
        if isinstance(result, dict) and isinstance(result.get("task"), dict):
            self._task_tokens[rid] = token
            if len(self._task_tokens) > TASK_TOKENS_MAX:
                self._task_tokens.popitem(last=False)

    # ---- small messages on the side --------------------------------------------------------------

    def _abandon(self, rid: int) -> None:
        self._abandoned[rid] = None
        if len(self._abandoned) > ABANDONED_MAX:
            self._abandoned.popitem(last=False)
        if self.cancel_by_notification and not self.gone.done():
            params = {"requestId": rid, "reason": "cancelled by the caller"}
            self._errand({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}, "cancellation")

    def _errand(self, message: Message, name: str) -> None:
        if len(self._errands) >= ERRANDS_MAX:
            logger.warning("server %s: dropped a %s, %d messages are waiting already", self.name, name, ERRANDS_MAX)
            return
        errand = asyncio.create_task(self._run_errand(message, name))
        self._errands.add(errand)
        errand.add_done_callback(self._errands.discard)

    async def _run_errand(self, message: Message, name: str) -> None:
        try:
            async with asyncio.timeout(ERRAND_TIMEOUT_S):
                await self.wire.carry(message, _nothing)
        except (MeshError, TimeoutError) as e:
            logger.debug("server %s: %s was not delivered: %s", self.name, name, e)


def _nothing() -> None:
    return None


def _error(value: Any) -> dict[str, Any]:
    """An error as it is; one that lacks what JSON-RPC demands (§5.1) is completed, or callers could not read it."""
    if not isinstance(value, dict):
        return {"code": INTERNAL_ERROR, "message": "the server answered with an error that is no object", "data": value}
    code, message = value.get("code"), value.get("message")
    if type(code) is int and isinstance(message, str):
        return value
    return {
        **value,
        "code": code if type(code) is int else INTERNAL_ERROR,
        "message": message if isinstance(message, str) else "the server answered with an error that has no message",
    }


def _own_id(value: Any) -> int | None:
    """One of our ids as a server gives it back: some write it as a string. `True` is not 1."""
    if type(value) is int:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return None
