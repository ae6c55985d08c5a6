"""Legacy sessions over Streamable HTTP: POST, GET streams, DELETE, and batches at 2025-03-26."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from mcp_types.jsonrpc import INVALID_REQUEST

from node.ingress import batches, envelope
from node.ingress.envelope import Shape
from node.ingress.incoming import Incoming
from node.ingress.legacy import SESSION_ID, LegacyEdge
from node.ingress.reply import Outcome, Reply
from node.ingress.sessions import Session
from node.ingress.settings import IngressSettings
from node.ingress.sse import EventStream


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
        found = self._session(incoming)
        if not isinstance(found, Session):
            return found.response()
        if (refused := batches.refused(messages, found, self._settings.batch_max)) is not None:
            return refused.response()
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
            batch = batches.start(self._edge, incoming, session, messages, reply)
            if not batch.expected:
                return web.Response(status=202)
            outcome = await batch.outcome()
            return await (reply.finish_silent() if outcome is None else reply.finish(outcome))
        finally:
            reply.abandon()


def _refusal(status: int, message: str) -> Outcome:
    return Outcome(envelope.error(None, INVALID_REQUEST, message), status)
