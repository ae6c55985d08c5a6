"""What goes through the gateway besides calls: listens, clients' notifications, and questions to a node itself.

A listen has no end of its own. It counts neither as a call in flight nor towards draining; a node that stops ends it.
The same holds for a stream that is carried for a session, and is not known from a question otherwise than by how long
it may take.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from node.asking import METHOD_CHARACTERS_MAX
from node.catalog import Server
from node.ports import Guard, Resource
from node.recording import Recording
from proto.calls import Answer, Call, Exchange, Notification, Target
from proto.errors import Forbidden, MeshError, Unavailable, Unknown
from proto.names import NodeId

log = logging.getLogger("toolmesh.gateway")

LISTEN = "subscriptions/listen"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"

LISTEN_MS = 24 * 3_600_000
"""The budget of one listen on its way to another node."""
RENEW_S = LISTEN_MS / 1000 * 0.9
"""A listen that has lasted so long is opened anew beside the old one, which then ends."""
TELL_MS = 10_000
TOLD_MAX = 16
"""Owners of one service that are told of one notification; a client of more is told at these alone."""

_CONNECTIONS_OWN = frozenset({"notifications/cancelled", "notifications/initialized", "notifications/progress"})
"""About ids and tokens of one connection, which mean nothing on another."""

NodeHandler = Callable[[Call, Exchange, NodeId], Awaitable[Answer]]
"""`(call, exchange, the node that asks) -> answer`; raises any `MeshError`."""


def tellable(method: str) -> bool:
    """Is this a client's notification that means the same to a server behind another connection?"""
    known = method.startswith("notifications/") and method not in _CONNECTIONS_OWN
    return known and len(method) <= METHOD_CHARACTERS_MAX


def stopping() -> Unavailable:
    return Unavailable("this node is stopping and took no part of the call; call again, at another node", stopping=True)


class Relays:
    """`target(server)` gives what runs a server's calls, `remote(node)` what asks a peer; both raise `Unavailable`.

    `seen(server, call)` is what of the server the caller sees it by, which a guard is asked about.

    `me` is this node's name; `handlers` answer what nodes ask of it, by method.
    """

    def __init__(
        self,
        me: str,
        guard: Guard,
        target: Callable[[Server], Target],
        remote: Callable[[str], Target],
        seen: Callable[[Server, Call], Resource] = lambda server, _: server.resource(),
        *,
        renew_s: float = RENEW_S,
    ) -> None:
        self._me = me
        self._guard = guard
        self._target = target
        self._remote = remote
        self._seen = seen
        self._renew_s = renew_s
        self.handlers: dict[str, NodeHandler] = {}
        self.stopping = False
        self.carried = 0
        self._idle = asyncio.Event()
        self._lasting: set[asyncio.Task[Answer]] = set()
        self._listening: dict[asyncio.Task[Answer], tuple[Server, Call]] = {}
        self._ended: set[asyncio.Task[Answer]] = set()

    def __repr__(self) -> str:
        return f"Relays({len(self._lasting)} lasting, {self.carried} carried)"

    def stop(self) -> None:
        """End what lasts, and take nothing more that would. Whoever waits is told `Unavailable` (`stopping`)."""
        self.stopping = True
        for task in self._lasting:
            task.cancel()

    async def drained(self) -> None:
        """Until nothing is carried; at once where nothing is."""
        while self.carried:
            self._idle.clear()
            await self._idle.wait()

    # ---- listens --------------------------------------------------------------------------------

    async def listen(self, server: Server, call: Call, exchange: Exchange) -> Answer:
        """At the entry node and at the owner alike. Raises any `MeshError`."""
        target = self._target(server)
        here = server.owner.id.name == self._me
        call = call if call.server == server.name else replace(call, server=server.name)
        listen = _call if here else self._renewed
        return await self._admitted(call, server, lambda: self._lasts(listen(target, call, exchange), (server, call)))

    def recheck(self, still: Callable[[Server, Call], bool]) -> None:
        """End each listen that may not go on; its caller is told as if there had never been such a server."""
        for task, (server, call) in list(self._listening.items()):
            if not still(server, call):
                self._ended.add(task)
                task.cancel()

    async def _renewed(self, target: Target, call: Call, exchange: Exchange) -> Answer:
        """Across a hop no call lasts for ever: before one ends the next begins, and a message may come by both."""
        current = asyncio.create_task(_call(target, call, exchange))
        n = 1
        try:
            while True:
                await asyncio.wait({current}, timeout=self._renew_s)
                if current.done():
                    return current.result()
                n += 1
                hearing = _Hearing(exchange)
                following = asyncio.create_task(
                    _call(target, replace(call, call_id=f"{call.call_id}-{n}"), hearing), name="listen again"
                )
                previous, current = current, following
                heard = asyncio.create_task(hearing.acknowledged.wait())
                try:
                    await asyncio.wait({following, heard}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    heard.cancel()
                    previous.cancel()
                    await asyncio.gather(previous, return_exceptions=True)
        finally:
            current.cancel()
            await asyncio.gather(current, return_exceptions=True)

    # ---- notifications of clients ----------------------------------------------------------------

    async def tell(self, servers: Sequence[Server], call: Call) -> None:
        """At the entry node. A server that cannot be told is not waited for, and nobody is the wiser."""
        if len(servers) > TOLD_MAX:
            log.warning("%s for %r goes to %d of %d owners", call.method, call.server, TOLD_MAX, len(servers))
        told = (self._tell(s, replace(call, call_id=f"{call.call_id}-{n}")) for n, s in enumerate(servers[:TOLD_MAX]))
        await asyncio.gather(*told)

    async def _tell(self, server: Server, call: Call) -> None:
        try:
            await self.told(server, replace(call, server=server.name), _Nobody())
        except MeshError as e:
            log.debug("%s was not told of %s: %s", server.qualified, call.method, e.message)

    async def told(self, server: Server, call: Call, exchange: Exchange) -> Answer:
        """At either side. Raises any `MeshError`."""
        target = self._target(server)
        return await self._admitted(call, server, lambda: target.call(call, exchange))

    # ---- questions to a node ---------------------------------------------------------------------

    async def carry(self, node: str, call: Call, exchange: Exchange, me: NodeId, *, lasting: bool) -> Answer:
        """Ask `node`, which may be this one. Raises any `MeshError`."""
        if node == self._me:
            return await self.answer(call, exchange, me, lasting=lasting)
        target = self._remote(node)
        return await self._counted(lambda: target.call(call, exchange), lasting)

    async def answer(self, call: Call, exchange: Exchange, peer: NodeId, *, lasting: bool) -> Answer:
        """What a node asks of this one. Raises `Unknown` for a method that nothing here handles."""
        handler = self.handlers.get(call.method)
        if handler is None:
            raise Unknown(f"node {self._me!r} is asked nothing by {call.method!r}", method=call.method)
        return await self._counted(lambda: handler(call, exchange, peer), lasting)

    async def _counted(self, run: Callable[[], Awaitable[Answer]], lasting: bool) -> Answer:
        if lasting:
            return await self._lasts(run())
        self.carried += 1
        try:
            return await run()
        finally:
            self.carried -= 1
            if not self.carried:
                self._idle.set()

    # ---- all of them ----------------------------------------------------------------------------

    async def _admitted(self, call: Call, server: Server, run: Callable[[], Awaitable[Answer]]) -> Answer:
        recording = Recording(self._me)
        try:
            recording.admission = await self._guard.admit(call, self._seen(server, call))
            recording.attempts = 1
            answer = await run()
            recording.outcome = "ok"
            return answer
        except MeshError as e:
            recording.failed(e)
            raise
        except asyncio.CancelledError:
            recording.outcome = "cancelled"
            raise
        finally:
            self._guard.settle(call, recording.ended(call, server.name, "", server))

    async def _lasts(self, work: Awaitable[Answer], listen: tuple[Server, Call] | None = None) -> Answer:
        """Until it ends, or this node stops, or a `listen` may not go on."""
        task = asyncio.ensure_future(work)
        self._lasting.add(task)
        if listen is not None:
            self._listening[task] = listen
        if self.stopping:
            task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if waiting is not None and not waiting.cancelling():
                if task in self._ended:
                    raise Forbidden("what it listened to is not for its caller any more") from None
                if self.stopping:
                    raise stopping() from None
            raise
        finally:
            self._lasting.discard(task)
            self._listening.pop(task, None)
            self._ended.discard(task)


class _Hearing:
    """A further listen for one who has heard an acknowledgement already."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.acknowledged = asyncio.Event()

    def event(self, notification: Notification) -> None:
        if notification.get("method") == ACKNOWLEDGED:
            self.acknowledged.set()
        else:
            self._exchange.event(notification)

    async def request(self, request: Notification) -> Answer:
        return await self._exchange.request(request)


class _Nobody:
    """Behind a notification nobody waits for an answer."""

    def event(self, notification: Notification) -> None:
        return

    async def request(self, request: Notification) -> Answer:
        raise Unavailable("a client's notification is under way, and no call that could ask it anything")


async def _call(target: Target, call: Call, exchange: Exchange) -> Answer:
    return await target.call(call, exchange)
