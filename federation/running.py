"""One call running for a peer: the caller's side of it may change streams while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from federation.budget import Budget, lasts
from federation.dedupe import Outcome
from federation.parting import QUESTION_BYTES_MAX
from proto import calls, jsons
from proto import mesh_pb2 as pb
from proto.calls import Answer, Call, Exchange, Notification
from proto.codec import call_down_to_wire, error_to_failed, failed_to_error
from proto.errors import Exhausted, Expired, Fault, MeshError, OutcomeUnknown
from proto.names import NodeId

log = logging.getLogger("toolmesh.federation.calls")

REQUESTS_MAX = 16
"""Questions to the client that one call may have open at a time."""
REQUESTS_BYTES_MAX = 2 * QUESTION_BYTES_MAX
"""Of these together: they are kept until they are answered, should the stream break."""
_FAILED_DATA_BYTES_MAX = 256 * 1024
_FAILED_MESSAGE_MAX = 8192


class Claimant(Protocol):
    """The stream that a run reports to."""

    def ask(self, call_id: str, question: pb.CallDown) -> None:
        """Raises `Exhausted` if it is longer than the peer takes."""

    def tell(self, call_id: str, event: pb.CallDown) -> bool:
        """False if the peer does not keep up, or the notification is too long for it."""

    def end(self, call_id: str, outcome: Outcome) -> None: ...

    def lost(self, run: Run) -> None: ...


class Run:
    """The `Exchange` of a running call, and its task."""

    task: asyncio.Task[None]

    def __init__(self, call: Call, peer: NodeId, text_bytes_max: int) -> None:
        self.call = call
        self._peer = peer
        self._text_bytes_max = text_bytes_max
        self._claimant: Claimant | None = None
        self._unclaimed: asyncio.TimerHandle | None = None
        self._asked: dict[int, tuple[calls.Request, asyncio.Future[Answer]]] = {}
        self._asked_last = 0
        self._asked_bytes = 0
        self._budget: Budget | None = None
        self._cancelled_for = ""
        self._started = False

    def start(
        self, answer: Callable[[Call, Exchange, NodeId], Awaitable[Answer]], finished: Callable[[Outcome], None]
    ) -> None:
        self.task = asyncio.create_task(self._run(answer, finished), name=f"call {self.call.call_id}")

    async def _run(
        self, answer: Callable[[Call, Exchange, NodeId], Awaitable[Answer]], finished: Callable[[Outcome], None]
    ) -> None:
        outcome: Outcome
        self._started = True
        budget_ms = self.call.budget_ms
        self._budget = Budget(budget_ms, lambda: self.cancel(f"its deadline passed after {budget_ms} ms"))
        try:
            if self._cancelled_for:
                raise asyncio.CancelledError
            outcome = await self._outcome(answer)
        except asyncio.CancelledError:
            # Cancelled by us, and the cancellation went all the way: the work stopped where it was.
            reason = self._cancelled_for or "this node is stopping"
            outcome = failed(Expired(f"the call was cancelled while it ran: {reason}", call_id=self.call.call_id))
        self._budget.stop()
        if self._unclaimed is not None:
            self._unclaimed.cancel()
        finished(outcome)
        if self._claimant is not None:
            self._claimant.end(self.call.call_id, outcome)

    async def _outcome(self, answer: Callable[[Call, Exchange, NodeId], Awaitable[Answer]]) -> Outcome:
        call = self.call
        try:
            # It is kept for repeats, long after it is sent.
            text = jsons.compact(jsons.dumps(await answer(call, self, self._peer)))
            if len(text) > self._text_bytes_max:
                raise Exhausted(f"the answer is {len(text)} bytes long; at most {self._text_bytes_max} are carried")
            return text
        except MeshError as e:
            if isinstance(e, Fault):
                log.error("call %s for %s failed, fault %s", call.call_id, self._peer, e.data["fault_id"], exc_info=e)
            return failed(e)
        except Exception:
            fault = Fault()
            log.exception("call %s for %s failed, fault %s", call.call_id, self._peer, fault.data["fault_id"])
            return failed(fault)

    def cancel(self, reason: str) -> None:
        """Cancel the run; its end is reported when it has ended. Harmless when repeated."""
        if self._cancelled_for:
            return  # a second cancellation would cut short the clean-up that the first one began
        self._cancelled_for = reason
        if self._started:  # a task cancelled before its first step would end without a word
            self.task.cancel()

    def give_up(self, why: str) -> None:
        """It does not end though it was cancelled: tell its caller what is known, which is nothing."""
        if self._claimant is not None:
            unknown = OutcomeUnknown(f"{why}; it may have run", call_id=self.call.call_id)
            self._claimant.end(self.call.call_id, failed(unknown))
            self._claimant = None

    # ---- claimed and released ----

    def claim(self, claimant: Claimant) -> None:
        """Report to this stream from now on; open questions are asked there again."""
        if self._unclaimed is not None:
            self._unclaimed.cancel()
            self._unclaimed = None
        if self._claimant is not None and self._claimant is not claimant:
            self._claimant.lost(self)
        self._claimant = claimant
        for frame, reply in self._asked.values():
            try:
                claimant.ask(self.call.call_id, call_down_to_wire(self.call.call_id, frame))
            except Exhausted as e:
                if not reply.done():
                    reply.set_exception(e)

    def release(self, unclaimed_s: float) -> None:
        """The stream is gone: cancel the run unless another one claims it in time."""
        self._claimant = None
        self._unclaimed = asyncio.get_running_loop().call_later(
            unclaimed_s, self.cancel, f"its caller was gone for {unclaimed_s:g} s"
        )

    # ---- Exchange ----

    def event(self, notification: Notification) -> None:
        """Passed on if the caller is connected and keeps up; otherwise lost, as progress may be.

        A stream, which is all notifications, ends there: its listener begins anew rather than miss what it never knows.
        """
        told = self._claimant is not None and self._claimant.tell(
            self.call.call_id, call_down_to_wire(self.call.call_id, calls.Event(notification))
        )
        if told:
            return
        log.debug("call %s: its caller does not keep up, a notification was dropped", self.call.call_id)
        if lasts(self.call):
            self.cancel("its caller does not keep up with what it is told")

    async def request(self, request: Notification) -> Answer:
        """Ask the client; while no stream is there, wait for one (the run ends when none comes).

        Raises `Exhausted` for a question too large or too many at once, and what the client's side raised.
        """
        if len(self._asked) >= REQUESTS_MAX:
            raise Exhausted(
                f"the server has {REQUESTS_MAX} questions to the client open already, the most that one call may have"
            )
        self._asked_last += 1
        request_id = self._asked_last
        frame = calls.Request(request_id, request)
        wire = call_down_to_wire(self.call.call_id, frame)
        size = wire.ByteSize()
        if size > QUESTION_BYTES_MAX:
            raise Exhausted(
                f"the server's request is {size} bytes; at most {QUESTION_BYTES_MAX} are carried: send less"
            )
        if self._asked_bytes + size > REQUESTS_BYTES_MAX:
            raise Exhausted(
                f"the server's open questions are {self._asked_bytes} bytes already, and this one {size}; at most "
                f"{REQUESTS_BYTES_MAX} of one call may wait: ask again once some are answered"
            )
        reply: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[request_id] = (frame, reply)
        self._asked_bytes += size
        if self._budget is not None:
            self._budget.stand_still()
        try:
            if self._claimant is not None:
                self._claimant.ask(self.call.call_id, wire)
            return await reply
        except asyncio.CancelledError:
            if not self._cancelled_for and self._claimant is not None:
                # The server took it back. Where the call itself ends, its end says so.
                self._claimant.ask(self.call.call_id, call_down_to_wire(self.call.call_id, calls.Withdrawn(request_id)))
            raise
        finally:
            if self._budget is not None:
                self._budget.go_on()
            del self._asked[request_id]
            self._asked_bytes -= size

    def reply(self, frame: calls.Reply) -> None:
        """The client's answer. One that nobody waits for, as after a repeat, is ignored."""
        _, waiting = self._asked.get(frame.request_id, (None, None))
        if waiting is None or waiting.done():
            return
        if frame.failed is not None:
            waiting.set_exception(failed_to_error(frame.failed))
        else:
            waiting.set_result(frame.answer)

    def __repr__(self) -> str:
        claimed = "claimed" if self._claimant is not None else "unclaimed"
        return f"Run({self.call.call_id} {self.call.server} {self.call.method} {claimed})"


def failed(error: MeshError) -> calls.Failed:
    """The error as a frame, cut to what a frame carries."""
    told = error_to_failed(error)
    try:
        fits = len(jsons.dumps(told.data)) <= _FAILED_DATA_BYTES_MAX
    except MeshError:
        fits = False
    return calls.Failed(told.kind, told.message[:_FAILED_MESSAGE_MAX], told.data if fits else {})
