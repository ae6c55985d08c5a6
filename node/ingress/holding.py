"""Streamable HTTP requests at the node that holds their session, whatever way they came and their answers go."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, TypeVar

from mcp_types.jsonrpc import INVALID_REQUEST
from multidict import istr

from node.ingress import batches, envelope
from node.ingress.envelope import Shape
from node.ingress.incoming import Incoming, prefers_stream
from node.ingress.legacy import SESSION_ID, LegacyEdge
from node.ingress.reply import Connection, Outcome, Way
from node.ingress.resumable import ResumableStream
from node.ingress.sessions import Session
from node.ingress.settings import IngressSettings
from proto.errors import Invalid

LAST_EVENT_ID = istr("Last-Event-ID")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """One HTTP request for a session: `message` is what was posted, one or an array of them, `shape` that of one.

    Where the shape is not known yet (None), it is found, and a message that has none is refused.
    """

    verb: str
    incoming: Incoming
    message: Any = None
    shape: Shape | None = None


class Holding:
    """Requests for sessions that this node holds."""

    def __init__(self, edge: LegacyEdge, settings: IngressSettings) -> None:
        self._edge = edge
        self._settings = settings

    async def initialize(self, incoming: Incoming, message: dict[str, Any]) -> Outcome:
        return (await self._edge.initialize(incoming, message))[1]

    async def serve(self, asked: Asked, way: Way[T]) -> T:
        """Answer one request. Cancelling this is a lost connection and stops no call.

        Raises `Invalid` for a message that is none.
        """
        incoming, message = asked.incoming, asked.message
        try:
            session = self._session(incoming)
            if not isinstance(session, Session):
                return await way.finish(session)
            if asked.verb == "GET":
                return await self._get(incoming, session, way)
            if asked.verb == "DELETE":
                self._edge.end(session)
                return await way.finish(Outcome(b"", 204))
            if isinstance(message, list):
                return await self._batch(incoming, session, message, way)
            return await self._post(asked, session, way)
        finally:
            way.abandon()

    def _session(self, incoming: Incoming) -> Session | Outcome:
        """The request's session, or why there is none: 400 for no id, 404 for one not known here to this caller."""
        session_id = incoming.headers.get(SESSION_ID)
        if not session_id:
            return refused(400, f"the {SESSION_ID} header is missing; send initialize first")
        session = self._edge.find(session_id, incoming)
        if session is None:
            return refused(404, "the session is unknown or has ended; initialize anew")
        if incoming.version_header and incoming.version_header != session.version:
            return refused(400, f"MCP-Protocol-Version is not {session.version}, which this session negotiated")
        return session

    async def _post(self, asked: Asked, session: Session, way: Way[T]) -> T:
        incoming, message = asked.incoming, asked.message
        shape = asked.shape or envelope.shape_of(message)
        if shape is not Shape.REQUEST:
            self._edge.take(session, message, shape)
            return await way.finish(Outcome(b"", 202))
        post = Post(session, way, self._stream_after_s(incoming, session))
        return await post.answered_by(self._edge.start(incoming, session, message, post), way)

    async def _batch(self, incoming: Incoming, session: Session, messages: list[Any], way: Way[T]) -> T:
        if (why := batches.refused(messages, session, self._settings.batch_max)) is not None:
            return await way.finish(why)
        post = Post(session, way, self._stream_after_s(incoming, session))
        batch = batches.start(self._edge, incoming, session, messages, post)
        if not batch.expected:
            return await way.finish(Outcome(b"", 202))
        return await post.answered_by(asyncio.get_running_loop().create_task(batch.outcome()), way)

    def _stream_after_s(self, incoming: Incoming, session: Session) -> float:
        if not session.primed:
            return self._settings.promote_after_s
        # Whoever names the event stream first has an answer that can be resumed from the first moment on.
        return 0.0 if prefers_stream(incoming.headers.get("Accept", "")) else self._settings.resumable_after_s

    async def _get(self, incoming: Incoming, session: Session, way: Way[T]) -> T:
        """The session's stream for what belongs to no request; with Last-Event-ID, any stream again."""
        stream, after = None, 0
        last_event_id = incoming.headers.get(LAST_EVENT_ID)
        if last_event_id:
            try:
                stream, after = session.events.find(last_event_id)
            except Invalid as e:
                return await way.finish(refused(400, e.message))
        got = Get(session, stream, after)
        way.on_stream(got.opened)
        try:
            return await way.run()
        finally:
            got.closed()


class Post:
    """The `Out` of one POST. Once it streams, what is sent can be read by whoever resumes the stream.

    That begins with the first message, or, unless the answer is there, after `stream_after_s`.
    """

    def __init__(self, session: Session, way: Way[Any], stream_after_s: float) -> None:
        self._session = session
        self._way = way
        self._stream: ResumableStream | None = None
        self._connection: Connection | None = None
        self._ended: asyncio.Future[None] | None = None
        """Done when the call is; cancelled with the POST."""
        way.on_stream(self._opened)
        if stream_after_s > 0:
            way.promote_after(stream_after_s)
        else:
            way.promote()

    def send(self, message: bytes, *, keep: bool = False) -> bool:
        if self._stream is None and not self._way.promote():
            return False
        return self._stream is not None and self._stream.send(message, keep=keep)

    async def answered_by(
        self, started: Outcome | asyncio.Task[Outcome] | asyncio.Task[Outcome | None], way: Way[T]
    ) -> T:
        """The answer, once it is there. It reaches the stream whether or not this POST is still connected."""
        try:
            if isinstance(started, Outcome):
                self._end(started)
                return await way.finish(started)
            # Waiting does not tie the call to this POST: a disconnect cancels the wait alone.
            self._ended = asyncio.get_running_loop().create_future()
            started.add_done_callback(self._done)
            await self._ended
            outcome = None if started.cancelled() else started.result()
            return await (way.finish_silent() if outcome is None else way.finish(outcome))
        finally:
            if self._stream is not None and self._connection is not None:
                self._stream.disconnect(self._connection)

    def _opened(self, connection: Connection) -> None:
        self._connection = connection
        self._stream = self._session.open_stream("p", connection)

    def _done(self, task: asyncio.Task[Any]) -> None:
        try:
            self._end(None if task.cancelled() else task.result())
        finally:
            if self._ended is not None and not self._ended.done():
                self._ended.set_result(None)

    def _end(self, outcome: Outcome | None) -> None:
        if self._stream is not None:
            self._stream.end(None if outcome is None else outcome.body)


class Get:
    """The reading of one stream by a GET: a new one, or `stream` again from the event `after` on."""

    __slots__ = ("_after", "_connection", "_session", "_stream")

    def __init__(self, session: Session, stream: ResumableStream | None, after: int) -> None:
        self._session = session
        self._stream = stream
        self._after = after
        self._connection: Connection | None = None

    def opened(self, connection: Connection) -> None:
        self._connection = connection
        if self._stream is None:
            self._stream = self._session.open_stream("g", connection)
            self._session.attach(self._stream)
            return
        self._stream.connect(connection, self._after)
        if self._stream.name[0] == "g" and not self._stream.ended:
            self._session.detach(self._stream)
            self._session.attach(self._stream)

    def closed(self) -> None:
        if self._stream is None or self._connection is None:
            return
        if self._stream.name[0] == "g":
            self._session.disconnected(self._stream, self._connection)
        else:
            self._stream.disconnect(self._connection)


def refused(status: int, message: str) -> Outcome:
    return Outcome(envelope.error(None, INVALID_REQUEST, message), status)
