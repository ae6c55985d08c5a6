"""MCP 2024-11-05 to 2025-11-25 over Streamable HTTP: sessions, GET streams, and batches at 2025-03-26.

A disconnect is no cancel here: calls run in tasks of their session, and only `notifications/cancelled`, DELETE or
the session's end stop them. Nothing is resumable: no event carries an id.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web
from mcp_types.jsonrpc import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION
from multidict import istr

from node.ingress import envelope
from node.ingress.changes import NOTICE, ChangeFeed, promised
from node.ingress.envelope import RequestId, Shape
from node.ingress.errors import refusal
from node.ingress.exchange import LOG_LEVELS, LegacyExchange
from node.ingress.incoming import Incoming
from node.ingress.reply import Outcome, Reply
from node.ingress.sessions import Session, Sessions
from node.ingress.settings import IngressSettings
from node.ingress.sse import EventStream
from node.ports import Caller, Endpoints
from proto.calls import Answer
from proto.errors import Invalid, MeshError, Unavailable, Unknown

log = logging.getLogger("toolmesh.ingress")

SESSION_ID = istr("Mcp-Session-Id")
BATCHING_VERSION = "2025-03-26"
RESOURCE_NOT_FOUND = -32002

_SWEEP_S_MAX = 60.0
_NOT_HERE = frozenset({"server/discover", "subscriptions/listen", "resources/subscribe", "resources/unsubscribe"})
_MODERN_MEMBERS = frozenset({"resultType", "ttlMs", "cacheScope"})


class LegacyEdge:
    def __init__(self, endpoints: Endpoints, settings: IngressSettings, feed: ChangeFeed) -> None:
        self._endpoints = endpoints
        self._settings = settings
        self._feed = feed
        self.sessions = Sessions(settings)
        self._sweep: asyncio.TimerHandle | None = None
        self.served = 0

    async def close(self) -> None:
        """End every session: cancel its calls, close its streams."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        tasks = self.sessions.end_all()
        if tasks:
            await asyncio.wait(tasks)

    # ---- POST -----------------------------------------------------------------------------------

    async def post(self, incoming: Incoming, message: Any, shape: Shape) -> web.StreamResponse:
        if shape is Shape.REQUEST and message["method"] == "initialize":
            return self._initialize(incoming, message).response()
        found = self._session(incoming)
        if not isinstance(found, Session):
            return found.response()
        if shape is Shape.REQUEST:
            return await self._request(incoming, found, message)
        self._take(found, message, shape)
        return web.Response(status=202)

    async def batch(self, incoming: Incoming, messages: list[Any]) -> web.StreamResponse:
        """2025-03-26: an array of messages, never with initialize; responses come in one array, or as events."""
        if any(isinstance(m, dict) and m.get("method") == "initialize" for m in messages):
            return _refusal(400, INVALID_REQUEST, "initialize must not be part of a batch").response()
        found = self._session(incoming)
        if not isinstance(found, Session):
            return found.response()
        if found.version != BATCHING_VERSION:
            return _refusal(400, INVALID_REQUEST, f"MCP {found.version} has no batches; send one message").response()
        if not 0 < len(messages) <= self._settings.batch_max:
            why = f"a batch must hold 1 to {self._settings.batch_max} messages, not {len(messages)}"
            return _refusal(400, INVALID_REQUEST, why).response()
        return await self._batch(incoming, found, messages)

    def _session(self, incoming: Incoming) -> Session | Outcome:
        """The request's session, or why there is none: 400 for no id, 404 for one not known here to this caller."""
        session_id = incoming.request.headers.get(SESSION_ID)
        if not session_id:
            return _refusal(400, INVALID_REQUEST, f"the {SESSION_ID} header is missing; send initialize first")
        session = self.sessions.find(session_id, incoming.name, incoming.principal.identity, _now_s())
        if session is None:
            return _refusal(404, INVALID_REQUEST, "the session is unknown or has ended; initialize anew")
        if incoming.version_header and incoming.version_header != session.version:
            why = f"MCP-Protocol-Version is not {session.version}, which this session negotiated"
            return _refusal(400, INVALID_REQUEST, why)
        return session

    def _initialize(self, incoming: Incoming, message: dict[str, Any]) -> Outcome:
        self.served += 1
        request_id, params = message["id"], message.get("params") or {}
        asked, capabilities = params.get("protocolVersion"), params.get("capabilities", {})
        if not isinstance(asked, str) or not isinstance(capabilities, dict):
            why = "params.protocolVersion must be a string and params.capabilities an object"
            return Outcome(envelope.error(request_id, INVALID_PARAMS, why))
        version = asked if asked in HANDSHAKE_PROTOCOL_VERSIONS else LATEST_HANDSHAKE_VERSION
        session = Session(incoming.name, incoming.principal.identity, version, capabilities, self._settings)
        try:
            described = self._endpoints.endpoint(incoming.name).describe(
                incoming.caller(version, session.key, capabilities, params)
            )
        except Exception as e:  # the edge where every failure becomes protocol
            refused = self._refused(request_id, e, "initialize", params)
            # There is no session yet that a 404 could be mistaken for the end of.
            return (
                Outcome(refused.body, 404, refused.headers)
                if isinstance(e, MeshError)
                and e.kind
                in (
                    "unknown",
                    "forbidden",
                )
                else refused
            )
        offered, kinds = promised(described, incoming.name)
        try:
            self.sessions.open(session, _now_s())
        except Unavailable as e:
            refused = self._refused(request_id, e, "initialize", params)
            return Outcome(refused.body, 503, refused.headers)
        if kinds:
            session.changes = self._feed.subscribe(
                incoming.name,
                kinds,
                lambda kind: session.notify(envelope.notification({"method": NOTICE[kind]})),
                incoming.principal,
            )
        self._arm_sweep()
        result = {"protocolVersion": version, "capabilities": offered, "serverInfo": described.get("serverInfo")}
        if described.get("instructions"):
            result["instructions"] = described["instructions"]
        return Outcome(envelope.result(request_id, result), headers={SESSION_ID: session.id})

    async def _request(self, incoming: Incoming, session: Session, message: dict[str, Any]) -> web.StreamResponse:
        reply = Reply(incoming.request, self._settings, incoming.accepts_sse)
        try:
            task = self._start(incoming, session, message, reply)
            if isinstance(task, Outcome):
                return await reply.finish(task)
            # Waiting does not tie the call to this POST: a disconnect cancels the wait alone.
            await asyncio.wait((task,))
            if task.cancelled():
                return await reply.finish_silent()
            return await reply.finish(task.result())
        finally:
            reply.abandon()

    async def _batch(self, incoming: Incoming, session: Session, messages: list[Any]) -> web.StreamResponse:
        reply = Reply(incoming.request, self._settings, incoming.accepts_sse)
        try:
            outcomes: list[Outcome] = []
            tasks: list[asyncio.Task[Outcome]] = []
            for message in messages:
                try:
                    shape = envelope.shape_of(message)
                except Invalid as e:
                    outcomes.append(Outcome(envelope.error(None, INVALID_REQUEST, e.message)))
                    continue
                if shape is not Shape.REQUEST:
                    self._take(session, message, shape)
                    continue
                started = self._start(incoming, session, message, reply)
                if isinstance(started, Outcome):
                    outcomes.append(started)
                else:
                    tasks.append(started)
            if not tasks and not outcomes:
                return web.Response(status=202)
            if tasks:
                await asyncio.wait(tasks)
            outcomes += [task.result() for task in tasks if not task.cancelled()]
            if not outcomes:
                return await reply.finish_silent()
            return await reply.finish(Outcome(b"[" + b",".join(o.body for o in outcomes) + b"]"))
        finally:
            reply.abandon()

    def _start(
        self, incoming: Incoming, session: Session, message: dict[str, Any], reply: Reply
    ) -> asyncio.Task[Outcome] | Outcome:
        self.served += 1
        request_id, method, params = message["id"], message["method"], message.get("params") or {}
        try:
            own = self._own(session, method, params)
            if own is not None:
                return Outcome(envelope.result(request_id, own))
            caller = incoming.caller(session.version, session.key, session.capabilities, params)
            return session.start(request_id, self._call(incoming, session, request_id, method, params, caller, reply))
        except MeshError as e:
            return self._refused(request_id, e, method, params)

    def _own(self, session: Session, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        """The result of a method that is the session's own; None for all others."""
        if method == "ping":
            return {}
        if method == "logging/setLevel":
            level = params.get("level")
            if not isinstance(level, str) or level not in LOG_LEVELS:
                raise Invalid(f"params.level must be one of {', '.join(LOG_LEVELS)}")
            session.log_level = level
            return {}
        if method in _NOT_HERE or method == "initialize":
            raise Unknown(f"not a method of MCP {session.version} here", method=method)
        return None

    async def _call(
        self,
        incoming: Incoming,
        session: Session,
        request_id: RequestId,
        method: str,
        params: dict[str, Any],
        caller: Caller,
        reply: Reply,
    ) -> Outcome:
        try:
            endpoint = self._endpoints.endpoint(incoming.name)
            answer = await endpoint.handle(method, params, caller, LegacyExchange(reply, session))
            if "error" in answer:
                return Outcome(envelope.refused(request_id, answer["error"]))
            return Outcome(envelope.result(request_id, _plain(answer["result"])))
        except Exception as e:  # the edge where every failure becomes protocol
            return self._refused(request_id, e, method, params)

    def _take(self, session: Session, message: dict[str, Any], shape: Shape) -> None:
        """A notification, or the answer to a question of ours."""
        if shape is Shape.RESPONSE:
            answer: Answer = {k: message[k] for k in ("error", "result") if k in message}
            if not session.answer(message["id"], answer):
                log.debug("%r answered %r, which nobody waits for", session, message["id"])
        elif message["method"] == "notifications/cancelled":
            request_id = (message.get("params") or {}).get("requestId")
            if envelope.is_request_id(request_id):
                session.cancel(request_id)

    def _refused(self, request_id: RequestId, cause: Exception, method: str, params: dict[str, Any]) -> Outcome:
        refused = refusal(
            cause, method=method, params=params, resource_metadata_url=self._settings.resource_metadata_url
        )
        error = refused.error
        if method == "resources/read" and refused.data["kind"] == "unknown" and refused.code != METHOD_NOT_FOUND:
            error["code"] = RESOURCE_NOT_FOUND
        return Outcome(envelope.refused(request_id, error), refused.legacy_status, refused.headers)

    # ---- GET and DELETE -------------------------------------------------------------------------

    async def get(self, incoming: Incoming) -> web.StreamResponse:
        """The session's stream for what belongs to no request."""
        found = self._session(incoming)
        if not isinstance(found, Session):
            return found.response()
        stream = EventStream(incoming.request, self._settings)
        found.attach(stream)
        try:
            await stream.run()
        finally:
            found.detach(stream)
        return stream.response

    async def delete(self, incoming: Incoming) -> web.StreamResponse:
        found = self._session(incoming)
        if not isinstance(found, Session):
            return found.response()
        self.sessions.end(found)
        return web.Response(status=204)

    # ---- sweeping -------------------------------------------------------------------------------

    def _arm_sweep(self) -> None:
        if self._sweep is None:
            every_s = min(_SWEEP_S_MAX, self._settings.session_idle_s / 2)
            self._sweep = asyncio.get_running_loop().call_later(every_s, self._swept)

    def _swept(self) -> None:
        self._sweep = None
        if ended := self.sessions.sweep(_now_s()):
            log.info("%d idle sessions forgotten, %d open", ended, len(self.sessions))
        if len(self.sessions):
            self._arm_sweep()


def _plain(result: Any) -> Any:
    """Without what only 2026-07-28 knows; a result of an older server is left as it is, whatever it holds."""
    if not isinstance(result, dict) or result.get("resultType") != "complete":
        return result
    return {k: v for k, v in result.items() if k not in _MODERN_MEMBERS}


def _refusal(status: int, code: int, message: str) -> Outcome:
    return Outcome(envelope.error(None, code, message), status)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
