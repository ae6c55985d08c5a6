"""One Forward stream, seen from the node that dialled: its reader, its writer, and its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import grpc

from federation.asked import Asked
from federation.budget import LASTING_MAX
from federation.greeting import OURS, features_in, instance_in
from federation.outbox import Outbox
from federation.parting import QUESTION_BYTES_MAX, part
from federation.statuses import ERROR_KEY, error_of
from federation.traffic import Traffic
from proto import calls
from proto import mesh_pb2 as pb
from proto.codec import call_down_from_wire, call_up_to_wire, error_to_failed
from proto.errors import Exhausted, MeshError, OutcomeUnknown, Unavailable
from proto.mesh_pb2_grpc import MeshStub
from proto.versions import LONG_MESSAGES

log = logging.getLogger("toolmesh.federation.calls")

_DRAIN_S = 0.5
LANES_MAX = 4096 + LASTING_MAX
"""Calls and streams that are open, and cancellations of earlier ones that a stuck peer does not read."""


class Lost(Exception):
    """The stream that carried a call has ended. Stays within federation: callers see a `MeshError`.

    `settled`: the owner ended it in order, having answered all that it took. A call that was only ever sent on this
    stream, and has no answer, did not run.
    """

    def __init__(self, cause: str, *, settled: bool = False) -> None:
        super().__init__(cause)
        self.settled = settled


class ForwardStream:
    """`instance` names the process life of the owner that answers; `alive` until either side ends the stream.

    The channel is this stream's own and is closed with it. `broke(cause)` is told, once, if the stream could not
    be opened or broke; not if this node ends it, nor if the peer does and says so.
    """

    def __init__(self, channel: grpc.aio.Channel, broke: Callable[[str], None], traffic: Traffic) -> None:
        self.instance = ""
        self.alive = False
        self.channel = channel
        self._broke = broke
        self._traffic = traffic
        self._long_messages = False
        self._rpc = MeshStub(channel).Forward(metadata=OURS)
        self._carried: dict[str, Asked] = {}
        self._outbox: Outbox[pb.CallUp] = Outbox(lambda i, d: call_up_to_wire(i, calls.Chunk(d)))
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def start(self) -> None:
        """Connect and learn whom. Raises `Unavailable`, saying why."""
        try:
            await self._rpc.wait_for_connection()
            greeting = tuple(await self._rpc.initial_metadata())
        except grpc.aio.AioRpcError as e:
            raise Unavailable(self._read_error(e)) from None
        self.instance = instance_in(greeting)
        self._long_messages = LONG_MESSAGES in features_in(greeting)
        if not self.instance:
            raise Unavailable("the peer does not say which process life of its answers: is it a toolmesh node?")
        self.alive = True
        self._tasks = (
            asyncio.create_task(self._read(), name="forward reader"),
            asyncio.create_task(self._write(), name="forward writer"),
        )

    # ---- what calls send ----

    def open(self, asked: Asked) -> None:
        """Send the call; long params follow in chunks. Raises `Exhausted` or `Invalid`, nothing sent."""
        call_id = asked.call.call_id
        wire = call_up_to_wire(call_id, calls.Open(asked.call, assertion=asked.assertion))
        if len(wire.open.params) > asked.answer_bytes_max:
            raise Exhausted(
                f"params are {len(wire.open.params)} bytes long; at most {asked.answer_bytes_max} are carried: pass "
                "large data by reference (a resource, a URL)"
            )
        if len(self._outbox) >= LANES_MAX:
            raise Unavailable(
                f"frames of {LANES_MAX} calls wait for the peer to read them: try again, or another owner"
            )
        if self._carry(asked):
            self._announce(call_id, wire, part(wire))

    def _announce(self, call_id: str, wire: pb.CallUp, text: bytes) -> None:
        self._outbox.put(call_id, wire)
        if text:
            self._outbox.put_text(call_id, text)

    def query(self, asked: Asked) -> None:
        """Ask what became of a call that another stream carried."""
        call_id = asked.call.call_id
        asked.queried = True
        if self._carry(asked):
            self._outbox.put(call_id, call_up_to_wire(call_id, calls.Query(asked.call.principal)))

    def _carry(self, asked: Asked) -> bool:
        # It may have ended between being found open and being used.
        if self.alive:
            self._carried[asked.call.call_id] = asked
        else:
            asked.settle(Lost("it had just ended"))
        return self.alive

    def cancel(self, asked: Asked, reason: str) -> None:
        """Tell the owner, if it was ever told of the call; what still waits to be sent for it is dropped."""
        call_id = asked.call.call_id
        self._outbox.drop(call_id)
        if asked.written:
            self._outbox.put(call_id, call_up_to_wire(call_id, calls.Cancel(reason)), last=True)

    def reply(self, asked: Asked, reply: calls.Reply) -> int:
        """Send the client's answer, or why it cannot be carried. Returns its length in bytes."""
        call_id = asked.call.call_id
        try:
            wire = call_up_to_wire(call_id, reply)
            size = wire.ByteSize()
            if size > QUESTION_BYTES_MAX:
                raise Exhausted(f"the client's reply is {size} bytes; at most {QUESTION_BYTES_MAX} are carried")
            text = part(wire, chunked=self._long_messages)
        except MeshError as e:
            wire, text = call_up_to_wire(call_id, calls.Reply(reply.request_id, failed=error_to_failed(e))), b""
            size = wire.ByteSize()
        self._announce(call_id, wire, text)
        return size

    def forget(self, asked: Asked) -> None:
        """The call is over here. A cancellation that still waits to be written goes out."""
        call_id = asked.call.call_id
        if self._carried.pop(call_id, None) is not None:
            self._outbox.finish(call_id)

    # ---- the two loops ----

    async def _write(self) -> None:
        try:
            async for frame in self._outbox:
                if frame.WhichOneof("frame") == "open":
                    asked = self._carried.get(frame.call_id)
                    if asked is not None:
                        asked.written = True  # from here on nobody can say that it did not leave
                self._traffic.sent_bytes += frame.ByteSize()
                await self._rpc.write(frame)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as e:
            # The peer has ended the stream. What it wrote before is still to be read, so the reader has the last word.
            log.debug("a frame could not be written: %s", e.details() if isinstance(e, grpc.aio.AioRpcError) else e)
            self._outbox.close()

    async def _read(self) -> None:
        cause = "the peer ended it"
        try:
            async for wire in self._rpc:
                if not isinstance(wire, pb.CallDown):  # None: gRPC could not parse it, and has logged so
                    cause = "it sent bytes that are no CallDown message"
                    self._broke(cause)
                    return
                self._take(wire)
        except grpc.aio.AioRpcError as e:
            cause = self._read_error(e)
        except asyncio.CancelledError:
            cause = "this node ended it"
            raise
        finally:
            self.end(cause)
            await self.channel.close()

    def _read_error(self, error: grpc.aio.AioRpcError) -> str:
        """Why the stream broke. What the peer says itself is no failure of the path to it."""
        cause = error_of(error).message
        if not any(key == ERROR_KEY for key, _ in error.trailing_metadata() or ()):
            self._broke(cause)
        return cause

    def _take(self, wire: pb.CallDown) -> None:
        self._traffic.received_bytes += wire.ByteSize()
        asked = self._carried.get(wire.call_id)
        kind = wire.WhichOneof("frame")
        if kind == "settled":
            self.end("its owner is stopping", settled=True)
        if asked is None or kind is None:
            return  # over meanwhile, or of a newer version
        if kind == "window":
            self._outbox.credit(wire.call_id, wire.window.bytes)
            return
        try:
            grant = asked.take(call_down_from_wire(wire)[1])
        except Exhausted as e:
            self.cancel(asked, e.message)
            asked.settle(e)
        except MeshError as e:
            # The owner ran it, or runs it, and what it says of it cannot be read.
            log.warning("call %s: unreadable frame from its owner: %s", wire.call_id, e.message)
            self.cancel(asked, e.message)
            call_id = wire.call_id
            asked.settle(OutcomeUnknown(f"the owner's answer cannot be read: {e.message}", call_id=call_id))
        else:
            if grant:
                self._outbox.put(wire.call_id, call_up_to_wire(wire.call_id, calls.Window(grant)))

    # ---- the end ----

    def end(self, cause: str, *, settled: bool = False) -> None:
        """At once; the calls on it are `Lost`. Harmless when repeated."""
        if not self.alive:
            return
        self.alive = False
        log.info("forward stream ended: %s; %d calls were on it", cause, len(self._carried))
        self._outbox.close()
        for asked in self._carried.values():
            asked.settle(Lost(cause, settled=settled))
        self._carried.clear()
        self._rpc.cancel()

    async def close(self) -> None:
        """Let what waits be written, within a bound, then end the stream, its tasks and its connection."""
        if self.alive:
            try:
                async with asyncio.timeout(_DRAIN_S):
                    await self._outbox.drained()
            except TimeoutError:
                log.info("forward stream closed with frames unsent: %r", self._outbox)
        self.end("this node ended it")
        self._rpc.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.channel.close()

    def __repr__(self) -> str:
        state = "alive" if self.alive else "ended"
        return f"ForwardStream({state}, {len(self._carried)} calls, {self._outbox!r})"
