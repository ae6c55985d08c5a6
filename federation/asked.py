"""One call in flight, at the node that asked: what is known of it, whichever stream carries it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from federation.budget import Budget, lasts
from federation.chunks import Assembly, Room
from federation.parting import QUESTION_BYTES_MAX, M, whole
from proto import calls, jsons
from proto.calls import Answer, Call, Exchange
from proto.codec import error_to_failed, failed_to_error
from proto.errors import Exhausted, Fault, Invalid, MeshError, OutcomeUnknown, Unavailable

if TYPE_CHECKING:
    from federation.forward_stream import ForwardStream

log = logging.getLogger("toolmesh.federation.calls")

REQUESTS_MAX = 64
"""Questions to the client in the life of one call; of a stream, those that are open or whose answers are kept."""
REPLIES_MAX = 32
"""Answers of the client that are kept in the life of one stream."""
REPLIES_BYTES_MAX = 2 * QUESTION_BYTES_MAX
"""Of its answers, which are kept until the call ends, in case one gets lost with its stream. Then the oldest goes."""


class Asked:
    """`written`: its Open may have reached the owner; `accepted`: it has.

    `queried`: it was asked for on a second stream. `instance` names the process life of the owner that it was sent to.
    """

    def __init__(self, call: Call, exchange: Exchange, answer_bytes_max: int, room: Room) -> None:
        self.call = call
        self.written = False
        self.accepted = False
        self.queried = False
        self.assertion = b""
        self.instance = ""
        self.stream: ForwardStream | None = None
        self.budget: Budget | None = None
        self.answer_bytes_max = answer_bytes_max
        self._exchange = exchange
        self._settled: Answer | BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._joined: asyncio.Future[Answer] | None = None
        self._assembly: Assembly | None = None
        self._room = room
        self._room_taken = 0
        self._requests: dict[int, asyncio.Task[None]] = {}
        self._replies: dict[int, tuple[calls.Reply, int]] = {}
        self._forgotten = 0

    def attach(self, stream: ForwardStream) -> None:
        """This stream carries it from now on; a text that was coming in begins again."""
        self.stream = stream
        self.instance = stream.instance
        self._settled = None
        self._assembly = None
        self._give_room_back()

    async def outcome(self) -> Answer:
        """Wait for the end, or for the stream's (`Lost`). Waiting again after a timeout loses nothing."""
        if self._settled is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        settled = self._settled
        if isinstance(settled, BaseException):
            raise settled
        if settled is None:
            raise AssertionError("woken without an outcome")
        return settled

    @property
    def decided(self) -> bool:
        """The owner has said its last word."""
        return isinstance(self._settled, dict | MeshError)

    def settle(self, outcome: Answer | BaseException) -> None:
        """The first word is the last."""
        if self._settled is None:
            self._settled = outcome
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    async def joined(self) -> Answer:
        """The same end, for a repeat of the same call."""
        if self._joined is None:
            self._joined = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._joined)

    def end(self) -> None:
        """Nobody waits any more."""
        self._give_room_back()
        for task in self._requests.values():
            task.cancel()
        if self._joined is None or self._joined.done():
            return
        settled = self._settled
        if isinstance(settled, dict):
            self._joined.set_result(settled)
            return
        unknown = OutcomeUnknown("the first caller of this call id left", call_id=self.call.call_id)
        self._joined.set_exception(settled if isinstance(settled, MeshError) else unknown)
        self._joined.exception()  # whoever joined may have left as well

    # ---- frames from the owner ----

    def take(self, frame: calls.CallDown) -> int:
        """Returns how many bytes of chunks to grant the owner now."""
        match frame:
            case calls.Accepted():
                self.accepted = True
            case calls.Event():
                self._event(self._whole(frame))
            case calls.Request():
                self._request(self._whole(frame))
            case calls.Withdrawn():
                self._withdrawn(frame.request_id)
            case calls.Chunk():
                return self._chunk(frame.data)
            case calls.Result():
                self.settle(self._answer(frame))
            case calls.Failed():
                self.settle(failed_to_error(frame))
            case calls.Window() | calls.Settled():
                pass  # the stream has taken it
        return 0

    def _chunk(self, data: bytes) -> int:
        if not self._room.take(len(data)):
            raise Exhausted(
                f"this node holds {self._room.taken} bytes of unfinished answers of this peer, the most that it takes; "
                "the call ran: ask for its answer by the same call id once others are through",
                call_id=self.call.call_id,
            )
        self._room_taken += len(data)
        if self._assembly is None:
            self._assembly = Assembly(self.answer_bytes_max)
        return self._assembly.add(data)

    def _give_room_back(self) -> None:
        self._room.give_back(self._room_taken)
        self._room_taken = 0

    def _text(self, announced: int) -> bytes:
        """What came in chunks before the frame that says how long it is."""
        self._give_room_back()
        if self._assembly is None:
            self._assembly = Assembly(self.answer_bytes_max)
        return self._assembly.text(announced)

    def _whole(self, frame: M) -> M:
        return whole(frame, self._text(frame.chunked_bytes)) if frame.chunked_bytes else frame

    def _answer(self, frame: calls.Result) -> Answer:
        text = self._text(frame.chunked_bytes) if frame.text is None else frame.text
        if len(text) > self.answer_bytes_max:
            raise Exhausted(f"the answer is {len(text)} bytes long; at most {self.answer_bytes_max} are taken")
        answer = jsons.loads_object(text, "the answer")
        if ("result" in answer) == ("error" in answer):
            raise Invalid("the answer holds not exactly one of result and error")
        return answer

    def _event(self, frame: calls.Event) -> None:
        try:
            self._exchange.event(frame.notification)
        except Exception:
            log.exception("call %s: its caller failed to take a notification", self.call.call_id)

    def _request(self, frame: calls.Request) -> None:
        known = self._replies.get(frame.request_id)
        if known is not None:
            self._send(known[0])  # the first one got lost with its stream
        elif frame.request_id in self._requests:
            return
        elif frame.request_id <= self._forgotten:
            gone = Unavailable("the client was asked this long ago, and its answer is no longer kept")
            self._send(calls.Reply(frame.request_id, failed=error_to_failed(gone)))
        elif len(self._requests) >= REQUESTS_MAX:
            error = Exhausted(
                f"the server has asked the client {REQUESTS_MAX} things in this call, the most that one call may ask"
            )
            self._send(calls.Reply(frame.request_id, failed=error_to_failed(error)))
        else:
            task = asyncio.create_task(self._ask(frame), name=f"request {frame.request_id} of {self.call.call_id}")
            self._requests[frame.request_id] = task

    def _withdrawn(self, request_id: int) -> None:
        asking = self._requests.get(request_id)
        if asking is not None and request_id not in self._replies:
            asking.cancel()

    async def _ask(self, frame: calls.Request) -> None:
        if self.budget is not None:
            self.budget.stand_still()
        try:
            reply = calls.Reply(frame.request_id, await self._exchange.request(frame.request))
        except MeshError as e:
            reply = calls.Reply(frame.request_id, failed=error_to_failed(e))
        except Exception:
            fault = Fault()
            log.exception("call %s: asking its client failed, fault %s", self.call.call_id, fault.data["fault_id"])
            reply = calls.Reply(frame.request_id, failed=error_to_failed(fault))
        except asyncio.CancelledError:
            gone = Unavailable("the server has taken the question back, or its call has ended")
            self._keep(calls.Reply(frame.request_id, failed=error_to_failed(gone)), 0)
            raise
        finally:
            if self.budget is not None:
                self.budget.go_on()
        self._keep(reply, self._send(reply))

    def _keep(self, reply: calls.Reply, size: int) -> None:
        self._replies[reply.request_id] = (reply, size)
        if lasts(self.call) and len(self._replies) > REPLIES_MAX:
            # In a stream questions have no end; the owner asks again only what is open there.
            oldest = min(self._replies)
            self._forgotten = max(self._forgotten, oldest)
            del self._replies[oldest], self._requests[oldest]
        while sum(size for _, size in self._replies.values()) > REPLIES_BYTES_MAX:
            lost = next(request_id for request_id, (_, size) in self._replies.items() if size)
            gone = Unavailable("the client has answered, the answer got lost with its stream and is no longer kept")
            self._replies[lost] = (calls.Reply(lost, failed=error_to_failed(gone)), 0)

    def _send(self, reply: calls.Reply) -> int:
        """Returns the length in bytes, 0 where no stream is there to carry it."""
        if self.stream is not None and self.stream.alive:
            return self.stream.reply(self, reply)
        return 0

    def __repr__(self) -> str:
        state = "accepted" if self.accepted else "written" if self.written else "queued"
        return f"Asked({self.call.call_id} {self.call.server} {state})"
