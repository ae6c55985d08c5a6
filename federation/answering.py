"""The owner's side of Forward: runs calls for peers, each call id once."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import grpc

from federation.clock import SystemClock
from federation.dedupe import Outcome, Repeats, RunKey
from federation.forward_session import ForwardSession
from federation.greeting import INSTANCE_KEY, OURS, features_in
from federation.refusals import Refusals
from federation.running import Run
from federation.statuses import abort
from federation.traffic import Traffic
from federation.vouching import DirectOnly, Vouching
from proto import mesh_pb2 as pb
from proto.calls import Answer, Call, Exchange
from proto.errors import Unavailable
from proto.names import NodeId

log = logging.getLogger("toolmesh.federation.calls")

TEXT_BYTES_MAX = 64 * 1024 * 1024
CALLS_PER_PEER_MAX = 1024
INCOMING_BYTES_MAX = 256 * 1024 * 1024
"""Of long texts that are on their way here, of all peers together; one peer may take up half of it."""
UNCLAIMED_S = 30.0
FINISH_S = 3.0
"""How long a stop waits for what still runs. Whoever drains first has waited longer before."""
CANCEL_S = 2.0
"""How long a stop then waits for cancelled runs to end."""
FLUSH_S = 10.0
"""How long a stop waits at most for peers to read what they are owed, as long as they do read."""
STALLED_S = 1.0
"""A peer that has taken nothing for so long is not waited for."""

Answerer = Callable[[Call, Exchange, NodeId], Awaitable[Answer]]


class ForwardServer:
    """Answers the Forward streams of all peers.

    `answer(call, exchange, peer)` runs a call; it is cancelled at the call's deadline, on `Cancel`, or once no
    stream has claimed the call for `unclaimed_s` seconds. `text_bytes_max` bounds params and answers alike:
    beyond it the call ends in `Exhausted`. At most `calls_per_peer_max` calls of one peer are open at a time;
    further ones are refused with `Unavailable` before they are accepted. `traffic(peer)` gives the peer's counters,
    None while nothing is known of it. `vouching` says for whom a peer may speak.
    """

    def __init__(
        self,
        answer: Answerer,
        *,
        text_bytes_max: int = TEXT_BYTES_MAX,
        calls_per_peer_max: int = CALLS_PER_PEER_MAX,
        unclaimed_s: float = UNCLAIMED_S,
        repeats: Repeats[Run] | None = None,
        traffic: Callable[[NodeId], Traffic | None] = lambda _: None,
        refusals: Refusals | None = None,
        vouching: Vouching | None = None,
    ) -> None:
        self.answer = answer
        self.vouching: Vouching = vouching or DirectOnly()
        self.text_bytes_max = text_bytes_max
        self.calls_per_peer_max = calls_per_peer_max
        self.unclaimed_s = unclaimed_s
        self.repeats: Repeats[Run] = Repeats(time.monotonic) if repeats is None else repeats
        self.traffic = traffic
        self.refusals = refusals or Refusals(SystemClock())
        self.instance = secrets.token_hex(16)
        self.closing = False
        self._closed = False
        self._incoming_bytes: Counter[str] = Counter()
        self._sessions: set[ForwardSession] = set()
        self._open_by_peer: dict[str, int] = {}
        self._forgetting: asyncio.TimerHandle | None = None

    async def forward(
        self, requests: AsyncIterator[pb.CallUp], context: grpc.aio.ServicerContext[Any, Any], peer: NodeId
    ) -> AsyncGenerator[pb.CallDown, None]:
        """One stream of one peer, until either side ends it. Runs that are still going then go on for a while."""
        if self._closed:
            await abort(context, Unavailable("this node is stopping"))
        session = ForwardSession(self, peer, features_in(context.invocation_metadata() or ()))
        self._sessions.add(session)
        # The generator may be dropped unfinished when the stream breaks; this callback always comes.
        context.add_done_callback(partial(self._end, session))  # type: ignore[arg-type]  # the stubs name a class here
        reader: asyncio.Task[None] | None = None
        try:
            await context.send_initial_metadata(((INSTANCE_KEY, self.instance), *OURS))
            reader = asyncio.create_task(session.read(requests), name=f"forward from {peer}")
            async for frame in session.outbox:
                session.traffic.sent_bytes += frame.ByteSize()
                yield frame
        finally:
            if reader is not None:
                reader.cancel()
            self._sessions.discard(session)
            session.detach()

    def _end(self, session: ForwardSession, _: object = None) -> None:
        if session in self._sessions:
            self._sessions.discard(session)
            session.detach()
        session.ended.set()

    # ---- what sessions share ----

    def open_calls(self, peer: str) -> int:
        return self._open_by_peer.get(peer, 0)

    def count(self, peer: str, change: int) -> None:
        n = self._open_by_peer.get(peer, 0) + change
        if n:
            self._open_by_peer[peer] = n
        else:
            self._open_by_peer.pop(peer, None)

    def reserve(self, peer: str, size: int) -> bool:
        """Make room for a long text that a peer announces, until `release`; False if there is none.

        One that announces and does not send must not keep the others from sending.
        """
        mine, all_ = self._incoming_bytes[peer] + size, self._incoming_bytes.total() + size
        if mine > INCOMING_BYTES_MAX // 2 or all_ > INCOMING_BYTES_MAX:
            return False
        self._incoming_bytes[peer] = mine
        return True

    def release(self, peer: str, size: int) -> None:
        self._incoming_bytes[peer] -= size
        if not self._incoming_bytes[peer]:
            del self._incoming_bytes[peer]

    def remember(self, key: RunKey, outcome: Outcome) -> None:
        """A run has ended. What is kept of it is given up in time even where no other call comes."""
        self.repeats.finish(key, outcome)
        if self._forgetting is None and not self._closed:
            self._forget_later()

    def _forget_later(self) -> None:
        self._forgetting = asyncio.get_running_loop().call_later(self.repeats.keep_s / 8, self._forget)

    def _forget(self) -> None:
        self._forgetting = None
        if self.repeats.expire():
            self._forget_later()

    @property
    def in_flight(self) -> int:
        """Calls running for peers, claimed or not."""
        return len(self.repeats)

    # ---- stopping ----

    async def finish(self, within_s: float = FINISH_S) -> None:
        """Take no new call; then until none runs, `within_s` seconds at most.

        Callers are told that what is refused did not run. What became of earlier calls can still be asked.
        """
        self.closing = True
        if tasks := [run.task for run in self.repeats.runs()]:
            await asyncio.wait(tasks, timeout=within_s)

    async def close(self, within_s: float = FINISH_S) -> None:
        """`finish`, cancel what still runs, and end every stream once its callers have been sent what they are owed."""
        await self.finish(within_s)
        runs = self.repeats.runs()
        for run in runs:
            run.cancel("the owner is stopping")
        if runs:
            await asyncio.wait([run.task for run in runs], timeout=CANCEL_S)
        for run in self.repeats.runs():
            run.give_up("the owner is stopping, and the call did not end when it was cancelled")
        self._closed = True
        if self._forgetting is not None:
            self._forgetting.cancel()
        if sessions := list(self._sessions):
            await asyncio.gather(*(self._part(session) for session in sessions))

    async def _part(self, session: ForwardSession) -> None:
        """End one stream, in order if its peer takes everything that it is owed."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + FLUSH_S
        taken = -1
        while not session.outbox.idle and taken != session.outbox.taken and loop.time() < until_s:
            taken = session.outbox.taken
            try:
                async with asyncio.timeout(STALLED_S):
                    await session.outbox.drained()
            except TimeoutError:
                continue
        session.settle()
        try:
            async with asyncio.timeout(STALLED_S):
                await session.ended.wait()
        except TimeoutError:
            log.info("%r did not end in time", session)

    def __repr__(self) -> str:
        return f"ForwardServer({len(self._sessions)} streams, {self.repeats!r})"
