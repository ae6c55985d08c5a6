"""A request for a session that another node holds is carried there, and what comes of it is carried back.

An HTTP request travels as the params of one call between the nodes, its response as the answer. A response that is a
stream travels as events ahead of an empty answer: `{"n", "id"?, "data"?, "keep"?, "retryMs"?}`, numbered by `n`. Where
one is missing the agent's stream is ended, so that it resumes from what it has: the holder has kept the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import web
from mcp_types.jsonrpc import INVALID_REQUEST
from multidict import CIMultiDict

from node.ingress import envelope
from node.ingress.envelope import RequestId
from node.ingress.errors import UNAVAILABLE, refusal
from node.ingress.holding import Asked, Holding
from node.ingress.incoming import TRACEPARENT, TRACESTATE, Incoming, trace_of
from node.ingress.reply import Connection, Opened, Outcome, Reply
from node.ports import Caller, Carrier
from proto.calls import Answer, Call, Exchange, Notification
from proto.errors import Invalid, MeshError, Unavailable, Unknown
from proto.names import NodeId, check_node_name

log = logging.getLogger("toolmesh.ingress")

SESSION_METHOD = "toolmesh/session"
EVENT_METHOD = "toolmesh/session/event"
RETRY_AFTER_S = 5
STREAM_MS = 24 * 3_600_000
"""A carried GET stream ends after so long; its client dials anew."""

_CARRIED_HEADERS = ("Mcp-Session-Id", "Last-Event-ID", "MCP-Protocol-Version", "Accept", TRACEPARENT, TRACESTATE)


class Carriage:
    """Both ends: `carry` at the node that was dialled, `answer` at the one that holds the session."""

    def __init__(self, carrier: Carrier, holding: Holding) -> None:
        self._carrier = carrier
        self._holding = holding
        carrier.handle(SESSION_METHOD, self.answer)

    def holder(self, session_id: str) -> str:
        """The other node that holds the session with this id; empty: it would be this one."""
        node, dot, _ = session_id.partition(".")
        if not dot or node == self._carrier.me:
            return ""
        try:
            return check_node_name(node)
        except Invalid:
            return ""

    # ---- at the node that was dialled -----------------------------------------------------------

    async def carry(self, holder: str, asked: Asked, reply: Reply) -> web.StreamResponse:
        incoming = asked.incoming
        headers = incoming.headers
        params = {
            "verb": asked.verb,
            "name": incoming.name,
            "headers": {name: headers[name] for name in _CARRIED_HEADERS if name in headers},
            "acceptsSse": incoming.accepts_sse,
            "message": asked.message,
        }
        caller = Caller(incoming.principal, trace=trace_of(headers, {}))
        back = _Back(reply)
        options = {"budget_ms": STREAM_MS} if asked.verb == "GET" else {}
        task = asyncio.ensure_future(
            self._carrier.carry(holder, SESSION_METHOD, params, caller, back, **options),
        )
        back.broken = task.cancel
        try:
            await asyncio.wait((task,))
            if back.gap or task.cancelled():
                # Not the end of the stream: the agent comes back for what it lacks.
                return await reply.finish_silent()
            return await self._finish(reply, back, task.result())
        except MeshError as e:
            log.debug("a session of node %r: %s", holder, e.message)
            if back.streaming:
                return await reply.finish_silent()
            return await reply.finish(_lost(holder, asked, e))
        finally:
            task.cancel()
            reply.abandon()

    async def _finish(self, reply: Reply, back: _Back, answer: Answer) -> web.StreamResponse:
        result = answer.get("result")
        result = result if isinstance(result, dict) else {}
        if "status" not in result or back.streaming:
            return await reply.finish_silent()
        return await reply.finish(Outcome(result["body"].encode(), result["status"], result["headers"]))

    # ---- at the node that holds the session ------------------------------------------------------

    async def answer(self, call: Call, exchange: Exchange, peer: NodeId) -> Answer:
        """Serve what `peer` was asked. Cancelling this is the agent's disconnect. Raises `Invalid`."""
        params = call.params
        verb, name, headers = params.get("verb"), params.get("name"), params.get("headers")
        message, accepts_sse = params.get("message"), params.get("acceptsSse") is True
        if verb not in ("POST", "GET", "DELETE") or not isinstance(name, str | None) or not isinstance(headers, dict):
            raise Invalid("a carried request must have a verb, the name of an address and headers")
        texts = CIMultiDict({str(key): str(value) for key, value in headers.items()})
        version = texts.get("MCP-Protocol-Version", "")
        incoming = Incoming(texts, name, call.principal, version, accepts_sse)
        way = CarriedWay(exchange, accepts_sse)
        return await self._holding.serve(Asked(verb, incoming, message), way)


class CarriedWay:
    """The `Way` back to the node that was dialled, and the `Connection` of a stream that goes there."""

    def __init__(self, exchange: Exchange, streams: bool) -> None:
        self._exchange = exchange
        self._streams = streams
        self._opened: Opened | None = None
        self._sent = 0
        self._over = False
        self._closed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    # ---- Way

    def on_stream(self, opened: Opened) -> None:
        self._opened = opened

    def promote(self) -> bool:
        if self._over or not self._streams:
            return False
        if not self._sent:
            self._stop_timer()
            self._send({})
            if self._opened is not None:
                self._opened(self)
        return True

    def promote_after(self, delay_s: float) -> None:
        if self._streams and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.promote)

    async def finish(self, outcome: Outcome) -> Answer:
        self._stop_timer()
        if self._sent:
            self.push(outcome.body, keep=True)
            return {"result": {}}
        body = outcome.body.decode()
        return {"result": {"status": outcome.status, "headers": dict(outcome.headers), "body": body}}

    async def finish_silent(self) -> Answer:
        self._stop_timer()
        return {"result": {}}

    async def run(self) -> Answer:
        self.promote()
        await self._closed.wait()
        return {"result": {}}

    def abandon(self) -> None:
        self._stop_timer()
        self._over = True
        self._opened = None
        self._closed.set()

    # ---- Connection

    def push(self, message: bytes, *, keep: bool = False, event_id: str = "") -> bool:
        if self._closed.is_set():
            return False
        self._send({"data": message.decode(), "keep": keep, "id": event_id})
        return True

    def prime(self, event_id: str, retry_ms: int) -> None:
        self._send({"id": event_id, "retryMs": retry_ms})

    def close(self) -> None:
        self._closed.set()

    def unsent(self) -> list[tuple[bytes, str]]:
        return []

    def _send(self, frame: dict[str, Any]) -> None:
        self._exchange.event({"method": EVENT_METHOD, "params": {"n": self._sent, **frame}})
        self._sent += 1

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Back:
    """The `Exchange` of a carried request: the holder's events become those of the agent's response."""

    def __init__(self, reply: Reply) -> None:
        self.gap = False
        self.broken: Callable[[], object] = lambda: None
        self._reply = reply
        self._next = 0
        self._connection: Connection | None = None
        reply.on_stream(self._opened)

    @property
    def streaming(self) -> bool:
        return self._next > 0

    def event(self, notification: Notification) -> None:
        frame = notification.get("params")
        if notification.get("method") != EVENT_METHOD or not isinstance(frame, dict) or self.gap:
            return
        n = frame.get("n")
        if not isinstance(n, int) or n > self._next:
            self.gap = True
            self.broken()
            return
        if n < self._next:
            return
        self._next += 1
        self._reply.promote()
        if self._connection is None:
            return
        event_id, data, retry_ms = frame.get("id"), frame.get("data"), frame.get("retryMs")
        event_id = event_id if isinstance(event_id, str) else ""
        if isinstance(data, str):
            self._connection.push(data.encode(), keep=frame.get("keep") is True, event_id=event_id)
        elif isinstance(retry_ms, int):
            self._connection.prime(event_id, retry_ms)

    async def request(self, request: Notification) -> Answer:
        raise Unavailable("a carried request asks its agent by events, never so")

    def _opened(self, connection: Connection) -> None:
        self._connection = connection


def _lost(holder: str, asked: Asked, cause: MeshError) -> Outcome:
    """What the agent is told where the session's node did not answer."""
    request_id = _request_id(asked.message)
    if isinstance(cause, Unknown):
        why = f"node {holder!r}, which held this session, is none of this mesh; initialize anew"
        return Outcome(envelope.error(None, INVALID_REQUEST, why), 404)
    if isinstance(cause, Unavailable) or request_id is None:
        retry_after_s = cause.data.get("retry_after_s")
        after_s = max(1, int(retry_after_s)) if isinstance(retry_after_s, int | float) else RETRY_AFTER_S
        why = f"node {holder!r}, which holds this session, cannot be reached now; try again soon, or initialize anew"
        data = {"kind": cause.kind, "retry_after_s": after_s}
        return Outcome(envelope.error(request_id, UNAVAILABLE, why, data), 503, {"Retry-After": str(after_s)})
    refused = refusal(cause)
    body = envelope.error(request_id, refused.code, refused.message, refused.data)
    return Outcome(body, refused.legacy_status, refused.headers)


def _request_id(message: Any) -> RequestId | None:
    """Of a posted request; None for all else."""
    request_id = message.get("id") if isinstance(message, dict) and "method" in message else None
    return request_id if envelope.is_request_id(request_id) else None
