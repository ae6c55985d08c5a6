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
from contextlib import suppress
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError

from federation.credentials import Credentials
from federation.refusals import MESSAGE_CHARS_MAX, Reason, Refusals, Side, reason_of, side_of
from federation.silence import heard_within
from federation.statuses import ERROR_KEY, error_of
from federation.tls import MeshTls, learn_identity
from federation.traffic import Traffic
from proto import mesh_pb2 as pb
from proto.errors import Invalid, MeshError, Unauthenticated, Unavailable
from proto.frames import Ack, Delta, Down, Hello, Refuse, Snapshot, Up, Welcome
from proto.mesh_pb2_grpc import MeshStub
from proto.names import NodeId
from proto.sync_codec import down_from_wire, up_to_wire
from proto.versions import REFUSE, common

log = logging.getLogger("toolmesh.federation.link")

ADVERTISE_KEY = "toolmesh-advertise"
"""Request metadata: where the dialling node itself can be dialled, a hint like any other discovery."""

CONNECT_S = 5.0
CONNECT_MAX_S = 15.0
"""Until the stream is open. The longer, the more attempts have failed: where a whole mesh is late because it has too
much to do, attempts that are given up early and begun anew are most of what it does."""

EXPLAIN_S = 2.0
"""For a handshake that asks who is there, once the dial has failed: two SYNs, and another dial soon after."""

AFRESH_S = 1.0
"""An attempt that has no connection yet is dropped for a fresh one when the peer shows itself, unless it is younger
than this: TCP repeats what was lost after 1 s, then 2 s, 4 s, so that a cut may be over long before it notices."""

FRAME_S = 10.0
"""A stream that brings no frame for so long (beats come each second) has ended, whatever TCP says. What this node
itself slept through does not count."""

FRAME_BYTES_MAX = 8 * 1024 * 1024
"""Of one Sync message. Below what gRPC takes, so that a frame in between is refused by name on both sides."""

PART_S = 1.0
"""A peer whose words are refused is given this long to hear why."""

BACKOFF_MIN_S = 0.2
BACKOFF_MAX_S = 2.5
BACKOFF_LEFT_S = 60.0
REFUSED_S = 1.0
"""Before the pause after a refusal, and never hurried: people have to mend it, and two nodes that refuse each other
would else answer each dial with one of their own, a hundred a second."""
ADDRESSES_MAX = 8
ACK_S = 0.1
"""Acks wait so long for each other: they are for people, and while a change spreads its owner has better to do."""

UP_MAX = 256
"""Frames waiting to go up. Acks replace each other; beyond the bound rejects, which are for people, are dropped."""


_SYNC = "/toolmesh.v1.Mesh/Sync"


class LinkUser(Protocol):
    """Whom a link tells what happens. All on the loop, never for a stream that was dropped."""

    def link_opened(self, peer: NodeId, credentials: Credentials | None) -> None:
        """`credentials` are None if an earlier release answers, or what it presents does not hold."""

    def link_received(self, peer: NodeId, frame: Down) -> None: ...

    def link_broken(self, peer: NodeId, cause: str) -> None: ...


class Link:
    """Dials `peer` until cancelled, at one address after the other. TLS proves that it is `peer` who answers.

    `credentials` are those of the stream that is open, or was last; None of an earlier release. `features` are what
    both sides have.
    """

    def __init__(
        self, peer: NodeId, tls: MeshTls, advertise: str, user: LinkUser, *, traffic: Traffic, refusals: Refusals
    ) -> None:
        self.peer = peer
        self.credentials: Credentials | None = None
        self.features: frozenset[str] = frozenset()
        self._traffic = traffic
        self._refusals = refusals
        self.address = ""
        self.connected = False
        self.retired = False
        self.rtt_ms = 0.0
        self._tls = tls
        self._advertise = advertise
        self._user = user
        self._addresses: deque[str] = deque()
        self._met_at: set[str] = set()
        self._up: deque[Up] = deque()
        self._up_ready = asyncio.Event()
        self._acking = False
        self._hurry = asyncio.Event()
        self._attempt: asyncio.Task[str] | None = None
        self._dropped = self._delivering = self._parting = self._refused = False
        self._doubt: Refuse | None = None
        self._greeted_s = self._began_s = 0.0
        self._channel: grpc.aio.Channel | None = None
        self._afresh = False

    def __repr__(self) -> str:
        return f"Link({self.peer} at {self.address or 'no address'}, {'open' if self.connected else 'not open'})"

    @property
    def addresses(self) -> Sequence[str]:
        return tuple(self._addresses)

    @property
    def refused(self) -> bool:
        """The latest stream ended in a refusal, of the peer or by it: somebody is there."""
        return self._refused

    def add_address(self, address: str) -> bool:
        """A further place to try; whether it was new. Beyond `ADDRESSES_MAX` the one tried last is dropped.

        Anybody on a link can name addresses for a peer, so one where it was met goes only if it was met at them all.
        """
        if address in self._addresses:
            return False
        if len(self._addresses) >= ADDRESSES_MAX:
            last_first = tuple(reversed(self._addresses))
            gone = next((a for a in last_first if not self.met_at(a)), last_first[0])
            self._addresses.remove(gone)
            self._met_at.discard(gone)
        self._addresses.appendleft(address)
        if not self.connected:
            self._hurry.set()
        return True

    def met_at(self, address: str) -> bool:
        """Whether TLS has proved the peer there, and nobody else since."""
        return address in self._met_at

    def send(self, frame: Up) -> None:
        """Queue a frame for the open stream."""
        if isinstance(frame, Ack):
            self._up = deque(f for f in self._up if not isinstance(f, Ack))
        if isinstance(frame, Hello):
            self._up.clear()
        if len(self._up) < UP_MAX:
            self._up.append(frame)
        if not isinstance(frame, Ack):
            self._up_ready.set()
        elif not self._acking:
            self._acking = True
            asyncio.get_running_loop().call_later(ACK_S, self._acknowledge)

    def _acknowledge(self) -> None:
        self._acking = False
        self._up_ready.set()

    def drop(self) -> None:
        """End the stream, if any, without a word to the user; dial again after the usual pause."""
        self.connected = False
        if self._attempt is not None and not self._attempt.done():
            self._dropped = True
            if not self._parting:  # else the reader ends it, once the peer has been told why
                self._attempt.cancel()

    def refuse(self, reason: Reason, message: str) -> None:
        """End the stream as `drop` does, because of what the peer said on it; it is told why if its release listens."""
        self._note("here", reason, message)
        self._refused = True
        if self._delivering:
            self._part(Refuse(reason, message[:MESSAGE_CHARS_MAX]))
        self.drop()

    def _part(self, refuse: Refuse) -> None:
        if REFUSE in self.features:
            self._parting = True
            self.send(refuse)

    def _say(self, refuse: Refuse) -> None:
        """Tell both sides of something that is refused while the stream goes on."""
        refuse = Refuse(refuse.reason, refuse.message[:MESSAGE_CHARS_MAX])
        self._note("here", Reason(refuse.reason), refuse.message)
        if REFUSE in self.features:
            self.send(refuse)

    def _note(self, side: Side, reason: Reason, message: str) -> None:
        if self._refusals.note(side, self.peer.uri, reason, message):
            what = "%s refuses this node (%s): %s" if side == "there" else "%s is refused (%s): %s"
            log.warning(what, self.peer, reason, message)

    def hurry(self) -> None:
        """Skip the pause, if there is one now or next, but for `REFUSED_S`."""
        self._hurry.set()

    def seen(self) -> None:
        """The peer has just dialled this node, so that it can be reached: nothing begun before is waited for.

        Two nodes that see each other do not keep each other from connecting: whoever is seen has sent its Sync, is
        connected therefore, and drops nothing for it. An attempt that has its connection goes on.
        """
        if self.connected:
            return
        self.retired = False
        self._hurry.set()
        reached = self._channel is not None and self._channel.get_state() is grpc.ChannelConnectivity.READY
        if self._attempt is not None and not self._attempt.done() and not reached and self._age_s >= AFRESH_S:
            self._afresh = True
            self.drop()

    @property
    def _age_s(self) -> float:
        return time.monotonic() - self._began_s

    async def run(self, after_s: float = 0.0) -> None:
        """Until cancelled; the first dial after `after_s`."""
        await asyncio.sleep(after_s)
        failures = 0
        while True:
            if not self._addresses:
                await self._hurry.wait()
                self._hurry.clear()
                continue
            self.address = self._addresses[0]
            welcomed, cause = await self._one_attempt(self.address, failures)
            if self._afresh:
                await self._pause(0)
                continue
            # What is welcomed and refused, time and again, is a failure too: each attempt may cost a whole snapshot.
            failures = 0 if welcomed and not self._refused else failures + 1
            if failures and self._addresses and self._addresses[0] == self.address:
                self._addresses.rotate(-1)
            if cause:
                self._user.link_broken(self.peer, cause)
            await self._pause(failures)

    async def _pause(self, failures: int) -> None:
        longest = BACKOFF_LEFT_S if self.retired else BACKOFF_MAX_S
        pause_s = min(longest, BACKOFF_MIN_S * 2 ** min(failures, 10)) if not self.retired else longest
        if self._refused:
            await asyncio.sleep(REFUSED_S)
        try:
            async with asyncio.timeout(pause_s * random.uniform(0.5, 1.0)):  # noqa: S311 jitter, not a secret
                await self._hurry.wait()
        except TimeoutError:
            return
        finally:
            self._hurry.clear()

    async def _one_attempt(self, address: str, failures: int) -> tuple[bool, str]:
        """(whether any frame came, why it ended); an empty cause where the user ended it."""
        self._dropped = self._parting = self._refused = self._afresh = False
        self._began_s = time.monotonic()
        self._doubt = None
        self.features, self._greeted_s = frozenset(), 0.0
        self._up.clear()
        connect_s = min(CONNECT_MAX_S, CONNECT_S * 1.5 ** min(failures, 10))
        self._attempt = asyncio.create_task(self._stream(address, connect_s), name=f"sync with {self.peer}")
        try:
            await asyncio.wait({self._attempt})
        finally:
            self.connected = False
            self._attempt.cancel()
        welcomed = self.rtt_ms > 0
        if self._attempt.cancelled() or self._dropped:
            return welcomed, ""
        return welcomed, self._attempt.result()

    async def _stream(self, address: str, connect_s: float) -> str:
        """Until the stream ends; the reason, for people."""
        self.rtt_ms = 0.0
        options = self._tls.channel_options(self.peer)
        async with grpc.aio.secure_channel(address, self._tls.channel_credentials(), options=options) as channel:
            self._channel = channel
            call: Any = None
            writer: asyncio.Task[None] | None = None
            try:
                async with asyncio.timeout(connect_s):
                    self.credentials = await self._presented(channel)
                    # Bytes both ways: what is no message is ours to refuse, by name.
                    call = channel.stream_stream(_SYNC)(metadata=((ADVERTISE_KEY, self._advertise),))
                    await call.wait_for_connection()
                self.connected = True
                self._met_at.add(address)
                self._greeted_s = time.monotonic()
                self._user.link_opened(self.peer, self.credentials)
                writer = asyncio.create_task(self._write(call), name=f"sync up to {self.peer}")
                return await self._read(call)
            except grpc.aio.AioRpcError as e:
                return await self._explain(e, address)
            except TimeoutError:
                waited = "" if self.connected else f" within {connect_s:g} s"
                return f"{address} says nothing{waited}"
            except Invalid as e:
                self._note("here", Reason.FRAME, e.message)
                self._refused = True
                self._part(Refuse(Reason.FRAME, e.message[:MESSAGE_CHARS_MAX]))
                return f"{address} sent what cannot be read: {e.message}"
            finally:
                self._channel = None
                if writer is not None:
                    if self._parting:
                        await self._told(call, writer)
                    writer.cancel()
                if call is not None:
                    call.cancel()

    async def _presented(self, channel: grpc.aio.Channel) -> Credentials | None:
        """What the CA says of the peer, by the certificate that it presents. Without one that holds it has no roles."""
        try:
            reply = await MeshStub(channel).Present(pb.PresentRequest())
        except grpc.aio.AioRpcError as e:
            if e.code() is grpc.StatusCode.UNIMPLEMENTED:
                return None  # an earlier release
            raise
        try:
            return self._tls.vouch(reply.chain_pem, self.peer)
        except Unauthenticated as e:
            self._doubt = Refuse(Reason.CERTIFICATE, f"what it presents does not hold, so it has no roles: {e.message}")
            return None

    async def _read(self, call: Any) -> str:
        while True:
            async with heard_within(FRAME_S):
                data = await call.read()
            if data is grpc.aio.EOF:
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
            self._traffic.received_bytes += len(data)
            frame = _parse(data)
            if isinstance(frame, Welcome):
                self.features = common(frame.features)
                if self._doubt is not None:
                    self._say(self._doubt)
            if isinstance(frame, Delta | Snapshot) and frame.foreign:
                self._say(Refuse(Reason.RECORD, f"not known to this release: {'; '.join(frame.foreign)}"))
            self._delivering = True
            try:
                if frame is not None:
                    self._user.link_received(self.peer, frame)
            finally:
                self._delivering = False
            if self._parting:
                return ""

    async def _write(self, call: Any) -> None:
        try:
            while True:
                while self._up:
                    frame = self._up.popleft()
                    data = up_to_wire(frame).SerializeToString()
                    await call.write(data)
                    self._traffic.sent_bytes += len(data)
                    if isinstance(frame, Refuse) and self._parting:
                        await call.done_writing()
                        return
                self._up_ready.clear()
                await self._up_ready.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as e:
            # The reader meets the same end and tells it.
            log.debug("writing to %s ended: %s", self.peer, e)

    async def _told(self, call: Any, writer: asyncio.Task[None]) -> None:
        """Wait, within a bound, until the peer has heard why: it ends the stream then."""
        with suppress(TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with asyncio.timeout(PART_S):
                await writer
                while await call.read() is not grpc.aio.EOF:
                    pass

    async def _explain(self, error: grpc.aio.AioRpcError, address: str) -> str:
        """gRPC says little of a handshake that failed, so one more handshake asks who is there."""
        said = error_of(error)
        if any(key == ERROR_KEY for key, _ in error.trailing_metadata() or ()):
            self._note("there", reason_of(said), said.message)
            self._refused = True
            return f"it refuses: {said.message}"
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            # A message beyond gRPC's own bound: whose it was, its text says.
            self._note("there" if "SERVER" in said.message else "here", Reason.FRAME, said.message)
            return said.message
        if not isinstance(said, Unavailable) or self.rtt_ms:
            return said.message
        try:
            proved = await learn_identity(address, self._tls, EXPLAIN_S)
        except Unavailable as e:
            return e.message
        except MeshError as e:
            self._note(side_of(e), reason_of(e), e.message)
            return e.message
        if proved != self.peer:
            self._met_at.discard(address)
            message = f"{address} proves to be {proved.uri}, not {self.peer.uri}"
            self._note("here", Reason.IDENTITY, message)
            return message
        if self._age_s >= AFRESH_S:
            self._hurry.set()  # it was away when the dial began, and answers now
        return said.message


def _parse(data: bytes) -> Down | None:
    """The frame in a message, None for one of a newer version. Raises `Invalid`."""
    if len(data) > FRAME_BYTES_MAX:
        raise Invalid(f"a frame has {len(data)} bytes; at most {FRAME_BYTES_MAX} are read")
    try:
        return down_from_wire(pb.SyncDown.FromString(data))
    except DecodeError:
        raise Invalid(f"{len(data)} bytes are no SyncDown message") from None
