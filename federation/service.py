"""The answering side of the mesh: who may subscribe here, and what each subscriber is sent.

Each subscriber has its own task that pulls its next frame from the log when its stream can take one. Nothing is
queued for it, so a peer that does not read costs a cursor and delays nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Protocol

import grpc

from federation.answering import ForwardServer
from federation.finding import unfit
from federation.link import ADVERTISE_KEY
from federation.log import Log, Subscriber
from federation.statuses import abort
from federation.tls import peer_identity
from proto import mesh_pb2 as pb
from proto.codec import down_to_wire, up_from_wire
from proto.errors import Exhausted, Forbidden, Invalid, MeshError, Unauthenticated, Unavailable
from proto.frames import Ack, Beat, Bye, Down, Farewell, Hello, Reject
from proto.mesh_pb2_grpc import MeshServicer
from proto.names import NodeId

log = logging.getLogger("toolmesh.federation.service")

HELLO_S = 10.0
SESSIONS_PER_PEER = 2
"""A peer that dials again before its old stream was missed; two clones of it. The oldest gives way."""

SESSIONS_MAX = 512
Context = grpc.aio.ServicerContext[Any, Any]


class ServiceUser(Protocol):
    """Whom the service asks and tells, on the loop."""

    def hello(self, sub: Subscriber, hello: Hello) -> None:
        """Put the subscriber's cursor in place. Raises `Conflict` if the two cannot talk."""

    def dialled_by(self, peer: NodeId, address: str) -> None:
        """`peer`, proved by TLS, is there; it says that it can be dialled at `address` (or nothing)."""

    def witness(self, node: NodeId) -> tuple[bool, bool, int]:
        """(known, heard, silence in ms)"""


class Session:
    """One Sync stream of one peer."""

    def __init__(self, sub: Subscriber, context: Context) -> None:
        self.sub = sub
        self.context = context
        self.wake = asyncio.Event()
        self.beat: Beat | None = None
        self.farewell: Farewell | None = None
        self.ended = False
        self.done = asyncio.Event()

    def __repr__(self) -> str:
        return f"Session({self.sub!r})"

    def end(self) -> None:
        self.ended = True
        self.wake.set()


class MeshService(MeshServicer):
    """The servicer of `toolmesh.v1.Mesh`. `log_` is this node's own records."""

    def __init__(self, me: NodeId, log_: Log, forward: ForwardServer, user: ServiceUser) -> None:
        self._me = me
        self._log = log_
        self._forward = forward
        self._user = user
        self._beat: Callable[[], Beat] | None = None
        self.sessions: list[Session] = []

    def subscribers(self, peer: NodeId) -> list[Subscriber]:
        return [s.sub for s in self.sessions if s.sub.peer == peer]

    def wake(self) -> None:
        """There is something new to send."""
        for session in self.sessions:
            session.wake.set()

    def beat(self, beat: Beat) -> None:
        """To every subscriber; one that has not sent the last beat yet sends this one instead."""
        for session in self.sessions:
            session.beat = beat
        self.wake()

    async def farewell(self, reason: Farewell, timeout_s: float) -> None:
        """Say goodbye to every subscriber and end its stream; those that do not read are left behind."""
        sessions = list(self.sessions)
        for session in sessions:
            session.farewell = reason
            session.wake.set()
        if sessions:
            await asyncio.wait([asyncio.create_task(s.done.wait()) for s in sessions], timeout=timeout_s)

    # ---- RPCs -----------------------------------------------------------------------------------

    async def Sync(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        """An owner stream: coroutine style, so that each write waits for the peer to take it."""
        session: Session | None = None
        reader: asyncio.Task[None] | None = None
        try:
            peer = self._identify(context)
            self._user.dialled_by(peer, _advertised(context))
            session = Session(Subscriber(peer), context)
            await self._greet(session)
            self._admit(session)
            reader = asyncio.create_task(self._read(session), name=f"sync from {peer}")
            await self._write(session)
            if reader.done():
                await reader
        except MeshError as e:
            log.warning("a subscriber (%s) is refused: %s", context.peer(), e.message)
            await abort(context, e)
        finally:
            if reader is not None:
                reader.cancel()
            if session is not None:
                session.done.set()
                if session in self.sessions:
                    self.sessions.remove(session)

    def _identify(self, context: Context) -> NodeId:
        peer = peer_identity(context)
        if peer == self._me:
            raise Unauthenticated(f"{peer.uri} is this node's own identity: another process uses its certificate")
        if why := unfit(self._me, peer):
            raise Forbidden(why)
        return peer

    def _admit(self, session: Session) -> None:
        same = [s for s in self.sessions if s.sub.peer == session.sub.peer]
        for old in same[: max(0, len(same) - SESSIONS_PER_PEER + 1)]:
            log.info("%s subscribed again; its oldest stream is ended", old.sub.peer)
            old.end()
            self.sessions.remove(old)
        if len(self.sessions) >= SESSIONS_MAX:
            raise Exhausted(f"{self._me} has {SESSIONS_MAX} subscribers already")
        self.sessions.append(session)

    async def _greet(self, session: Session) -> None:
        try:
            async with asyncio.timeout(HELLO_S):
                wire = await session.context.read()
        except TimeoutError:
            raise Unavailable(f"no Hello within {HELLO_S:g} s") from None
        frame = up_from_wire(wire) if isinstance(wire, pb.SyncUp) else None
        if not isinstance(frame, Hello):
            raise Invalid("a Sync stream begins with Hello")
        self._user.hello(session.sub, frame)

    async def _read(self, session: Session) -> None:
        """Until the peer ends the stream. Raises what is wrong with its frames."""
        try:
            while isinstance(wire := await session.context.read(), pb.SyncUp):
                match up_from_wire(wire):
                    case Hello() as hello:
                        self._user.hello(session.sub, hello)
                        session.wake.set()
                    case Ack(seq):
                        self._log.acknowledged(session.sub, seq)
                    case Reject() as reject:
                        log.warning("%s rejects %s: %s", session.sub.peer, reject.key.id, reject.reason)
                        session.sub.rejects.append(reject)
        finally:
            session.end()

    async def _write(self, session: Session) -> None:
        while not session.ended:
            session.wake.clear()
            while not session.ended and (frame := self._log.pull(session.sub)) is not None:
                await self._send(session, frame)
            if session.farewell is not None:
                await self._send(session, Bye(session.farewell))
                return
            if session.beat is not None:
                beat, session.beat = session.beat, None
                await self._send(session, self._log.current(beat))
            else:
                await session.wake.wait()

    async def _send(self, session: Session, frame: Down) -> None:
        await session.context.write(down_to_wire(frame))

    async def Forward(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.CallUp], context: Any
    ) -> AsyncIterator[pb.CallDown]:
        try:
            peer = self._identify(context)
        except MeshError as e:
            await abort(context, e)
        async with aclosing(self._forward.forward(request_iterator, context, peer)) as frames:
            async for frame in frames:
                yield frame

    async def Witness(self, request: pb.WitnessRequest, context: Any) -> pb.WitnessReply:  # noqa: N802
        try:
            self._identify(context)
            known, heard, silence_ms = self._user.witness(NodeId.parse(request.node))
        except MeshError as e:
            await abort(context, e)
        return pb.WitnessReply(heard=heard, silence_ms=silence_ms, known=known)

    async def Join(self, request: pb.JoinRequest, context: Any) -> pb.Certificate:  # noqa: N802
        await _unimplemented(context)
        return pb.Certificate()

    async def Renew(self, request: pb.RenewRequest, context: Any) -> pb.Certificate:  # noqa: N802
        await _unimplemented(context)
        return pb.Certificate()

    async def Vectors(  # noqa: N802
        self, request: pb.VectorsRequest, context: Any
    ) -> AsyncIterator[pb.VectorsReply]:
        await _unimplemented(context)
        yield pb.VectorsReply()


async def _unimplemented(context: Context) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this release does not answer that")


def _advertised(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == ADVERTISE_KEY and isinstance(value, str):
            return value
    return ""
