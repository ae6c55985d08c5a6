"""Sessions of the revisions before 2026-07-28: who opened one, what runs in it, when it is forgotten."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any, Protocol

from node.ingress.changes import Subscription
from node.ingress.envelope import RequestId
from node.ingress.reply import Outcome
from node.ingress.settings import IngressSettings
from node.ingress.sse import Outbox
from proto.calls import Answer
from proto.errors import Exhausted, Unavailable

log = logging.getLogger("toolmesh.ingress")


class Stream(Protocol):
    """Where messages that belong to no request go: a GET stream, or the one connection of a session that has one."""

    @property
    def outbox(self) -> Outbox: ...


class Session:
    """One agent's session at one endpoint.

    `id` is the secret that the client presents, `key` its digest, safe to pass on and to log. `asked` are requests
    of servers that the client has not answered yet, by our own ids. At most three notices (one per kind of list)
    wait for a GET stream to come.
    """

    def __init__(
        self,
        endpoint: str | None,
        identity: tuple[str, str, str],
        version: str,
        capabilities: dict[str, Any],
        settings: IngressSettings,
    ) -> None:
        self.id = secrets.token_urlsafe(24)
        self.key = hashlib.sha256(self.id.encode()).hexdigest()[:32]
        self.endpoint = endpoint
        self.identity = identity
        self.version = version
        self.capabilities = capabilities
        self.log_level = "debug"
        self.used_at_s = 0.0
        self.changes: Subscription | None = None
        self._settings = settings
        self._calls: dict[RequestId, list[asyncio.Task[Outcome]]] = {}
        self._running = 0
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._next_ask = 0
        self._streams: list[Stream] = []
        self._waiting: dict[bytes, None] = {}

    def __repr__(self) -> str:
        return (
            f"Session({self.key[:8]} at {self.endpoint or '/'}, {self.version}, "
            f"{self._running} running, {len(self._streams)} streams)"
        )

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

    # ---- requests to the client -----------------------------------------------------------------

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

    # ---- GET streams ----------------------------------------------------------------------------

    def attach(self, stream: Stream) -> None:
        """The newest stream gets what comes; one beyond the bound ends the oldest."""
        if len(self._streams) >= self._settings.session_streams_max:
            self._streams[0].outbox.close()
        self._streams.append(stream)
        for message in self._waiting:
            stream.outbox.push(message)
        self._waiting.clear()

    def detach(self, stream: Stream) -> None:
        """Also what it did not write is passed on."""
        self._streams.remove(stream)
        for message in stream.outbox.take():
            self.notify(message)

    def notify(self, message: bytes) -> None:
        """To one stream only, as MCP asks; kept for the next one if none is open."""
        for stream in reversed(self._streams):
            if stream.outbox.push(message):
                return
        self._waiting[message] = None

    # ---- the end --------------------------------------------------------------------------------

    def end(self) -> list[asyncio.Task[Outcome]]:
        """Cancel and close everything; returns the tasks that are ending."""
        if self.changes is not None:
            self.changes.end()
            self.changes = None
        tasks = [task for same_id in self._calls.values() for task in same_id]
        for task in tasks:
            task.cancel()
        for stream in self._streams:
            stream.outbox.close()
        return tasks


class Sessions:
    """All open sessions, least recently used first."""

    def __init__(self, settings: IngressSettings) -> None:
        self._settings = settings
        self._sessions: OrderedDict[str, Session] = OrderedDict()

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
        if session is None or session.endpoint != endpoint or session.identity != identity:
            return None
        if self._expired(session, now_s):
            self.end(session)
            return None
        self._touch(session, now_s)
        return session

    def end(self, session: Session) -> list[asyncio.Task[Outcome]]:
        self._sessions.pop(session.id, None)
        return session.end()

    def end_all(self) -> list[asyncio.Task[Outcome]]:
        return [task for session in list(self._sessions.values()) for task in self.end(session)]

    def sweep(self, now_s: float) -> int:
        """Forget what has expired; returns how many. Cost: only the expired and the busy among the oldest."""
        ended = 0
        while self._sessions:
            oldest = next(iter(self._sessions.values()))
            if now_s - oldest.used_at_s < self._settings.session_idle_s:
                break
            if oldest.busy:
                self._touch(oldest, now_s)
            else:
                self.end(oldest)
                ended += 1
        return ended

    def _expired(self, session: Session, now_s: float) -> bool:
        return not session.busy and now_s - session.used_at_s >= self._settings.session_idle_s

    def _touch(self, session: Session, now_s: float) -> None:
        session.used_at_s = now_s
        self._sessions.move_to_end(session.id)
