"""One Forward stream, seen from the owner: what its peer sends, and what it is sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import DecodeError

from federation.budget import LASTING_MAX, lasts
from federation.chunks import CHUNKED_ABOVE_BYTES, Assembly
from federation.dedupe import Dropped, Kept, Outcome, Refused, RunKey
from federation.outbox import Outbox
from federation.parting import QUESTION_BYTES_MAX, part, whole
from federation.refusals import Reason
from federation.running import Run, failed
from federation.traffic import Traffic
from federation.vouching import check_principal
from proto import calls, jsons
from proto import mesh_pb2 as pb
from proto.calls import Call
from proto.codec import call_down_to_wire, call_up_from_wire, error_to_failed
from proto.errors import (
    Exhausted,
    Expired,
    Fault,
    Forbidden,
    Invalid,
    MeshError,
    OutcomeUnknown,
    Unauthenticated,
    Unavailable,
)
from proto.names import NodeId
from proto.records import Principal
from proto.versions import LONG_MESSAGES

if TYPE_CHECKING:
    from federation.answering import ForwardServer

log = logging.getLogger("toolmesh.federation.calls")

ACCEPT_AFTER_S = 0.005
"""A frame of its own costs a forwarded call a fifth of its latency; docs/decisions/0007 says why it may wait."""

OWED_BYTES_MAX = 256 * 1024 * 1024
"""Of long answers that wait for one stream's peer to take them. A further one is replaced by `Exhausted`."""

KEY_CHARS_MAX = 4096
"""Of a call's id and its caller's name together: they are remembered for as long as what came of the call."""


class _Incoming:
    """A long text that was announced and is still coming. `refused`: it is taken, and thrown away."""

    def __init__(self, frame: calls.Open | calls.Reply, *, refused: bool = False) -> None:
        self.frame = frame
        self.size = self.left = frame.chunked_bytes
        self.refused = refused
        self.deadline: asyncio.TimerHandle | None = None


class ForwardSession:
    def __init__(self, server: ForwardServer, peer: NodeId, features: frozenset[str]) -> None:
        self.outbox: Outbox[pb.CallDown] = Outbox(lambda i, d: call_down_to_wire(i, calls.Chunk(d)))
        self.ended = asyncio.Event()
        self._server = server
        self._peer = peer
        self._long_messages = LONG_MESSAGES in features
        self._traffic: Traffic | None = None
        self._incoming: dict[str, _Incoming] = {}
        self._assemblies: dict[str, Assembly] = {}
        self._runs: dict[str, Run] = {}

    def __repr__(self) -> str:
        return f"ForwardSession({self._peer}, {len(self._runs)} running, {len(self._incoming)} texts coming)"

    async def read(self, requests: AsyncIterator[pb.CallUp]) -> None:
        """Until the peer ends the stream. A peer that does not take what it is sent is not read from either."""
        most = 2 * self._server.calls_per_peer_max + LASTING_MAX
        try:
            async for wire in requests:
                self.traffic.received_bytes += wire.ByteSize()
                self._take(wire)
                if len(self.outbox) >= most:
                    await self.outbox.fewer(most)
        except DecodeError as e:
            self._refused(Reason.FRAME, Invalid(f"bytes that are no CallUp message: {e}; the stream is ended"))
        except grpc.RpcError as e:
            log.info("forward stream of %s broke: %s", self._peer, e)
        finally:
            self.outbox.close()

    @property
    def traffic(self) -> Traffic:
        """The peer's counters. Until it is known by its own records they count for nobody."""
        if self._traffic is None:
            self._traffic = self._server.traffic(self._peer)
        return self._traffic or Traffic()

    def detach(self) -> None:
        """The stream is gone: its runs wait to be claimed on another one."""
        self.outbox.close()
        for call_id in list(self._incoming):
            self._forget_incoming(call_id)
        for run in self._runs.values():
            run.release(self._server.unclaimed_s)
        self._runs.clear()

    def settle(self) -> None:
        """End the stream, with a last word where every call that was taken on it has been answered."""
        settled = self.outbox.idle and not self._runs
        self.outbox.close(after=call_down_to_wire("", calls.Settled()) if settled else None)

    # ---- frames from the peer ----

    def _take(self, wire: pb.CallUp) -> None:
        if wire.WhichOneof("frame") is None:
            log.debug("%s sent a frame that this version does not know", self._peer)
            return
        call_id = wire.call_id
        try:
            self._dispatch(*call_up_from_wire(wire))
        except MeshError as e:
            self._fail(call_id, e)
        except Exception:
            fault = Fault()
            log.exception("call %s of %s: fault %s", call_id, self._peer, fault.data["fault_id"])
            self._fail(call_id, fault)

    def _fail(self, call_id: str, error: MeshError) -> None:
        """End one call; the others on the stream go on."""
        if isinstance(error, Invalid):
            self._refused(Reason.FRAME, error)
        self._forget_incoming(call_id)
        run = self._runs.get(call_id)
        if run is None:
            self.end(call_id, failed(error))
        else:
            run.cancel(f"its caller broke the protocol: {error.message}")

    def _refused(self, reason: Reason, error: MeshError) -> MeshError:
        self._server.refusals.note("here", self._peer.uri, reason, error.message)
        return error

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
                self._reply(call_id, frame)
            case calls.Cancel():
                self._cancel(call_id, frame.reason)

    # ---- from Open to a run ----

    def _key(self, call_id: str, principal: Principal) -> RunKey:
        length = len(call_id) + sum(map(len, principal.identity))
        if length > KEY_CHARS_MAX:
            raise Invalid(f"call id and principal have {length} characters; at most {KEY_CHARS_MAX} are taken")
        check_principal(principal)
        return RunKey(self._peer.uri, principal.identity, call_id)

    def _open(self, frame: calls.Open) -> None:
        call, server = frame.call, self._server
        if call.call_id in self._incoming or call.call_id in self._runs:
            log.warning("%s opened call %s twice on one stream; the first stands", self._peer, call.call_id)
            return
        if self._resume(self._key(call.call_id, call.principal), accept=True):
            return
        self._check(call)
        if not frame.chunked_bytes:
            self._start(call, frame.assertion)
            return
        if frame.chunked_bytes > server.text_bytes_max:
            raise self._refused(
                Reason.FRAME,
                Exhausted(
                    f"params of {frame.chunked_bytes} bytes; an owner takes at most {server.text_bytes_max}: "
                    "pass large data by reference (a resource, a URL)"
                ),
            )
        if not server.reserve(self._peer.uri, frame.chunked_bytes):
            raise self._refused(
                Reason.FULL,
                Unavailable("this node is receiving too many long texts at once; it did not run, try again"),
            )
        server.count(self._account(call), 1)
        incoming = self._incoming[call.call_id] = _Incoming(frame)
        incoming.deadline = asyncio.get_running_loop().call_later(call.budget_ms / 1000, self._too_late, call)

    def _too_late(self, call: Call) -> None:
        expired = Expired(f"its params had not arrived after {call.budget_ms} ms, its deadline; it did not run")
        self._fail(call.call_id, expired)

    def _check(self, call: Call) -> None:
        self._check_room()
        most = LASTING_MAX if lasts(call) else self._server.calls_per_peer_max
        if self._server.open_calls(self._account(call)) >= most:
            what = "holding open {} streams" if lasts(call) else "running {} calls"
            raise self._refused(
                Reason.FULL,
                Unavailable(
                    f"this node is {what.format(most)} for {self._peer.name!r} already, the most that one peer may "
                    "have open: try again once some have ended"
                ),
            )

    def _vouched(self, call: Call, assertion: bytes) -> None:
        """Whoever speaks for the caller may do so, or the call ends here."""
        try:
            self._server.vouching.check(call, assertion, self._peer)
        except (Unauthenticated, Forbidden) as e:
            raise self._refused(Reason.VOUCHING, e) from None

    def _account(self, call: Call) -> str:
        """What the peer's open calls are counted under: streams apart from the others."""
        return f"{self._peer.uri} streams" if lasts(call) else self._peer.uri

    def _check_room(self) -> None:
        if self._server.closing:
            raise Unavailable("this node is stopping, the call did not run: try another owner", stopping=True)

    def _begin(self, opened: calls.Open, params: bytes) -> None:
        # While its params came, this node may have begun to stop, or the caller may have asked on another stream what
        # had become of it, and been told that it never ran.
        call = opened.call
        if not self._resume(self._key(call.call_id, call.principal), accept=True):
            self._check_room()
            self._start(replace(call, params=jsons.loads_object(params, "params")), opened.assertion)

    def _start(self, call: Call, assertion: bytes) -> None:
        self._vouched(call, assertion)
        self._accept(call.call_id)
        run = Run(call, self._peer, self._server.text_bytes_max)
        key = self._key(call.call_id, call.principal)
        server, account = self._server, self._account(call)
        server.repeats.begin(key, run)
        server.count(account, 1)
        self.traffic.calls += 1

        def finished(outcome: Outcome) -> None:
            server.count(account, -1)
            server.remember(key, outcome)

        self._runs[call.call_id] = run
        run.claim(self)
        run.start(self._server.answer, finished)

    def _accept(self, call_id: str) -> None:
        """Say that the call is taken, unless its answer, which says it too, comes first."""
        asyncio.get_running_loop().call_later(ACCEPT_AFTER_S, self._accepted, call_id)

    def _accepted(self, call_id: str) -> None:
        if call_id in self._runs:
            self.outbox.put(call_id, call_down_to_wire(call_id, calls.Accepted()))

    # ---- texts in chunks, replies ----

    def _reply(self, call_id: str, frame: calls.Reply) -> None:
        run = self._runs.get(call_id)
        if run is None:
            return
        if not frame.chunked_bytes:
            run.reply(frame)
            return
        if call_id in self._incoming:
            raise Invalid("a long reply was announced before the last one had come")
        why: MeshError | None = None
        if frame.chunked_bytes > QUESTION_BYTES_MAX:
            why = Exhausted(
                f"the client's reply is {frame.chunked_bytes} bytes; at most {QUESTION_BYTES_MAX} are taken"
            )
        elif not self._server.reserve(self._peer.uri, frame.chunked_bytes):
            why = Unavailable("this node is receiving too many long texts at once; ask again")
        self._incoming[call_id] = _Incoming(frame, refused=why is not None)
        if why is not None:
            run.reply(replace(frame, failed=error_to_failed(self._refused(Reason.FULL, why))))

    def _chunk(self, call_id: str, data: bytes) -> None:
        incoming = self._incoming.get(call_id)
        if incoming is None:
            return  # refused or cancelled meanwhile
        assembly = self._assemblies.get(call_id)
        if assembly is None:
            assembly = self._assemblies[call_id] = Assembly(self._server.text_bytes_max)
        if grant := assembly.add(data):
            self.outbox.put(call_id, call_down_to_wire(call_id, calls.Window(grant)))
        incoming.left -= len(data)
        if incoming.refused:
            assembly.forget()
        if incoming.left > 0:
            return
        if incoming.refused:
            self._forget_incoming(call_id)
            return
        text = assembly.text(incoming.size)
        self._forget_incoming(call_id)
        if isinstance(incoming.frame, calls.Open):
            self._begin(incoming.frame, text)
        elif run := self._runs.get(call_id):
            run.reply(whole(incoming.frame, text))

    def _forget_incoming(self, call_id: str) -> None:
        incoming = self._incoming.pop(call_id, None)
        if incoming is None:
            return
        if incoming.deadline is not None:
            incoming.deadline.cancel()
        if isinstance(incoming.frame, calls.Open):
            self._server.count(self._account(incoming.frame.call), -1)
        if not incoming.refused:
            self._server.release(self._peer.uri, incoming.size)

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
        elif call_id in self._incoming:
            self._forget_incoming(call_id)
            raise Expired("cancelled before its params had arrived; it did not run")
        elif self.outbox.has_text(call_id):
            # Its caller takes no more of a long answer, and would grant nothing more for it.
            self.outbox.drop(call_id)
            raise OutcomeUnknown(
                "the call had ended and its answer was on its way when it was cancelled; ask again by its call id",
                call_id=call_id,
            )

    # ---- what a run says ----

    def ask(self, call_id: str, question: pb.CallDown) -> None:
        if text := part(question, chunked=self._long_messages):
            self.outbox.put_text(call_id, text)
        self.outbox.put(call_id, question)

    def tell(self, call_id: str, event: pb.CallDown) -> bool:
        size = event.ByteSize()
        try:
            text = part(event, chunked=self._long_messages)
        except Exhausted:
            return False
        return self.outbox.put_light(call_id, event, size, text)

    def lost(self, run: Run) -> None:
        """Another stream of the same peer has claimed the run."""
        if self._runs.get(run.call.call_id) is run:
            self._over(run.call.call_id)
            self.outbox.drop(run.call.call_id)

    def _over(self, call_id: str) -> None:
        self._runs.pop(call_id, None)
        self._assemblies.pop(call_id, None)
        self._forget_incoming(call_id)

    def end(self, call_id: str, outcome: Outcome, *, repeated: bool = False) -> None:
        """The last frame of a call, after its text where that is long."""
        self._over(call_id)
        frame: calls.CallDown
        if isinstance(outcome, calls.Failed):
            frame = outcome
        elif len(outcome) <= CHUNKED_ABOVE_BYTES:
            frame = calls.Result(outcome, repeated=repeated)
        elif self.outbox.text_bytes + len(outcome) > OWED_BYTES_MAX:
            owed = Exhausted(
                f"{self.outbox.text_bytes} bytes of answers wait for {self._peer.name!r} to take them, and this one "
                f"has {len(outcome)}; the call ran: ask again with its call id once others are through",
                call_id=call_id,
            )
            frame = failed(self._refused(Reason.FULL, owed))
        else:
            self.outbox.put_text(call_id, outcome)
            frame = calls.Result(None, len(outcome), repeated)
        self.outbox.put(call_id, call_down_to_wire(call_id, frame), last=True)
