"""One long-lived two-way connection with an agent, in either era of MCP, whatever carries it. No HTTP in here.

The first request decides the era: `initialize` opens the connection's one session, a request with the envelope of
2026-07-28 makes it a connection of that revision. `server/discover` decides nothing, so that a client may probe first.
Everything that the connection began ends with it: its session, its calls, its subscriptions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from mcp_types.jsonrpc import INVALID_REQUEST, PARSE_ERROR, UNSUPPORTED_PROTOCOL_VERSION
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from node.ingress import batches, envelope, ladder
from node.ingress.envelope import RequestId, Shape
from node.ingress.errors import refusal
from node.ingress.incoming import Incoming
from node.ingress.legacy import LegacyEdge
from node.ingress.modern import LISTEN, ModernEdge
from node.ingress.reply import Outcome
from node.ingress.sessions import Session
from node.ingress.settings import IngressSettings
from node.ingress.sse import Outbox
from proto import jsons
from proto.errors import Exhausted, Invalid
from proto.records import Principal

log = logging.getLogger("toolmesh.ingress")

CANCELLED = "notifications/cancelled"
DISCOVER = "server/discover"
END_S = 5.0
"""So long is waited for what a connection had open when it ended: a server may have to be told."""


class Lost(ConnectionError):
    """The agent is gone, or takes nothing any more."""


class Duplex:
    """What one connection has open. A transport gives `receive` what comes and lets `pump` write what goes out.

    Bounds: `session_calls_max` requests at once, one more is refused; `stream_frames_max` messages and
    `stream_bytes_max` bytes that wait to be written. At those the oldest notifications are dropped, and nothing more
    is read until the agent has taken what waits; an answer is never dropped: where there is no room even for one, the
    connection ends, and so it does where the agent takes nothing for `stall_s`.
    """

    def __init__(
        self, name: str | None, principal: Principal, legacy: LegacyEdge, modern: ModernEdge, settings: IngressSettings
    ) -> None:
        self.outbox = Outbox(settings.stream_frames_max, settings.stream_bytes_max)
        # Headers are those of the opening alone: the trace context of a request is in its `_meta`.
        self.incoming = Incoming({}, name, principal, "", True)
        self._legacy = legacy
        self._modern = modern
        self._settings = settings
        self._session: Session | None = None
        self._is_modern = False
        self._calls: dict[RequestId, list[asyncio.Task[Outcome]]] = {}
        self._listens: set[asyncio.Task[Outcome]] = set()
        self._batches: set[asyncio.Task[None]] = set()
        self._running = 0
        self._opening: asyncio.Task[None] | None = None
        self._taken = asyncio.Event()

    def __repr__(self) -> str:
        era = self._session.version if self._session else "modern" if self._is_modern else "undecided"
        return f"Duplex({self.incoming.name or '/'}, {era}, {self._running} running, {self.outbox!r})"

    @property
    def open(self) -> bool:
        return not self.outbox.closed

    def belongs_to(self, name: str | None, principal: Principal) -> bool:
        """Was it opened at this address by this principal?"""
        return self.incoming.name == name and self.incoming.principal.identity == principal.identity

    def renew(self, principal: Principal) -> None:
        """The caller has proved itself anew."""
        if self.incoming.principal is not principal and self.incoming.principal != principal:
            self.incoming = replace(self.incoming, principal=principal)
            if self._session is not None:
                self._session.renew(principal)

    # ---- what comes -----------------------------------------------------------------------------

    async def receive(self, text: bytes | str) -> None:
        """One JSON text. Waits where the agent leaves too much unread; what cannot be parsed is answered -32700."""
        await self.room()
        try:
            message = jsons.loads(text)
        except Invalid as e:
            self.junk(e.message)
            return
        self.take(message)

    def junk(self, why: str) -> None:
        """What came is not a message at all."""
        self._refuse(None, PARSE_ERROR, why)

    def take(self, message: Any) -> None:
        """One parsed message, or an array of them at 2025-03-26. Every refusal goes out as an error."""
        if isinstance(message, list):
            self._take_batch(message)
            return
        try:
            shape = envelope.shape_of(message)
        except Invalid as e:
            # The id is given back wherever there is one: over a connection nothing else says whose error this is.
            self._refuse(_id_of(message), INVALID_REQUEST, e.message)
            return
        if shape is Shape.REQUEST:
            self._request(message)
        elif self._session is not None:
            self._legacy.take(self._session, message, shape)
        elif shape is Shape.NOTIFICATION and message["method"] == CANCELLED:
            request_id = (message.get("params") or {}).get("requestId")
            for task in self._calls.get(request_id, ()) if envelope.is_request_id(request_id) else ():
                task.cancel()

    async def room(self) -> None:
        """Until what waits to be written is below its bounds and no session is being opened, or the connection has
        ended."""
        while (self.outbox.full or self._opening is not None) and self.open:
            self._taken.clear()
            await self._taken.wait()

    def _request(self, message: dict[str, Any]) -> None:
        request_id, method = message["id"], message["method"]
        if method == "initialize":
            self._initialize(message)
        elif self._session is not None:
            if ladder.has_envelope(message):
                why = f"this connection has a session of MCP {self._session.version}; dial anew for 2026-07-28"
                self._refuse(request_id, INVALID_REQUEST, why)
            else:
                self._sent_or_awaited(self._legacy.start(self.incoming, self._session, message, self))
        elif method == "ping" and not self._is_modern:
            self.send(envelope.result(request_id, {}), keep=True)
        elif self._is_modern or method == DISCOVER or ladder.has_envelope(message):
            self._modern_request(message)
        else:
            why = "send initialize first, or give params._meta what MCP 2026-07-28 requires there"
            self._refuse(request_id, INVALID_REQUEST, why)

    def _initialize(self, message: dict[str, Any]) -> None:
        request_id, params = message["id"], message.get("params") or {}
        if self._is_modern:
            data = {"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": params.get("protocolVersion")}
            why = "this connection speaks MCP 2026-07-28, which has no initialize; dial anew for an earlier revision"
            self.send(envelope.error(request_id, UNSUPPORTED_PROTOCOL_VERSION, why, data), keep=True)
            return
        if self._session is not None or self._opening is not None:
            self._refuse(request_id, INVALID_REQUEST, "this connection is initialized; dial anew for another session")
            return
        self._opening = asyncio.get_running_loop().create_task(self._open_session(message))

    async def _open_session(self, message: dict[str, Any]) -> None:
        """What it is for may still be coming up; what the agent sends meanwhile waits in `room`."""
        try:
            self._session, outcome = await self._legacy.initialize(self.incoming, message)
            self.send(outcome.body, keep=True)
            if self._session is not None:
                self._session.attach(self)
        finally:
            self._opening = None
            self._taken.set()

    def _modern_request(self, message: dict[str, Any]) -> None:
        request_id, method = message["id"], message["method"]
        refused = self._modern.refused(message)
        if refused is not None:
            self.send(refused.body, keep=True)
            return
        self._is_modern = self._is_modern or method != DISCOVER
        if self._running >= self._settings.session_calls_max:
            full = Exhausted(f"{self._running} requests of this connection are open; wait for one to end")
            self.send(envelope.refused(request_id, refusal(full, method=method).error), keep=True)
            return
        loop = asyncio.get_running_loop()
        if method == LISTEN:
            task = loop.create_task(self._modern.listen(self.incoming, message, self, asyncio.Event()))
            self._listens.add(task)
            task.add_done_callback(self._listens.discard)
        else:
            task = loop.create_task(self._modern.run(self.incoming, message, self))
        self._calls.setdefault(request_id, []).append(task)
        self._running += 1
        task.add_done_callback(lambda done: self._forget(request_id, done))
        self._sent_or_awaited(task)

    def _forget(self, request_id: RequestId, task: asyncio.Task[Outcome]) -> None:
        self._running -= 1
        same_id = self._calls[request_id]
        same_id.remove(task)
        if not same_id:
            del self._calls[request_id]

    def _take_batch(self, messages: list[Any]) -> None:
        if self._session is None:
            self._refuse(None, INVALID_REQUEST, "an array of messages needs a session of MCP 2025-03-26")
            return
        if (refused := batches.refused(messages, self._session, self._settings.batch_max)) is not None:
            self.send(refused.body, keep=True)
            return
        batch = batches.start(self._legacy, self.incoming, self._session, messages, self)
        if batch.expected:
            task = asyncio.get_running_loop().create_task(self._answer_batch(batch))
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)

    async def _answer_batch(self, batch: batches.Batch) -> None:
        if (outcome := await batch.outcome()) is not None:
            self.send(outcome.body, keep=True)

    # ---- what goes out --------------------------------------------------------------------------

    def send(self, message: bytes, *, keep: bool = False) -> bool:
        """Queue one JSON text (`Out`). False: it was not taken."""
        taken = self.outbox.push(message, keep=keep)
        if keep and not taken and self.open:
            log.info("%r ends: the agent left too many answers unread", self)
            self.outbox.close()
        return taken

    async def pump(
        self, write: Callable[[bytes], Awaitable[None]], idle: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Write message by message until the connection is closed; `idle` runs after `ping_s` of silence.

        Raises `Lost` where the agent takes nothing for `stall_s`, and what `write` raises.
        """
        try:
            while True:
                if messages := self.outbox.take():
                    for message in messages:
                        await self._within_stall(write(message))
                    self._taken.set()
                elif self.outbox.closed:
                    return
                elif not await self.outbox.woken(None if idle is None else self._settings.ping_s) and idle is not None:
                    await self._within_stall(idle())
        finally:
            self.outbox.close()
            self._taken.set()

    async def _within_stall(self, writing: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._settings.stall_s):
                await writing
        except TimeoutError:
            log.info("%r ends: the agent took nothing for %s s", self, self._settings.stall_s)
            raise Lost("the agent stopped reading") from None

    def _sent_or_awaited(self, started: asyncio.Task[Outcome] | Outcome) -> None:
        if isinstance(started, Outcome):
            self.send(started.body, keep=True)
        else:
            started.add_done_callback(self._answer)

    def _answer(self, task: asyncio.Task[Outcome]) -> None:
        # A cancelled request is not answered, as MCP asks.
        if not task.cancelled():
            self.send(task.result().body, keep=True)

    def _refuse(self, request_id: RequestId | None, code: int, message: str) -> None:
        self.send(envelope.error(request_id, code, message), keep=True)

    # ---- the end --------------------------------------------------------------------------------

    async def finish(self) -> None:
        """The node closes, and its edges have ended all subscriptions: their results are still written, then `pump`
        returns."""
        if self._listens:
            await asyncio.wait(self._listens)
        # Of an answer too: it is queued once its task is done.
        await asyncio.sleep(0)
        self.outbox.close()

    async def end(self) -> None:
        """The connection is gone: so are its session and everything that it has open. May be called again."""
        self.outbox.close()
        self._taken.set()
        tasks: list[asyncio.Task[Any]] = [task for same_id in self._calls.values() for task in same_id]
        if self._opening is not None:
            tasks.append(self._opening)
        for task in tasks:
            task.cancel()
        if self._session is not None:
            self._legacy.end(self._session)
        tasks += self._batches
        if tasks and (await asyncio.wait(tasks, timeout=END_S))[1]:
            log.warning("%r: a call that was cancelled still runs after %s s", self, END_S)


def _id_of(message: Any) -> RequestId | None:
    request_id = message.get("id") if isinstance(message, dict) else None
    return request_id if envelope.is_request_id(request_id) and "method" in message else None
