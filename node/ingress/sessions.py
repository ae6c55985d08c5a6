"""Sessions of the revisions before 2026-07-28: who opened one, what runs in it, when it is forgotten."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from node.ingress.changes import Subscription
from node.ingress.envelope import RequestId
from node.ingress.levels import loud_enough
from node.ingress.reply import Connection, Out, Outcome
from node.ingress.resumable import EventStore, Kept, ResumableStream
from node.ingress.settings import IngressSettings
from node.ports import Caller
from proto import jsons
from proto.calls import Answer, Notification
from proto.errors import Exhausted, Unavailable
from proto.records import Principal

if TYPE_CHECKING:
    from node.ingress.subscribed import SessionListens

log = logging.getLogger("toolmesh.ingress")


PRIMING_VERSION = "2025-11-25"
"""From here on a stream begins with an event that tells nothing but where to resume."""

WAITING_MAX = 64
"""Messages of a session that wait for a stream to come; the oldest is dropped for one more."""


class Session:
    """One agent's session at one endpoint.

    `id` is the secret that the client presents, `key` its digest, safe to pass on and to log. `asked` are requests
    of servers that the client has not answered yet, by our own ids. An `Out` for what belongs to no call: a GET
    stream, or the one connection of a session that has one, takes it.
    """

    __slots__ = (
        "_aside",
        "_asked",
        "_calls",
        "_kept",
        "_next_ask",
        "_running",
        "_settings",
        "_store",
        "_streams",
        "_waiting",
        "caller",
        "changes",
        "endpoint",
        "id",
        "key",
        "listens",
        "log_level",
        "logs",
        "used_at_s",
    )

    def __init__(
        self,
        endpoint: str | None,
        principal: Principal,
        version: str,
        capabilities: dict[str, Any],
        settings: IngressSettings,
        *,
        node: str = "",
        kept: Kept | None = None,
    ) -> None:
        # Whoever reads the id knows which node holds the session.
        self.id = f"{node}.{secrets.token_urlsafe(24)}" if node else secrets.token_urlsafe(24)
        self.key = hashlib.sha256(self.id.encode()).hexdigest()[:32]
        self.endpoint = endpoint
        self.caller = Caller(principal, version, self.key, capabilities)
        self.logs = False
        """Does the server promise to log?"""
        self.log_level: str | None = None
        self.used_at_s = 0.0
        self.changes: Subscription | None = None
        self.listens: SessionListens | None = None
        self._settings = settings
        self._calls: dict[RequestId, list[asyncio.Task[Outcome]]] = {}
        self._aside: set[asyncio.Task[None]] | None = None
        self._running = 0
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._next_ask = 0
        self._streams: list[Out] = []
        self._waiting: dict[bytes, None] | None = None
        self._kept = kept if kept is not None else Kept(settings.events_bytes_max)
        self._store: EventStore | None = None

    def __repr__(self) -> str:
        return (
            f"Session({self.key[:8]} at {self.endpoint or '/'}, {self.version}, "
            f"{self._running} running, {len(self._streams)} streams)"
        )

    @property
    def version(self) -> str:
        return self.caller.era

    @property
    def primed(self) -> bool:
        """Does a stream begin with an id?"""
        return self.version >= PRIMING_VERSION

    @property
    def capabilities(self) -> dict[str, Any]:
        """What the client declared."""
        return self.caller.client_capabilities

    @property
    def busy(self) -> bool:
        return bool(self._running or self._streams)

    @property
    def streams(self) -> int:
        return len(self._streams)

    # ---- calls ----------------------------------------------------------------------------------

    def start(self, request_id: RequestId, call: Coroutine[Any, Any, Outcome]) -> asyncio.Task[Outcome]:
        """Run a call that outlives its POST. Raises `Exhausted` at the bound.

        The same id may run twice: each POST waits for its own task, so neither gets the other's answer.
        """
        if self._running >= self._settings.session_calls_max:
            call.close()
            raise Exhausted(f"{self._running} calls of this session are running; wait for one to end")
        task = asyncio.get_running_loop().create_task(call)
        self._calls.setdefault(request_id, []).append(task)
        self._running += 1
        task.add_done_callback(lambda done: self._ended(request_id, done))
        return task

    def _ended(self, request_id: RequestId, task: asyncio.Task[Outcome]) -> None:
        self._running -= 1
        same_id = self._calls[request_id]
        same_id.remove(task)
        if not same_id:
            del self._calls[request_id]

    def cancel(self, request_id: RequestId) -> None:
        """The client gave up on a request. 1 and "1" are different ids; an unknown one is too late, not wrong."""
        for task in self._calls.get(request_id, ()):
            task.cancel()

    def aside(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run what nobody waits for; it ends with the session. False: too much runs already, this does not."""
        if self._running >= self._settings.session_calls_max:
            work.close()
            return False
        task = asyncio.get_running_loop().create_task(work)
        if self._aside is None:
            self._aside = set()
        self._aside.add(task)
        self._running += 1
        task.add_done_callback(self._aside_ended)
        return True

    def _aside_ended(self, task: asyncio.Task[None]) -> None:
        self._running -= 1
        if self._aside is not None:
            self._aside.discard(task)

    # ---- what the client hears and is asked -----------------------------------------------------

    def quiet(self, notification: Notification) -> bool:
        """Is this a log message below the level that the client has set?"""
        if self.log_level is None or notification.get("method") != "notifications/message":
            return False
        return not loud_enough(notification, self.log_level)

    def ask(self) -> tuple[int, asyncio.Future[Answer]]:
        """A new id of ours, and where its answer will appear. Raises `Unavailable` at the bound."""
        if len(self._asked) >= self._settings.session_calls_max:
            raise Unavailable(f"{len(self._asked)} questions to this client are open")
        self._next_ask += 1
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[self._next_ask] = answer
        return self._next_ask, answer

    def answer(self, request_id: Any, answer: Answer) -> bool:
        """The client's response. False: nobody waits for it."""
        waiting = self._asked.get(request_id) if isinstance(request_id, int) else None
        if waiting is None or waiting.done():
            return False
        waiting.set_result(answer)
        return True

    def forget(self, request_id: int) -> None:
        self._asked.pop(request_id, None)

    # ---- streams --------------------------------------------------------------------------------

    @property
    def events(self) -> EventStore:
        """What was sent on the streams of this session."""
        if self._store is None:
            self._store = EventStore(self._settings, self._kept)
        return self._store

    def open_stream(self, kind: str, connection: Connection) -> ResumableStream:
        """A new stream of a POST (`p`) or a GET (`g`), read by `connection`."""
        stream = self.events.open(kind)
        stream.connect(connection)
        if self.primed:
            connection.prime(stream.start_id, self._settings.retry_ms)
        return stream

    def attach(self, stream: Out) -> None:
        """Messages that belong to no call go to the newest stream; one beyond the bound ends the oldest."""
        if len(self._streams) >= self._settings.session_streams_max:
            # Out of the list at once: those that come before its connection has closed must end others.
            oldest = self._streams.pop(0)
            if isinstance(oldest, ResumableStream):
                oldest.end()
        self._streams.append(stream)
        waiting, self._waiting = self._waiting, None
        for message in waiting or ():
            stream.send(message)

    def detach(self, stream: Out) -> None:
        if stream in self._streams:
            self._streams.remove(stream)

    def disconnected(self, stream: ResumableStream, connection: Connection) -> None:
        """A GET stream's connection is lost or over: what it did not write is passed on, the rest may be resumed."""
        if stream.connection is not None and stream.connection is not connection:
            # The client has come back for this stream already, and has got all that is kept of it.
            return
        self.detach(stream)
        unsent = connection.unsent()
        first_id = next((event_id for _, event_id in unsent if event_id), "")
        if first_id:
            stream.retract(first_id)
        stream.disconnect(connection)
        for message, _ in unsent:
            self.notify(message)

    def renew(self, principal: Principal) -> None:
        """The caller has proved itself anew: from now on that proof is what the session rests on."""
        if self.caller.principal is not principal and self.caller.principal != principal:
            self.caller = replace(self.caller, principal=principal)
            if self.changes is not None:
                self.changes.principal = principal

    def disconnect(self) -> None:
        """Close the streams; the session stays, and its client may come back for what they did not tell."""
        for stream in self._streams:
            if isinstance(stream, ResumableStream) and stream.connection is not None:
                stream.connection.close()

    def send(self, message: bytes, *, keep: bool = False) -> bool:
        """To one stream only, as MCP asks. False: none is open."""
        return any(stream.send(message, keep=keep) for stream in reversed(self._streams))

    def notify(self, message: bytes) -> None:
        """Send, or keep it for the next stream if none is open: once, however often it is said."""
        if self.send(message):
            return
        if self._waiting is None:
            self._waiting = {}
        self._waiting[jsons.compact(message)] = None
        if len(self._waiting) > WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]

    # ---- the end --------------------------------------------------------------------------------

    def end(self) -> list[asyncio.Task[Any]]:
        """Cancel and close everything; returns the tasks that are ending."""
        if self.changes is not None:
            self.changes.end()
            self.changes = None
        tasks: list[asyncio.Task[Any]] = [task for same_id in self._calls.values() for task in same_id]
        tasks += self._aside or ()
        if self.listens is not None:
            tasks += self.listens.end()
        for task in tasks:
            task.cancel()
        if self._store is not None:
            self._store.end()
        return tasks

    def forget_events(self) -> None:
        """No stream can be resumed from before now."""
        if self._store is not None:
            self._store.clear()


class Sessions:
    """All open sessions, least recently used first."""

    def __init__(self, settings: IngressSettings) -> None:
        self._settings = settings
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self.kept = Kept(settings.events_bytes_max, self._relieve)

    def __len__(self) -> int:
        return len(self._sessions)

    def __repr__(self) -> str:
        return f"Sessions({len(self._sessions)} of {self._settings.sessions_max})"

    @property
    def streams(self) -> int:
        return sum(s.streams for s in self._sessions.values())

    def open(self, session: Session, now_s: float) -> None:
        """Raises `Unavailable` where none of the sessions at the bound is idle."""
        if len(self._sessions) >= self._settings.sessions_max:
            idle = next((s for s in self._sessions.values() if not s.busy), None)
            if idle is None:
                raise Unavailable(f"{len(self._sessions)} sessions are open and none is idle; try again later")
            log.info("%r makes room for a new session", idle)
            self.end(idle)
        session.used_at_s = now_s
        self._sessions[session.id] = session

    def find(
        self, session_id: str, endpoint: str | None, identity: tuple[str, str, str], now_s: float
    ) -> Session | None:
        """The session, if it was opened at this endpoint by this principal; another's is as good as none."""
        session = self._sessions.get(session_id)
        if session is None or session.endpoint != endpoint or session.caller.principal.identity != identity:
            return None
        if self._expired(session, now_s):
            self.end(session)
            return None
        self._touch(session, now_s)
        return session

    def end(self, session: Session) -> list[asyncio.Task[Any]]:
        self._sessions.pop(session.id, None)
        return session.end()

    def end_all(self) -> list[asyncio.Task[Any]]:
        return [task for session in list(self._sessions.values()) for task in self.end(session)]

    def recheck(self, valid: Callable[[Principal], bool], now_s: float) -> None:
        """End the sessions of callers that are not `valid` any more; `now_s` in unix seconds.

        Where only the proof has ended, the streams end: with a new one the client comes back to its session.
        """
        for session in list(self._sessions.values()):
            principal = session.caller.principal
            if not valid(principal):
                if 0 < principal.expires_s <= now_s:
                    session.disconnect()
                else:
                    log.info("%r ends: its caller is not valid any more", session)
                    self.end(session)

    def sweep(self, now_s: float) -> int:
        """Forget what has expired; returns how many. Cost: only the expired and the busy among the oldest."""
        ended = 0
        # Each is looked at once, whatever the clock says of those that were put back.
        for _ in range(len(self._sessions)):
            oldest = next(iter(self._sessions.values()))
            if now_s - oldest.used_at_s < self._settings.session_idle_s:
                break
            if oldest.busy:
                self._touch(oldest, now_s)
            else:
                self.end(oldest)
                ended += 1
        return ended

    def _relieve(self) -> None:
        """Events of the sessions used the longest ago are forgotten, until a quarter of the bound is free."""
        for session in self._sessions.values():
            if self.kept.bytes <= self.kept.bytes_max * 3 // 4:
                break
            session.forget_events()

    def _expired(self, session: Session, now_s: float) -> bool:
        return not session.busy and now_s - session.used_at_s >= self._settings.session_idle_s

    def _touch(self, session: Session, now_s: float) -> None:
        session.used_at_s = now_s
        self._sessions.move_to_end(session.id)
