"""Legacy sessions over Streamable HTTP: POST, GET streams, DELETE, and batches at 2025-03-26."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from mcp_types.jsonrpc import INVALID_REQUEST

from node.ingress import envelope
from node.ingress.envelope import Shape
from node.ingress.incoming import Incoming
from node.ingress.legacy import SESSION_ID, LegacyEdge
from node.ingress.reply import Outcome, Reply
from node.ingress.sessions import Session
from node.ingress.settings import IngressSettings
from node.ingress.sse import EventStream
from proto.errors import Invalid

BATCHING_VERSION = "2025-03-26"


class SessionsOverHttp:
    """The HTTP face of a `LegacyEdge`."""

    def __init__(self, edge: LegacyEdge, settings: IngressSettings) -> None:
        self._edge = edge
        self._settings = settings

    async def post(self, request: web.Request, incoming: Incoming, message: Any, shape: Shape) -> web.StreamResponse:
        if shape is Shape.REQUEST and message["method"] == "initialize":
            return self._edge.initialize(incoming, message)[1].response()
        found = self._session(incoming)
        if not isinstance(found, Session):
            return found.response()
        if shape is Shape.REQUEST:
            return await self._request(request, incoming, found, message)
        self._edge.take(found, message, shape)
        return web.Response(status=202)

    async def batch(self, request: web.Request, incoming: Incoming, messages: list[Any]) -> web.StreamResponse:
        """2025-03-26: an array of messages, never with initialize; responses come in one array, or as events."""
        if any(isinstance(m, dict) and m.get("method") == "initialize" for m in messages):
            return _refusal(400, "initialize must not be part of a batch").response()
        found = self._session(incoming)
        if not isinstance(found, Session):
            return found.response()
        if found.version != BATCHING_VERSION:
            return _refusal(400, f"MCP {found.version} has no batches; send one message").response()
        if not 0 < len(messages) <= self._settings.batch_max:
            why = f"a batch must hold 1 to {self._settings.batch_max} messages, not {len(messages)}"
            return _refusal(400, why).response()
        return await self._batch(request, incoming, found, messages)

    async def get(self, request: web.Request, incoming: Incoming) -> web.StreamResponse:
        """The session's stream for what belongs to no request."""
        found = self._session(incoming)
        if not isinstance(found, Session):
            return found.response()
        stream = EventStream(request, self._settings)
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
        self._edge.end(found)
        return web.Response(status=204)

    def _session(self, incoming: Incoming) -> Session | Outcome:
        """The request's session, or why there is none: 400 for no id, 404 for one not known here to this caller."""
        session_id = incoming.headers.get(SESSION_ID)
        if not session_id:
            return _refusal(400, f"the {SESSION_ID} header is missing; send initialize first")
        session = self._edge.find(session_id, incoming)
        if session is None:
            return _refusal(404, "the session is unknown or has ended; initialize anew")
        if incoming.version_header and incoming.version_header != session.version:
            return _refusal(400, f"MCP-Protocol-Version is not {session.version}, which this session negotiated")
        return session

    async def _request(
        self, request: web.Request, incoming: Incoming, session: Session, message: dict[str, Any]
    ) -> web.StreamResponse:
        reply = Reply(request, self._settings, incoming.accepts_sse)
        try:
            task = self._edge.start(incoming, session, message, reply)
            if isinstance(task, Outcome):
                return await reply.finish(task)
            # Waiting does not tie the call to this POST: a disconnect cancels the wait alone.
            await asyncio.wait((task,))
            if task.cancelled():
                return await reply.finish_silent()
            return await reply.finish(task.result())
        finally:
            reply.abandon()

    async def _batch(
        self, request: web.Request, incoming: Incoming, session: Session, messages: list[Any]
    ) -> web.StreamResponse:
        reply = Reply(request, self._settings, incoming.accepts_sse)
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
                    self._edge.take(session, message, shape)
                    continue
                started = self._edge.start(incoming, session, message, reply)
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


def _refusal(status: int, message: str) -> Outcome:
    return Outcome(envelope.error(None, INVALID_REQUEST, message), status)
