"""The entry node's side of Forward: a peer as a `Target`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import grpc

from federation.asked import Asked
from federation.budget import LASTING_MAX, Budget, lasts
from federation.chunks import Room
from federation.events import Liveness
from federation.forward_stream import Lost
from federation.reach import Gone, Reach
from federation.traffic import Traffic
from proto.calls import Answer, Call, Exchange
from proto.errors import Conflict, Expired, OutcomeUnknown, Unavailable
from proto.names import NodeId

ANSWER_BYTES_MAX = 64 * 1024 * 1024
ANSWERS_BYTES_MAX = 512 * 1024 * 1024
"""Of long answers that are coming in from one peer, all calls together."""
CALLS_MAX = 1024
CANCEL_GRACE_S = 1.0
"""How long after a deadline the owner's last word is waited for: it tells cancelled from unknown."""


class ForwardClient:
    """Runs calls at the peer `owner`, over one stream that is opened at the first call and again after a failure.

    `dial` makes a channel for each stream, which is closed with it. `me` is this node's name, added to `via`. At most
    `calls_max` calls, and `budget.LASTING_MAX` streams, are open at a time, then `Unavailable`; an answer or params
    beyond `answer_bytes_max` are `Exhausted`. `trouble(cause)` is told of each stream between the nodes that could not
    be opened or broke. `sign` gives this node's word about the caller, where the owner is of another trust domain.
    """

    def __init__(
        self,
        dial: Callable[[], grpc.aio.Channel],
        me: str,
        owner: NodeId,
        *,
        trouble: Callable[[str], None],
        traffic: Traffic,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
        calls_max: int = CALLS_MAX,
        cancel_grace_s: float = CANCEL_GRACE_S,
        sign: Callable[[Call], bytes] | None = None,
    ) -> None:
        self._me = me
        self._sign = sign
        self._owner = owner.name
        self._traffic = traffic
        self._answer_bytes_max = answer_bytes_max
        self._calls_max = calls_max
        self._cancel_grace_s = cancel_grace_s
        self._calls: dict[str, Asked] = {}
        self._lasting = 0
        self._room = Room(ANSWERS_BYTES_MAX)
        self._reach = Reach(owner, dial, trouble, traffic)

    @property
    def in_flight(self) -> int:
        return len(self._calls)

    async def call(self, call: Call, exchange: Exchange) -> Answer:
        """Run it at the peer (`proto.calls.Target`).

        Raises `Unavailable` (it did not run), `Expired` (not sent in time, or the owner says that it was
        cancelled), `OutcomeUnknown` with `data["call_id"]` and `data["owner"]` (it may have run), `Exhausted` (too
        large), or what the owner raised. A repeat of a call id joins the call in flight, or gets what the owner kept
        of it.
        """
        first = self._calls.get(call.call_id)
        if first is not None:
            return await self._join(first, call)
        self._check_room(call)
        if not call.via or call.via[-1] != self._me:
            call = replace(call, via=(*call.via, self._me))
        asked = Asked(call, exchange, self._answer_bytes_max, self._room)
        if self._sign is not None:
            asked.assertion = self._sign(call)
        self._calls[call.call_id] = asked
        self._lasting += lasts(call)
        self._traffic.calls += 1
        try:
            return await self._in_time(asked)
        except OutcomeUnknown as e:
            # Also where the owner itself, or a server behind it, says so: a caller must be able to ask again.
            e.data.setdefault("call_id", call.call_id)
            e.data.setdefault("owner", self._owner)
            raise
        except asyncio.CancelledError:
            self._send_cancel(asked, "cancelled by its caller")
            raise
        finally:
            del self._calls[call.call_id]
            self._lasting -= lasts(call)
            asked.end()
            if asked.stream is not None:
                asked.stream.forget(asked)

    def _check_room(self, call: Call) -> None:
        streams = lasts(call)
        most = LASTING_MAX if streams else self._calls_max
        if (self._lasting if streams else len(self._calls) - self._lasting) >= most:
            raise Unavailable(
                f"{most} {'streams' if streams else 'calls'} to {self._owner!r} are open already, the most that this "
                "node sends to one peer: try again once some have ended"
            )

    async def _in_time(self, asked: Asked) -> Answer:
        loop, clock = asyncio.get_running_loop(), asyncio.timeout(None)
        asked.budget = Budget(asked.call.budget_ms, lambda: clock.reschedule(loop.time()))
        try:
            async with clock:
                try:
                    return await self._carry(asked)
                finally:
                    asked.budget.stop()
        except TimeoutError:
            if not clock.expired():
                raise
        return await self._late(asked)

    async def _join(self, first: Asked, call: Call) -> Answer:
        if first.call.principal.identity != call.principal.identity:
            raise Conflict(f"call id {call.call_id!r} is in use by another caller: give each call an id of its own")
        try:
            async with asyncio.timeout(call.budget_ms / 1000):
                return await first.joined()
        except TimeoutError:
            raise OutcomeUnknown(
                f"the deadline of {call.budget_ms} ms passed while the call was running",
                call_id=call.call_id,
                owner=self._owner,
            ) from None

    async def _carry(self, asked: Asked) -> Answer:
        stream = await self._reach.stream()
        asked.attach(stream)
        stream.open(asked)
        while True:
            try:
                return await asked.outcome()
            except Lost as lost:
                if not asked.written:
                    raise Unavailable(f"the stream broke before the call was sent: {lost}") from None
                if lost.settled and not asked.queried:
                    raise Unavailable("the owner is stopping and did not take the call, it did not run") from None
                try:
                    stream = await self._reach.again(lost)
                except Gone as e:
                    self._unknown(asked, str(e))
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

    def _unknown(self, asked: Asked, why: str) -> NoReturn:
        raise OutcomeUnknown(f"{why}; the call may have run", call_id=asked.call.call_id, owner=self._owner) from None

    # ---- the peer ----

    def owner_is(self, state: Liveness, cause: str) -> None:
        """How the peer fares, by its owner stream (docs/decisions/0008).

        Down or left: calls whose stream is lost end as `OutcomeUnknown` at once, and a stream that looks open is ended
        unless somebody answers on its connection within `patience.PROOF_DOWN_S`. Unreachable: `RECOVERY_CUT_S` for the
        one and for the other. Suspect: nothing changes. Alive: everything is as before, and the next attempt waits for
        nothing.
        """
        self._reach.owner_is(state, cause)

    @property
    def channel(self) -> grpc.aio.Channel | None:
        """The connection of the open stream, for questions beside the calls; None while there is none."""
        stream = self._reach.current
        return stream.channel if stream is not None else None

    async def close(self) -> None:
        """Cancel what is in flight, at the peer too where it can still be told, and end the stream."""
        if (stream := self._reach.current) is not None:
            for asked in list(self._calls.values()):
                if asked.written:
                    stream.cancel(asked, "its entry node is stopping")
        await self._reach.close()

    def __repr__(self) -> str:
        return f"ForwardClient({len(self._calls)} in flight, {self._reach!r})"
