"""The owner's side of Forward: runs calls for peers, each call id once."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import grpc

from federation.chunks import CHUNKED_ABOVE_BYTES, Assembly
from federation.dedupe import Dropped, Kept, Outcome, Refused, Repeats, RunKey
from federation.outbox import Outbox
from federation.running import Run, failed
from proto import calls, jsons
from proto import mesh_pb2 as pb
from proto.calls import Answer, Call, Exchange
from proto.codec import call_down_to_wire, call_up_from_wire
from proto.errors import Exhausted, Expired, Invalid, MeshError, OutcomeUnknown, Unavailable
from proto.names import NodeId
from proto.records import Principal

log = logging.getLogger("toolmesh.federation.calls")

INSTANCE_KEY = "toolmesh-instance"
"""Initial metadata of the answering side: 128 random bits in hex, drawn once per process life."""

ACCEPT_AFTER_S = 0.005
"""A frame of its own costs a forwarded call a fifth of its latency; docs/decisions/0007 says why it may wait."""

HOPS_MAX = 1
TEXT_BYTES_MAX = 64 * 1024 * 1024
CALLS_PER_PEER_MAX = 1024
OPENING_BYTES_MAX = 256 * 1024 * 1024
UNCLAIMED_S = 30.0
CLOSE_S = 2.0
"""How long a stop waits for cancelled runs to end, and then for peers to read what waits for them."""

Answerer = Callable[[Call, Exchange, NodeId], Awaitable[Answer]]


class ForwardServer:
    """Answers the Forward streams of all peers.

    `answer(call, exchange, peer)` runs a call; it is cancelled at the call's deadline, on `Cancel`, or once no
    stream has claimed the call for `unclaimed_s` seconds. `text_bytes_max` bounds params and answers alike:
    beyond it the call ends in `Exhausted`. At most `calls_per_peer_max` calls of one peer are open at a time;
    further ones are refused with `Unavailable` before they are accepted.
    """

    def __init__(
        self,
        answer: Answerer,
        *,
        text_bytes_max: int = TEXT_BYTES_MAX,
        calls_per_peer_max: int = CALLS_PER_PEER_MAX,
        unclaimed_s: float = UNCLAIMED_S,
        repeats: Repeats[Run] | None = None,
    ) -> None:
        self.answer = answer
        self.text_bytes_max = text_bytes_max
        self.calls_per_peer_max = calls_per_peer_max
        self.unclaimed_s = unclaimed_s
        self.repeats: Repeats[Run] = Repeats(time.monotonic) if repeats is None else repeats
        self.instance = secrets.token_hex(16)
        self.draining = False
        self.opening_bytes = 0
        self._sessions: set[_Session] = set()
        self._open_by_peer: dict[str, int] = {}

    async def forward(
        self, requests: AsyncIterator[pb.CallUp], context: grpc.aio.ServicerContext[Any, Any], peer: NodeId
    ) -> AsyncGenerator[pb.CallDown, None]:
        """One stream of one peer, until either side ends it. Runs that are still going then go on for a while."""
        session = _Session(self, peer)
        self._sessions.add(session)
        # The generator may be dropped unfinished when the stream breaks; this callback always comes.
        context.add_done_callback(partial(self._end, session))  # type: ignore[arg-type]  # the stubs name a class here
        reader: asyncio.Task[None] | None = None
        try:
            await context.send_initial_metadata(((INSTANCE_KEY, self.instance),))
            reader = asyncio.create_task(session.read(requests), name=f"forward from {peer}")
            async for frame in session.outbox:
                yield frame
        finally:
            if reader is not None:
                reader.cancel()
            self._end(session)

    def _end(self, session: _Session, _: object = None) -> None:
        if session in self._sessions:
            self._sessions.discard(session)
            session.detach()

    def open_calls(self, peer: str) -> int:
        return self._open_by_peer.get(peer, 0)

    def count(self, peer: str, change: int) -> None:
        n = self._open_by_peer.get(peer, 0) + change
        if n:
            self._open_by_peer[peer] = n
        else:
            self._open_by_peer.pop(peer, None)

    @property
    def in_flight(self) -> int:
        """Calls running for peers, claimed or not."""
        return len(self.repeats)

    async def close(self) -> None:
        """Cancel every run and end every stream, once its callers have been sent what they are owed."""
        self.draining = True
        runs = self.repeats.runs()
        for run in runs:
            run.cancel("the owner is stopping")
        if runs:
            await asyncio.wait([run.task for run in runs], timeout=CLOSE_S)
        owing = [asyncio.create_task(s.outbox.drained()) for s in self._sessions if not s.outbox.idle]
        if owing:
            _, slow = await asyncio.wait(owing, timeout=CLOSE_S)
            for waiting in slow:
                waiting.cancel()
        for session in list(self._sessions):
            session.outbox.close()

    def __repr__(self) -> str:
        return f"ForwardServer({len(self._sessions)} streams, {self.repeats!r})"


class _Opening:
    """A call whose params are still coming."""

    def __init__(self, frame: calls.Open) -> None:
        self.call = frame.call
        self.size = frame.chunked_bytes
        self.assembly = Assembly(frame.chunked_bytes)


class _Session:
    """One Forward stream, seen from the owner."""

    def __init__(self, server: ForwardServer, peer: NodeId) -> None:
        self._server = server
        self._peer = peer
        self._opening: dict[str, _Opening] = {}
        self._runs: dict[str, Run] = {}
        self.outbox: Outbox[pb.CallDown] = Outbox(lambda i, d: call_down_to_wire(i, calls.Chunk(d)))

    async def read(self, requests: AsyncIterator[pb.CallUp]) -> None:
        try:
            async for wire in requests:
                self._take(wire)
        except grpc.RpcError as e:
            log.info("forward stream of %s broke: %s", self._peer, e)
        finally:
            self.outbox.close()

    def detach(self) -> None:
        """The stream is gone: its runs wait to be claimed on another one."""
        self.outbox.close()
        for call_id in list(self._opening):
            self._forget_opening(call_id)
        for run in self._runs.values():
            run.release(self._server.unclaimed_s)
        self._runs.clear()

    def _take(self, wire: pb.CallUp) -> None:
        if wire.WhichOneof("frame") is None:
            log.debug("%s sent a frame that this version does not know", self._peer)
            return
        call_id = wire.call_id
        try:
            self._dispatch(*call_up_from_wire(wire))
        except MeshError as e:
            self._forget_opening(call_id)
            run = self._runs.get(call_id)
            if run is None:
                self.end(call_id, failed(e))
            else:
                run.cancel(f"its caller broke the protocol: {e.message}")

    def _dispatch(self, call_id: str, frame: calls.CallUp) -> None:
        match frame:
            case calls.Open():
                self._open(frame)
            case calls.Chunk():
                self._chunk(call_id, frame.data)
            case calls.Window():
                self.outbox.credit(call_id, frame.bytes)
            case calls.Query():
                self._query(call_id, frame.principal)
            case calls.Reply():
                if run := self._runs.get(call_id):
                    run.reply(frame)
            case calls.Cancel():
                self._cancel(call_id, frame.reason)

    # ---- from Open to a run ----

    def _key(self, call_id: str, principal: Principal) -> RunKey:
        return RunKey(self._peer.uri, principal.identity, call_id)

    def _open(self, frame: calls.Open) -> None:
        call = frame.call
        if call.call_id in self._opening or call.call_id in self._runs:
            log.warning("%s opened call %s twice on one stream; the first stands", self._peer, call.call_id)
            return
        if self._resume(self._key(call.call_id, call.principal), accept=True):
            return
        self._check(call)
        if not frame.chunked_bytes:
            self._start(call)
            return
        if frame.chunked_bytes > self._server.text_bytes_max:
            raise Exhausted(f"params of {frame.chunked_bytes} bytes; at most {self._server.text_bytes_max} are taken")
        if self._server.opening_bytes + frame.chunked_bytes > OPENING_BYTES_MAX:
            raise Unavailable("this node is receiving too many large requests at once; try again")
        self._server.opening_bytes += frame.chunked_bytes
        self._server.count(self._peer.uri, 1)
        self._opening[call.call_id] = _Opening(frame)

    def _check(self, call: Call) -> None:
        if len(call.via) > HOPS_MAX or any(name != self._peer.name for name in call.via):
            raise Invalid(
                f"via is {list(call.via)}: a call reaches its owner from its entry node directly, "
                f"and {self._peer.name!r} sent it"
            )
        if self._server.draining:
            raise Unavailable("this node is stopping")
        if self._server.open_calls(self._peer.uri) >= self._server.calls_per_peer_max:
            raise Unavailable(
                f"this node is running {self._server.calls_per_peer_max} calls for {self._peer.name!r} already"
            )

    def _chunk(self, call_id: str, data: bytes) -> None:
        opening = self._opening.get(call_id)
        if opening is None:
            return  # refused or cancelled meanwhile
        grant = opening.assembly.add(data)
        if opening.assembly.received == opening.size:
            params = jsons.loads_object(opening.assembly.text(opening.size), "params")
            self._forget_opening(call_id)
            self._start(replace(opening.call, params=params))
        elif grant:
            self.outbox.put(call_id, call_down_to_wire(call_id, calls.Window(grant)))

    def _forget_opening(self, call_id: str) -> None:
        opening = self._opening.pop(call_id, None)
        if opening is not None:
            self._server.opening_bytes -= opening.size
            self._server.count(self._peer.uri, -1)

    def _start(self, call: Call) -> None:
        self._accept(call.call_id)
        run = Run(call, self._peer, self._server.text_bytes_max)
        key = self._key(call.call_id, call.principal)
        server, peer = self._server, self._peer.uri
        server.repeats.begin(key, run)
        server.count(peer, 1)

        def finished(outcome: Outcome) -> None:
            server.count(peer, -1)
            server.repeats.finish(key, outcome)

        self._runs[call.call_id] = run
        run.claim(self)
        run.start(self._server.answer, finished)

    def _accept(self, call_id: str) -> None:
        """Say that the call is taken, unless its answer, which says it too, comes first."""
        asyncio.get_running_loop().call_later(ACCEPT_AFTER_S, self._accepted, call_id)

    def _accepted(self, call_id: str) -> None:
        if call_id in self._runs:
            self.outbox.put(call_id, call_down_to_wire(call_id, calls.Accepted()))

    # ---- repeats and queries ----

    def _resume(self, key: RunKey, *, accept: bool) -> bool:
        """Join the caller to what is known of this call. False if nothing is."""
        call_id = key.call_id
        run = self._server.repeats.running(key)
        if run is not None:
            if accept:
                self._accept(call_id)
            self._runs[call_id] = run
            run.claim(self)
            return True
        match self._server.repeats.past(key):
            case Kept(outcome):
                self.end(call_id, outcome, repeated=True)
            case Dropped():
                raise OutcomeUnknown("the call ran, but its result is no longer kept", call_id=call_id)
            case Refused():
                raise Unavailable("the call arrived after its caller was told that it had not; it did not run")
            case None:
                return False
        return True

    def _query(self, call_id: str, principal: Principal) -> None:
        key = self._key(call_id, principal)
        if call_id in self._runs or self._resume(key, accept=False):
            return
        if self._server.repeats.forgetful:
            raise OutcomeUnknown("the owner no longer knows what became of the call", call_id=call_id)
        self._server.repeats.refuse(key)
        raise Unavailable("the stream broke before the call reached its owner; it did not run")

    def _cancel(self, call_id: str, reason: str) -> None:
        if run := self._runs.get(call_id):
            run.cancel(reason or "cancelled by its caller")
        elif call_id in self._opening:
            self._forget_opening(call_id)
            raise Expired("cancelled before its params had arrived; it did not run")

    # ---- what a run says ----

    def lost(self, run: Run) -> None:
        """Another stream of the same peer has claimed the run."""
        if self._runs.get(run.call.call_id) is run:
            del self._runs[run.call.call_id]
            self.outbox.drop(run.call.call_id)

    def end(self, call_id: str, outcome: Outcome, *, repeated: bool = False) -> None:
        """The last frame of a call, after its text where that is long."""
        self._runs.pop(call_id, None)
        frame: calls.CallDown
        if isinstance(outcome, calls.Failed):
            frame = outcome
        elif len(outcome) <= CHUNKED_ABOVE_BYTES:
            frame = calls.Result(outcome, repeated=repeated)
        else:
            self.outbox.put_text(call_id, outcome)
            frame = calls.Result(None, len(outcome), repeated)
        self.outbox.put(call_id, call_down_to_wire(call_id, frame), last=True)
