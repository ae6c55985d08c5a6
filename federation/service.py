"""The answering side of the mesh: who may subscribe here, and what each subscriber is sent.

Each subscriber has its own task that pulls its next frame from the log when its stream can take one. Nothing is
queued for it, so a peer that does not read costs a cursor and delays nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, NoReturn, Protocol

import grpc
from google.protobuf.message import DecodeError

from federation.answering import ForwardServer
from federation.credentials import Credentials
from federation.finding import unfit
from federation.lending import Lender, Lending
from federation.link import ADVERTISE_KEY, FRAME_BYTES_MAX
from federation.log import Log, Subscriber
from federation.refusals import MESSAGE_CHARS_MAX, Reason, Refusals, reason_named, reason_of
from federation.statuses import abort
from federation.tls import peer_credentials, split_address
from federation.traffic import Traffic
from proto import mesh_pb2 as pb
from proto.errors import Exhausted, Forbidden, Invalid, MeshError, Unauthenticated, Unavailable
from proto.frames import Ack, Beat, Bye, Down, Farewell, Hello, Refuse, Reject, Up
from proto.mesh_pb2_grpc import MeshServicer
from proto.names import NodeId
from proto.sync_codec import down_to_wire, up_from_wire

log = logging.getLogger("toolmesh.federation.service")

HELLO_S = 10.0
SESSIONS_PER_PEER = 2
"""A peer that dials again before its old stream was missed; two clones of it. The oldest gives way."""

SESSIONS_MAX = 512
GREETINGS_PER_PEER = 4
"""Streams of one peer that have not said Hello yet; further ones are refused."""

STREAMS_PER_PEER = 32
"""Streams of one peer, for records and for calls, whatever they have come to; further ones are refused. Those that gave
way to a newer one count for as long as their last frame is not taken, those of a dead connection until gRPC notices."""

Context = grpc.aio.ServicerContext[Any, Any]


class ServiceUser(Protocol):
    """Whom the service asks and tells, on the loop."""

    def hello(self, sub: Subscriber, hello: Hello) -> None:
        """Put the subscriber's cursor in place. Raises `Conflict` if the two cannot talk."""

    def spoke(self, sub: Subscriber) -> None:
        """It has said something since its Hello."""

    def dialled_by(self, peer: NodeId, address: str) -> None:
        """`peer`, proved by TLS, is there; it says that it can be dialled at `address` (or nothing).

        Raises `Forbidden` or `Exhausted` if it cannot be a peer: its stream is refused.
        """

    def witness(self, node: NodeId) -> tuple[bool, bool, int]:
        """(known, heard, silence in ms)"""


class Session:
    """One Sync stream of one peer; `credentials` are those of the certificate that it dialled with.

    `farewell` is to be its last frame; `parted`: it has been sent.
    """

    def __init__(self, credentials: Credentials, context: Context) -> None:
        self.credentials = credentials
        self.sub = Subscriber(credentials.node)
        self.context = context
        self.wake = asyncio.Event()
        self.beat: Beat | None = None
        self.farewell: Farewell | None = None
        self.parted = False
        self.refused: MeshError | None = None
        self.ended = False
        self.done = asyncio.Event()

    def __repr__(self) -> str:
        return f"Session({self.sub!r})"

    def end(self) -> None:
        self.ended = True
        self.wake.set()


class MeshService(MeshServicer):
    """The servicer of `toolmesh.v1.Mesh`. `log_` is this node's own records, `chain` its own certificate (PEM).

    `traffic(peer)` counts what passes, None for a node that is no peer yet.
    """

    def __init__(
        self,
        me: NodeId,
        log_: Log,
        forward: ForwardServer,
        user: ServiceUser,
        lender: Lender | None,
        *,
        refusals: Refusals,
        traffic: Callable[[NodeId], Traffic | None],
        chain: bytes = b"",
    ) -> None:
        self._me = me
        self._log = log_
        self._forward = forward
        self._user = user
        self._lending = Lending(lender)
        self._refusals = refusals
        self._traffic = traffic
        self._chain = chain
        self._greeting: Counter[NodeId] = Counter()
        self._open: Counter[NodeId] = Counter()
        self._farewell: Farewell | None = None
        # The frame sent last and its wire form: a change or a beat is written once for all who are sent it.
        self._latest: tuple[Down | None, pb.SyncDown] = (None, pb.SyncDown())
        self.sessions: list[Session] = []

    def subscribers(self, peer: NodeId) -> list[Subscriber]:
        return [s.sub for s in self.sessions if s.sub.peer == peer]

    def credentials(self, peer: NodeId) -> Credentials | None:
        """Of the newest stream of this peer, None while it has none."""
        return next((s.credentials for s in reversed(self.sessions) if s.sub.peer == peer), None)

    def wake(self) -> None:
        """There is something new to send."""
        for session in self.sessions:
            session.wake.set()

    def beat(self, beat: Beat) -> None:
        """To every subscriber; one that has not sent the last beat yet sends this one instead."""
        for session in self.sessions:
            session.beat = beat
        self.wake()

    async def farewell(self, reason: Farewell, timeout_s: float) -> frozenset[NodeId]:
        """Say goodbye to every subscriber and end its stream; who does not read is left behind.

        Returns those that took it within the time. Who dials in afterwards does not take this node for back: after a
        goodbye for good it is told the same, otherwise its stream ends with no word.
        """
        self._farewell = reason
        sessions = list(self.sessions)
        for session in sessions:
            session.farewell = reason
            session.wake.set()
        if sessions:
            await asyncio.wait([asyncio.create_task(s.done.wait()) for s in sessions], timeout=timeout_s)
        return frozenset(s.sub.peer for s in sessions if s.parted)

    def expel(self, peer: NodeId, instance: bytes, error: MeshError) -> None:
        """End the streams of this process of `peer` with `error`."""
        for session in self.sessions:
            if session.sub.peer == peer and session.sub.instance == instance:
                session.refused = error
                session.end()

    # ---- RPCs -----------------------------------------------------------------------------------

    async def Sync(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        """An owner stream: coroutine style, so that each write waits for the peer to take it."""
        session: Session | None = None
        reader: asyncio.Task[None] | None = None
        try:
            session = Session(self._enter(context), context)
            if self._farewell not in (None, Farewell.LEAVE):
                return
            session.sub.address = self._advertised(session)
            self._user.dialled_by(session.sub.peer, session.sub.address)
            await self._greet(session)
            self._admit(session)
            reader = asyncio.create_task(self._read(session), name=f"sync from {session.sub.peer}")
            await self._write(session)
            if session.refused is not None:
                raise session.refused
            if reader.done():
                await reader
        except MeshError as e:
            await self._abort(context, e)
        finally:
            if reader is not None:
                reader.cancel()
            if session is not None:
                session.done.set()
                if session in self.sessions:
                    self.sessions.remove(session)

    async def _abort(self, context: Context, error: MeshError) -> NoReturn:
        """End the RPC with this error, which the peer is told with its reason. One line where it is news."""
        try:
            who = peer_credentials(context).node.uri
        except Unauthenticated:
            who = context.peer()
        if self._refusals.note("here", who, reason_of(error), error.message):
            log.warning("%s (at %s) is refused: %s", who, context.peer(), error.message)
        await abort(context, error)

    def _identify(self, context: Context) -> Credentials:
        credentials = peer_credentials(context)
        peer = credentials.node
        if peer == self._me:
            raise Unauthenticated(
                f"{peer.uri} is this node's own identity: another process uses its certificate", reason=Reason.CLONE
            )
        if (error := unfit(self._me, peer)) is not None:
            raise error
        return credentials

    def _enter(self, context: Context) -> Credentials:
        """Whose stream begins. Raises `Exhausted` if it has too many."""
        credentials = self._identify(context)
        peer = credentials.node
        if self._open[peer] >= STREAMS_PER_PEER:
            raise Exhausted(f"{STREAMS_PER_PEER} streams of {peer} are open already", reason=Reason.FULL)
        self._open[peer] += 1
        # A handler may be dropped unfinished when its stream breaks; this callback always comes.
        context.add_done_callback(lambda _: self._stream_ended(peer))  # type: ignore[arg-type]  # as in `answering`
        return credentials

    def _stream_ended(self, peer: NodeId) -> None:
        self._open[peer] -= 1
        if not self._open[peer]:
            del self._open[peer]

    def _advertised(self, session: Session) -> str:
        """Where the peer says that it can be dialled; "" for what is no host:port, though gRPC might dial that too."""
        for key, value in session.context.invocation_metadata() or ():
            if key == ADVERTISE_KEY and isinstance(value, str) and value:
                try:
                    split_address(value)
                except Invalid as e:
                    self._refusals.note("here", session.sub.peer.uri, Reason.FRAME, f"it advertises: {e.message}")
                    return ""
                return value
        return ""

    def _admit(self, session: Session) -> None:
        same = [s for s in self.sessions if s.sub.peer == session.sub.peer]
        for old in same[: max(0, len(same) - SESSIONS_PER_PEER + 1)]:
            log.info("%s subscribed again; its oldest stream is ended", old.sub.peer)
            old.end()
            self.sessions.remove(old)
        if len(self.sessions) >= SESSIONS_MAX:
            raise Exhausted(f"{self._me} has {SESSIONS_MAX} subscribers already", reason=Reason.FULL)
        session.farewell = self._farewell
        self.sessions.append(session)

    async def _greet(self, session: Session) -> None:
        peer = session.sub.peer
        if self._greeting[peer] >= GREETINGS_PER_PEER:
            raise Exhausted(f"{GREETINGS_PER_PEER} streams of {peer} have not said Hello yet", reason=Reason.FULL)
        self._greeting[peer] += 1
        try:
            async with asyncio.timeout(HELLO_S):
                more, frame = await self._next(session)
        except TimeoutError:
            raise Unavailable(f"no Hello within {HELLO_S:g} s", reason=Reason.SILENT) from None
        finally:
            self._greeting[peer] -= 1
            if not self._greeting[peer]:
                del self._greeting[peer]
        if not more:
            raise Unavailable("the stream ended before its Hello", reason=Reason.SILENT)
        if not isinstance(frame, Hello):
            raise Invalid("a Sync stream begins with Hello", reason=Reason.FRAME)
        self._user.hello(session.sub, frame)

    async def _next(self, session: Session) -> tuple[bool, Up | None]:
        """(False, None) at the end; (True, None): a frame of a newer version. Raises `Invalid` if malformed."""
        try:
            wire = await session.context.read()
        except DecodeError:
            raise Invalid("a frame is no SyncUp message", reason=Reason.FRAME) from None
        if not isinstance(wire, pb.SyncUp):
            return False, None
        size = wire.ByteSize()
        if (traffic := self._traffic(session.sub.peer)) is not None:
            traffic.received_bytes += size
        if size > FRAME_BYTES_MAX:
            raise Invalid(f"a frame has {size} bytes; at most {FRAME_BYTES_MAX} are read", reason=Reason.FRAME)
        return True, up_from_wire(wire)

    async def _read(self, session: Session) -> None:
        """Until the peer ends the stream. Raises what is wrong with its frames."""
        sub = session.sub
        try:
            while True:
                more, frame = await self._next(session)
                match frame:
                    case Hello():
                        self._user.hello(sub, frame)
                        session.wake.set()
                    case Ack(seq):
                        self._log.acknowledged(sub, seq)
                        self._user.spoke(sub)
                    case Reject(_, key, reason):
                        message = f"{key.kind} record {key.id!r}: {reason}"[:MESSAGE_CHARS_MAX]
                        if self._refusals.note("there", sub.peer.uri, Reason.RECORD, message):
                            log.warning("%s rejects %s", sub.peer, message)
                        sub.rejects.append(frame)
                    case Refuse():
                        self._refused(sub.peer, frame)
                    case None if not more:
                        return
        finally:
            session.end()

    def _refused(self, peer: NodeId, refuse: Refuse) -> None:
        reason, message = reason_named(refuse.reason), refuse.message[:MESSAGE_CHARS_MAX]
        if self._refusals.note("there", peer.uri, reason, message):
            log.warning("%s refuses this node (%s): %s", peer, reason, message)

    async def _write(self, session: Session) -> None:
        while not session.ended:
            session.wake.clear()
            while not session.ended and (frame := self._log.pull(session.sub)) is not None:
                await self._send(session, frame)
            if session.farewell is not None:
                await self._send(session, Bye(session.farewell))
                session.parted = True
                return
            if session.beat is not None:
                beat, session.beat = session.beat, None
                await self._send(session, self._log.current(beat))
            else:
                await session.wake.wait()

    async def _send(self, session: Session, frame: Down) -> None:
        if frame is not self._latest[0]:
            self._latest = (frame, down_to_wire(frame))
        wire = self._latest[1]
        await session.context.write(wire)
        if (traffic := self._traffic(session.sub.peer)) is not None:
            traffic.sent_bytes += wire.ByteSize()

    async def Forward(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.CallUp], context: Any
    ) -> AsyncIterator[pb.CallDown]:
        try:
            peer = self._enter(context).node
        except MeshError as e:
            await self._abort(context, e)
        async with aclosing(self._forward.forward(request_iterator, context, peer)) as frames:
            async for frame in frames:
                yield frame

    async def Witness(self, request: pb.WitnessRequest, context: Any) -> pb.WitnessReply:  # noqa: N802
        try:
            self._identify(context)
            known, heard, silence_ms = self._user.witness(NodeId.parse(request.node))
        except MeshError as e:
            await self._abort(context, e)
        return pb.WitnessReply(heard=heard, silence_ms=silence_ms, known=known)

    async def Present(self, request: pb.PresentRequest, context: Any) -> pb.Certificate:  # noqa: N802
        try:
            self._identify(context)
        except MeshError as e:
            await self._abort(context, e)
        return pb.Certificate(chain_pem=self._chain)

    async def Join(self, request: pb.JoinRequest, context: Any) -> pb.Certificate:  # noqa: N802
        await _unimplemented(context)
        return pb.Certificate()

    async def Renew(self, request: pb.RenewRequest, context: Any) -> pb.Certificate:  # noqa: N802
        await _unimplemented(context)
        return pb.Certificate()

    async def Vectors(  # noqa: N802
        self, request: pb.VectorsRequest, context: Any
    ) -> AsyncIterator[pb.VectorsReply]:
        try:
            peer = self._enter(context).node
            async for reply in self._lending.answer(request, peer):
                if (traffic := self._traffic(peer)) is not None:
                    traffic.sent_bytes += reply.ByteSize()
                yield reply
        except MeshError as e:
            # Being asked for what is not here, or too often, is nothing to tell people of.
            await (self._abort if isinstance(e, Forbidden | Unauthenticated) else abort)(context, e)


async def _unimplemented(context: Context) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this release does not answer that")
