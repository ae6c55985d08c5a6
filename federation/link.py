"""One peer dialled: the stream that brings its records here, opened again whenever it ends.

Each attempt has a connection of its own, so that a dead one is never waited for, and so that the bulk of calls
(on another connection) never delays a beat.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import grpc

from federation.statuses import ERROR_KEY, error_of
from federation.tls import MeshTls, learn_identity
from proto.codec import down_from_wire, up_to_wire
from proto.errors import Invalid, MeshError, Unavailable
from proto.frames import Ack, Down, Hello, Up
from proto.mesh_pb2_grpc import MeshStub
from proto.names import NodeId

log = logging.getLogger("toolmesh.federation.link")

ADVERTISE_KEY = "toolmesh-advertise"
"""Request metadata: where the dialling node itself can be dialled, a hint like any other discovery."""

CONNECT_S = 5.0
FRAME_S = 10.0
"""A stream that brings no frame for so long (beats come each second) has ended, whatever TCP says."""

BACKOFF_MIN_S = 0.2
BACKOFF_MAX_S = 5.0
BACKOFF_LEFT_S = 60.0
ADDRESSES_MAX = 8
UP_MAX = 256
"""Frames waiting to go up. Acks replace each other; beyond the bound rejects, which are for people, are dropped."""


class LinkUser(Protocol):
    """Whom a link tells what happens. All on the loop, never for a stream that was dropped."""

    def link_opened(self, peer: NodeId) -> None: ...

    def link_received(self, peer: NodeId, frame: Down) -> None: ...

    def link_broken(self, peer: NodeId, cause: str) -> None: ...


class Link:
    """Dials `peer` until cancelled, at one address after the other. TLS proves that it is `peer` who answers."""

    def __init__(self, peer: NodeId, tls: MeshTls, advertise: str, user: LinkUser) -> None:
        self.peer = peer
        self.address = ""
        self.connected = False
        self.retired = False
        self.rtt_ms = 0.0
        self._tls = tls
        self._advertise = advertise
        self._user = user
        self._addresses: deque[str] = deque(maxlen=ADDRESSES_MAX)
        self._up: deque[Up] = deque()
        self._up_ready = asyncio.Event()
        self._hurry = asyncio.Event()
        self._attempt: asyncio.Task[str] | None = None
        self._dropped = False
        self._greeted_s = 0.0

    def __repr__(self) -> str:
        return f"Link({self.peer} at {self.address or 'no address'}, {'open' if self.connected else 'not open'})"

    @property
    def addresses(self) -> Sequence[str]:
        return tuple(self._addresses)

    def add_address(self, address: str) -> bool:
        """A further place to try; whether it was new. Beyond `ADDRESSES_MAX` the one tried last is dropped."""
        if address in self._addresses:
            return False
        self._addresses.appendleft(address)
        if not self.connected:
            self._hurry.set()
        return True

    def send(self, frame: Up) -> None:
        """Queue a frame for the open stream."""
        if isinstance(frame, Ack):
            self._up = deque(f for f in self._up if not isinstance(f, Ack))
        if isinstance(frame, Hello):
            self._up.clear()
        if len(self._up) < UP_MAX:
            self._up.append(frame)
        self._up_ready.set()

    def drop(self) -> None:
        """End the stream, if any, without a word to the user; dial again after the usual pause."""
        self.connected = False
        if self._attempt is not None and not self._attempt.done():
            self._dropped = True
            self._attempt.cancel()

    def hurry(self) -> None:
        """Skip the pause, if there is one now or next."""
        self._hurry.set()

    async def run(self) -> None:
        failures = 0
        while True:
            if not self._addresses:
                await self._hurry.wait()
                self._hurry.clear()
                continue
            self.address = self._addresses[0]
            welcomed, cause = await self._one_attempt(self.address)
            failures = 0 if welcomed else failures + 1
            if not welcomed and self._addresses and self._addresses[0] == self.address:
                self._addresses.rotate(-1)
            if cause:
                self._user.link_broken(self.peer, cause)
            await self._pause(failures)

    async def _pause(self, failures: int) -> None:
        longest = BACKOFF_LEFT_S if self.retired else BACKOFF_MAX_S
        pause_s = min(longest, BACKOFF_MIN_S * 2 ** min(failures, 10)) if not self.retired else longest
        try:
            async with asyncio.timeout(pause_s * random.uniform(0.5, 1.0)):  # noqa: S311 jitter, not a secret
                await self._hurry.wait()
        except TimeoutError:
            return
        finally:
            self._hurry.clear()

    async def _one_attempt(self, address: str) -> tuple[bool, str]:
        """(whether any frame came, why it ended); an empty cause where the user ended it."""
        self._dropped, self._greeted_s = False, 0.0
        self._up.clear()
        self._attempt = asyncio.create_task(self._stream(address), name=f"sync with {self.peer}")
        try:
            await asyncio.wait({self._attempt})
        finally:
            self.connected = False
            self._attempt.cancel()
        welcomed = self.rtt_ms > 0
        if self._attempt.cancelled() or self._dropped:
            return welcomed, ""
        return welcomed, self._attempt.result()

    async def _stream(self, address: str) -> str:
        """Until the stream ends; the reason, for people."""
        self.rtt_ms = 0.0
        options = self._tls.channel_options(self.peer)
        async with grpc.aio.secure_channel(address, self._tls.channel_credentials(), options=options) as channel:
            stub = MeshStub(channel)
            call = stub.Sync(metadata=((ADVERTISE_KEY, self._advertise),))
            writer: asyncio.Task[None] | None = None
            try:
                async with asyncio.timeout(CONNECT_S):
                    await call.wait_for_connection()
                self.connected = True
                self._greeted_s = time.monotonic()
                self._user.link_opened(self.peer)
                writer = asyncio.create_task(self._write(call), name=f"sync up to {self.peer}")
                return await self._read(call)
            except grpc.aio.AioRpcError as e:
                return await self._explain(e, address)
            except TimeoutError:
                return f"{address} says nothing"
            except Invalid as e:
                return f"{address} sent what cannot be read: {e.message}"
            finally:
                if writer is not None:
                    writer.cancel()
                call.cancel()

    async def _read(self, call: Any) -> str:
        while True:
            async with asyncio.timeout(FRAME_S):
                wire = await call.read()
            if wire is grpc.aio.EOF:
                if await call.code() is not grpc.StatusCode.OK:
                    raise grpc.aio.AioRpcError(
                        await call.code(), await call.initial_metadata(), await call.trailing_metadata(),
                        await call.details(),
                    )  # fmt: skip
                return "it ended the stream"
            if not self.rtt_ms:
                self.rtt_ms = max(0.01, (time.monotonic() - self._greeted_s) * 1000)
            if self._dropped:
                return ""
            self._user.link_received(self.peer, down_from_wire(wire))

    async def _write(self, call: Any) -> None:
        try:
            while True:
                while self._up:
                    await call.write(up_to_wire(self._up.popleft()))
                self._up_ready.clear()
                await self._up_ready.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as e:
            # The reader meets the same end and tells it.
            log.debug("writing to %s ended: %s", self.peer, e)

    async def _explain(self, error: grpc.aio.AioRpcError, address: str) -> str:
        """gRPC says little of a handshake that failed, so one more handshake asks who is there."""
        said = error_of(error)
        if any(key == ERROR_KEY for key, _ in error.trailing_metadata() or ()):
            return f"it refuses: {said.message}"
        if not isinstance(said, Unavailable) or self.rtt_ms:
            return said.message
        try:
            proved = await learn_identity(address, self._tls, CONNECT_S)
        except MeshError as e:
            return e.message
        if proved != self.peer:
            return f"{address} proves to be {proved.uri}, not {self.peer.uri}"
        return said.message
