"""The way to one peer: its Forward stream, opened at need, opened again after a failure, given up in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import grpc

from federation.events import Liveness
from federation.forward_stream import ForwardStream, Lost
from federation.patience import Patience
from federation.traffic import Traffic
from proto import mesh_pb2 as pb
from proto.errors import Unavailable
from proto.mesh_pb2_grpc import MeshStub
from proto.names import NodeId

log = logging.getLogger("toolmesh.federation.calls")

OPEN_TIMEOUT_S = 5.0
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 3.0
_SILENCE = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class Gone(Exception):
    """The owner of a call whose stream broke was not found again. Stays within federation."""


class Reach:
    """At most one stream at a time, each over a connection of its own that `dial` makes.

    A channel that has failed is not used again: gRPC would wait for seconds before it tried. `trouble(cause)` is
    told of every stream that could not be opened or broke without a word; it may say something of the peer.
    """

    def __init__(
        self, owner: NodeId, dial: Callable[[], grpc.aio.Channel], trouble: Callable[[str], None], traffic: Traffic
    ) -> None:
        self._owner = owner
        self._dial = dial
        self._trouble = trouble
        self._traffic = traffic
        self._current: ForwardStream | None = None
        self._opening: asyncio.Task[ForwardStream] | None = None
        self._failures = 0
        self._not_before_s = 0.0
        self._cause = ""
        self._back = asyncio.Event()
        self._returns = self._returns_at_opening = 0
        self._patience = Patience()
        self._searches: dict[asyncio.Timeout, float] = {}
        self._asking: asyncio.Task[None] | None = None
        self.closed = False

    @property
    def current(self) -> ForwardStream | None:
        """The open stream, if there is one."""
        return self._current if self._current is not None and self._current.alive else None

    async def stream(self) -> ForwardStream:
        """The open stream, opening it if none is. Raises `Unavailable` at once while backing off."""
        if (current := self.current) is not None:
            return current
        if self.closed:
            raise Unavailable("this node has closed its connection to the peer")
        if self._opening is None:
            wait_s = self._not_before_s - asyncio.get_running_loop().time()
            if wait_s > 0:
                raise Unavailable(
                    f"the peer could not be reached ({self._cause}); next attempt in {wait_s:.1f} s",
                    retry_after_s=round(wait_s, 3),
                )
            self._returns_at_opening = self._returns
            self._opening = asyncio.create_task(self._open(), name="forward stream opening")
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)

    async def again(self, lost: Lost) -> ForwardStream:
        """A stream to ask what became of a call. Raises `Gone`, saying why, once patience with the owner ends."""
        loop = asyncio.get_running_loop()
        lost_s, why = loop.time(), str(lost)
        until_s = self._patience.until_s(lost_s)
        if until_s <= lost_s:
            raise Gone(f"the stream broke ({why}) and {self._patience.verdict}")
        search = asyncio.timeout_at(until_s)
        try:
            async with search:
                self._searches[search] = lost_s
                while not self.closed:
                    try:
                        return await self.stream()
                    except Unavailable as e:
                        why = e.message
                    self._back.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout_at(max(self._not_before_s, loop.time() + 0.01)):
                            await self._back.wait()
        except TimeoutError:
            if not search.expired():
                raise
            raise Gone(
                self._patience.verdict or f"the stream broke ({lost}) and no other could be had: {why}"
            ) from None
        finally:
            self._searches.pop(search, None)
        raise Gone("this node closed its connection to the peer")

    def owner_is(self, state: Liveness, cause: str) -> None:
        """What the owner stream shows of the peer; calls that look for it wait as long as that warrants."""
        loop = asyncio.get_running_loop()
        self._patience.owner_is(state, cause, loop.time())
        if state in (Liveness.ALIVE, Liveness.DRAINING):
            self._failures, self._not_before_s = 0, 0.0
            self._returns += 1
            self._back.set()
        for search, lost_s in self._searches.items():
            if not search.expired():
                search.reschedule(self._patience.until_s(lost_s))
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        if self._patience.verdict and (current := self.current) is not None:
            self._asking = asyncio.create_task(self._ask(current), name="is anybody there")

    async def _ask(self, stream: ForwardStream) -> None:
        """End a stream that looks open unless somebody answers on its connection.

        A frozen process closes nothing, its kernel acknowledges what is sent, and gRPC (1.85) waits a minute for the
        answer to a ping whatever `keepalive_timeout_ms` says.
        """
        question = pb.WitnessRequest(node=self._owner.uri)
        within_s = self._patience.proof_s
        try:
            await MeshStub(stream.channel).Witness(question, timeout=within_s)
        except grpc.aio.AioRpcError as e:
            if e.code() in _SILENCE:
                stream.end(f"nobody answered on it within {within_s:g} s")

    async def _open(self) -> ForwardStream:
        stream = ForwardStream(self._dial(), self._broke, self._traffic)
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await stream.start()
        except TimeoutError:
            await stream.close()
            cause = f"the peer did not open a stream within {OPEN_TIMEOUT_S:g} s"
            self._trouble(cause)
            raise Unavailable(cause) from None
        except BaseException:
            await stream.close()
            raise
        return stream

    def _broke(self, cause: str) -> None:
        if not self.closed:
            self._trouble(cause)

    def _opened(self, task: asyncio.Task[ForwardStream]) -> None:
        self._opening = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._failures, self._cause, self._current = 0, "", task.result()
            return
        self._cause = str(error)
        if self._returns != self._returns_at_opening:
            return  # the attempt began before the peer was back: the next one need not wait
        delay_s = min(BACKOFF_FIRST_S * 2**self._failures, BACKOFF_MAX_S)
        self._failures = min(self._failures + 1, 16)
        self._not_before_s = asyncio.get_running_loop().time() + delay_s

    async def close(self) -> None:
        """End the stream, once what waits on it is written, and look for no other."""
        self.closed = True
        self._back.set()
        if self._asking is not None:
            self._asking.cancel()
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        if self._current is not None:
            await self._current.close()

    def __repr__(self) -> str:
        return "closed" if self.closed else repr(self.current) if self.current else f"no stream {self._cause}".strip()
