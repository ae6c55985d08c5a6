"""The entry node's side of Forward: a peer as a `Target`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import NoReturn

import grpc

from federation.asked import Asked
from federation.forward_stream import ForwardStream, Lost
from proto.calls import Answer, Call, Exchange
from proto.errors import Conflict, Expired, OutcomeUnknown, Unavailable

ANSWER_BYTES_MAX = 64 * 1024 * 1024
CALLS_MAX = 1024
OPEN_TIMEOUT_S = 5.0
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 3.0
CANCEL_GRACE_S = 1.0
"""How long after a deadline the owner's last word is waited for: it tells cancelled from unknown."""
RECOVERY_S = 45.0
"""How long a call whose stream broke is tried to be found again: the owner gives up on it after 30 s."""


class ForwardClient:
    """Runs calls at one peer, over one stream that is opened at the first call and again after a failure.

    `me` is this node's name, added to `via`. At most `calls_max` calls are open at a time, then `Unavailable`;
    an answer or params beyond `answer_bytes_max` are `Exhausted`. The channel stays the caller's to close.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        me: str,
        *,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
        calls_max: int = CALLS_MAX,
        cancel_grace_s: float = CANCEL_GRACE_S,
    ) -> None:
        self._channel = channel
        self._me = me
        self._answer_bytes_max = answer_bytes_max
        self._calls_max = calls_max
        self._cancel_grace_s = cancel_grace_s
        self._calls: dict[str, Asked] = {}
        self._current: ForwardStream | None = None
        self._opening: asyncio.Task[ForwardStream] | None = None
        self._failures = 0
        self._not_before_s = 0.0
        self._cause = ""
        self._closed = False

    @property
    def in_flight(self) -> int:
        return len(self._calls)

    async def call(self, call: Call, exchange: Exchange) -> Answer:
        """Run it at the peer (`proto.calls.Target`).

        Raises `Unavailable` (it did not run), `Expired` (not sent in time, or the owner says that it was
        cancelled), `OutcomeUnknown` with `data["call_id"]` (it may have run), `Exhausted` (too large), or what
        the owner raised. A repeat of a call id joins the call in flight, or gets what the owner kept of it.
        """
        first = self._calls.get(call.call_id)
        if first is not None:
            return await self._join(first, call)
        if len(self._calls) >= self._calls_max:
            raise Unavailable(f"{self._calls_max} calls to this peer are open already")
        if not call.via or call.via[-1] != self._me:
            call = replace(call, via=(*call.via, self._me))
        asked = Asked(call, exchange, self._answer_bytes_max)
        self._calls[call.call_id] = asked
        clock = asyncio.timeout(call.budget_ms / 1000)
        try:
            async with clock:
                return await self._carry(asked)
        except TimeoutError:
            if not clock.expired():
                raise
            return await self._late(asked)
        except asyncio.CancelledError:
            self._send_cancel(asked, "cancelled by its caller")
            raise
        finally:
            del self._calls[call.call_id]
            asked.end()
            if asked.stream is not None:
                asked.stream.forget(asked)

    async def _join(self, first: Asked, call: Call) -> Answer:
        if first.call.principal.identity != call.principal.identity:
            raise Conflict(f"call id {call.call_id!r} is in use by another caller: give each call an id of its own")
        try:
            async with asyncio.timeout(call.budget_ms / 1000):
                return await first.joined()
        except TimeoutError:
            raise OutcomeUnknown(
                f"the deadline of {call.budget_ms} ms passed while the call was running", call_id=call.call_id
            ) from None

    async def _carry(self, asked: Asked) -> Answer:
        stream = await self._stream()
        asked.attach(stream)
        stream.open(asked)
        while True:
            try:
                return await asked.outcome()
            except Lost as lost:
                if not asked.written:
                    raise Unavailable(f"the stream broke before the call was sent: {lost}") from None
                stream = await self._stream_again(asked, lost)
                if stream.instance != asked.instance:
                    self._unknown(asked, "the peer has restarted since it was sent the call")
                asked.attach(stream)
                stream.query(asked)

    async def _late(self, asked: Asked) -> Answer:
        """The deadline has passed. The owner's word counts if it comes within the grace."""
        budget_ms = asked.call.budget_ms
        if asked.decided:
            return await asked.outcome()
        if not asked.written:
            raise Expired(f"the deadline of {budget_ms} ms passed before the call was sent")
        if asked.stream is None or not asked.stream.alive:
            self._unknown(asked, f"the stream broke and no other could be had within the {budget_ms} ms")
        self._send_cancel(asked, "its deadline passed")
        try:
            async with asyncio.timeout(self._cancel_grace_s):
                return await asked.outcome()
        except (TimeoutError, Lost):
            self._unknown(asked, f"the deadline of {budget_ms} ms passed and the owner confirmed no cancellation")

    def _send_cancel(self, asked: Asked, reason: str) -> None:
        if asked.stream is not None and asked.stream.alive:
            asked.stream.cancel(asked, reason)

    @staticmethod
    def _unknown(asked: Asked, why: str) -> NoReturn:
        raise OutcomeUnknown(f"{why}; the call may have run", call_id=asked.call.call_id) from None

    # ---- the stream ----

    async def _stream(self) -> ForwardStream:
        """The open stream, opening it if none is. Raises `Unavailable` at once while backing off."""
        if self._current is not None and self._current.alive:
            return self._current
        if self._closed:
            raise Unavailable("this node has closed its connection to the peer")
        if self._opening is None:
            wait_s = self._not_before_s - asyncio.get_running_loop().time()
            if wait_s > 0:
                raise Unavailable(
                    f"the peer could not be reached ({self._cause}); next attempt in {wait_s:.1f} s",
                    retry_after_s=round(wait_s, 3),
                )
            self._opening = asyncio.create_task(self._open(), name="forward stream opening")
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)

    async def _open(self) -> ForwardStream:
        stream = ForwardStream(self._channel)
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await stream.start()
        except TimeoutError:
            stream.abandon()
            raise Unavailable(f"the peer did not open a stream within {OPEN_TIMEOUT_S:g} s") from None
        return stream

    def _opened(self, task: asyncio.Task[ForwardStream]) -> None:
        self._opening = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._failures, self._cause, self._current = 0, "", task.result()
            return
        self._cause = str(error)
        delay_s = min(BACKOFF_FIRST_S * 2**self._failures, BACKOFF_MAX_S)
        self._failures = min(self._failures + 1, 16)
        self._not_before_s = asyncio.get_running_loop().time() + delay_s

    async def _stream_again(self, asked: Asked, lost: Lost) -> ForwardStream:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + RECOVERY_S
        while True:
            if self._closed:
                self._unknown(asked, "this node closed its connection to the peer")
            try:
                return await self._stream()
            except Unavailable as e:
                if loop.time() >= until_s:
                    self._unknown(asked, f"the stream broke ({lost}) and the peer was not found again ({e.message})")
            await asyncio.sleep(max(self._not_before_s - loop.time(), 0.01))

    async def close(self) -> None:
        """Cancel what is in flight, at the peer too where it can still be told, and end the stream."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
        stream, self._current = self._current, None
        if stream is None:
            return
        for asked in list(self._calls.values()):
            if asked.written:
                stream.cancel(asked, "its entry node is stopping")
        await stream.close()

    def __repr__(self) -> str:
        state = (
            "closed" if self._closed else repr(self._current) if self._current else f"no stream {self._cause}".strip()
        )
        return f"ForwardClient({len(self._calls)} in flight, {state})"
