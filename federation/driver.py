"""The one loop of the federation: events into the pure cores, their effects carried out, and the facade of it all."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Coroutine, Sequence
from typing import Any

import grpc

from federation.answering import ForwardServer
from federation.clock import Clock, SystemClock
from federation.events import (
    Alarm,
    AskWitnesses,
    Became,
    Broken,
    Changed,
    Close,
    Effects,
    Event,
    Forget,
    Listed,
    Liveness,
    Opened,
    Probe,
    Received,
    Save,
    SaveEpoch,
    Send,
    Tick,
    Witnessed,
)
from federation.finding import Finder, unfit
from federation.known import Known
from federation.line import Line
from federation.link import Link
from federation.log import Log, Subscriber
from federation.peer import Peer
from federation.ports import Answerer, Discovery, Found, ViewListener, ViewStore
from federation.saving import Saver
from federation.service import MeshService
from federation.status import PeerStatus
from federation.tls import MeshTls
from federation.view import View
from proto.calls import Answer, Call, Exchange, Target
from proto.errors import Invalid, MeshError, Unavailable
from proto.frames import Beat, Down, Farewell, Hello
from proto.mesh_pb2_grpc import add_MeshServicer_to_server
from proto.names import NodeId
from proto.records import Record, RecordKey

__all__ = ["Clock", "Federation", "PeerStatus", "SystemClock"]

log = logging.getLogger("toolmesh.federation")

TICK_MS = 250
BEAT_TICKS = 4
HASH_BEATS = 30
"""Every so many beats carry the view hash."""

HEARD_MS = 600_000
"""How often it is noted on disk whom this node hears, so that a view's age survives a restart."""

PEERS_MAX = 256
FAREWELL_S = 3.0


class Federation:
    """This node's place in the mesh. Everything runs on the loop that `start` was awaited on."""

    def __init__(
        self,
        *,
        me: NodeId,
        mesh: str,
        listen: str,
        advertise: str,
        tls: MeshTls,
        discoveries: Sequence[Discovery],
        store: ViewStore,
        listener: ViewListener,
        answer: Answerer,
        software: str,
        clock: Clock | None = None,
    ) -> None:
        self._me = me
        self._mesh = mesh
        self._listen = listen
        self._advertise = advertise
        self._tls = tls
        self._discoveries = tuple(discoveries)
        self._store = store
        self._listener = listener
        self._answer = answer
        self._software = software
        self._clock: Clock = clock or SystemClock()
        self._peers: dict[NodeId, Known] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._calls = 0
        self._lag_ms = 0
        self._port = 0
        self._started = self._stopped = False
        self._log = Log(me, mesh, 0, secrets.token_bytes(16), software=software)
        self._forward = ForwardServer(self._run_call)
        self._service = MeshService(me, self._log, self._forward, self)
        self._server: grpc.aio.Server | None = None
        self._saver = Saver(store, self._clock.wall_ms)
        self._finder = Finder(me, tls, self._reached, self._clock)

    def __repr__(self) -> str:
        alive = sum(k.core.pulse.state is Liveness.ALIVE for k in self._peers.values())
        return f"Federation({self._log!r}, {alive} of {len(self._peers)} peers alive)"

    # ---- facade ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Restore views (the listener is told), listen, begin to dial. Waits for no peer.

        Raises `Unavailable` if the port or the store is taken, `Invalid` if the certificate is another node's.
        """
        if self._tls.identity() != self._me:
            raise Invalid(f"the certificate names {self._tls.identity().uri}, not {self._me.uri}; issue one for it")
        self._store.open()
        self._log.epoch = self._store.begin_epoch(self._clock.wall_ms())
        self._restore()
        await self._serve()
        self._started = True
        self._advertise = self._advertise or f"{self._listen.rpartition(':')[0]}:{self._port}"
        if self._advertise.endswith(":0"):
            self._advertise = f"{self._advertise[:-2]}:{self._port}"
        self._finder.own_address(self._advertise)
        for peer in self._peers.values():
            self._dial(peer)
        self._spawn(self._saver.run(), "save views")
        self._spawn(self._ticking(), "tick")
        for discovery in self._discoveries:
            self._spawn(self._finder.run(discovery), f"discover by {discovery!r}")
            self._spawn(self._announce(discovery), f"announce by {discovery!r}")

    def publish(self, puts: Sequence[Record], deletes: Sequence[RecordKey]) -> None:
        """This node's own records; equal digests change nothing. A record that cannot be one is left out."""
        try:
            changed = self._log.publish(puts, deletes)
        except MeshError:
            changed = self._publish_each(puts, deletes)
        if changed:
            self._service.wake()

    def set_loaded(self) -> None:
        """This node's own servers have been started once: peers may drop what they still hold from before."""
        self._log.set_loaded()
        self._service.wake()

    def set_draining(self, draining: bool) -> None:
        """Tell peers, with the next beat (at once), whether to send new work here."""
        self._draining = draining
        self._service.beat(self._make_beat(hashed=False))

    def target(self, owner: str) -> Target:
        """Where calls for this node name go. Raises `Unavailable` with the reason unless it is alive."""
        for node, peer in self._peers.items():
            if node.name == owner:
                pulse = peer.core.pulse
                if pulse.state not in (Liveness.ALIVE, Liveness.DRAINING):
                    raise Unavailable(f"node {owner!r} is {pulse.state}: {pulse.cause}", node=owner)
                return self._line(peer).target
        raise Unavailable(f"node {owner!r} is not known in this mesh", node=owner)

    def peers(self) -> tuple[PeerStatus, ...]:
        now, service = self._clock.now_ms(), self._service
        known = [peer.status(now, service.subscribers(node)) for node, peer in sorted(self._peers.items())]
        return (*known, *self._finder.unproved())

    @property
    def bound_port(self) -> int:
        """The port in use, 0 before `start`."""
        return self._port

    async def stop(self, farewell: Farewell = Farewell.RESTART) -> None:
        """Say goodbye, end every stream, save what waits. Safe after a failed `start`, and twice."""
        if self._stopped:
            return
        self._stopped = True
        for discovery in self._discoveries:
            try:
                await discovery.withdraw()
            except MeshError as e:
                log.warning("%r: %s", discovery, e.message)
        await self._service.farewell(farewell, FAREWELL_S)
        await self._forward.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._finder.close()
        for peer in self._peers.values():
            if peer.line is not None:
                await peer.line.close()
        if self._server is not None:
            await self._server.stop(grace=FAREWELL_S)
        if self._started:
            self._note_heard()
            await self._saver.flush()
        self._store.close()

    # ---- starting -------------------------------------------------------------------------------

    def _restore(self) -> None:
        now, wall = self._clock.now_ms(), self._clock.wall_ms()
        for saved in self._store.views():
            if unfit(self._me, saved.owner):
                continue
            view = View.restored(
                saved.owner,
                self._mesh,
                version=saved.version,
                instance=saved.instance,
                loaded=saved.loaded,
                records=saved.records.values(),
                age_ms=wall - saved.heard_ms,
                now_ms=now,
                software=self._software,
            )
            self._add(saved.owner, view)
            log.info("%r restored from disk", view)
            self._listener.changed(saved.owner, tuple(view.records.values()), ())
            self._tell(saved.owner)

    async def _serve(self) -> None:
        server = grpc.aio.server(options=self._tls.server_options())
        add_MeshServicer_to_server(self._service, server)
        try:
            self._port = server.add_secure_port(self._listen, self._tls.server_credentials())
        except RuntimeError as e:
            # gRPC says no more than that it failed, and to turn on its debugging.
            log.debug("gRPC: %s", e)
            raise Unavailable(
                f"federation.listen {self._listen} cannot be listened on: is another program using it, or is it not "
                "an address of this machine? Stop what uses it or choose another"
            ) from None
        await server.start()
        self._server = server

    async def _announce(self, discovery: Discovery) -> None:
        try:
            await discovery.announce(self._me, self._advertise, self._mesh)
        except MeshError as e:
            log.warning("%r cannot announce this node: %s", discovery, e.message)

    def _publish_each(self, puts: Sequence[Record], deletes: Sequence[RecordKey]) -> bool:
        changed = self._log.publish((), deletes)
        for record in puts:
            try:
                changed |= self._log.publish((record,), ())
            except MeshError as e:
                log.error("own record %s is left out: %s", record.id, e.message)
        return changed

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("the task %r of the federation has failed", task.get_name(), exc_info=error)

    # ---- peers ----------------------------------------------------------------------------------

    def _add(self, node: NodeId, view: View | None = None) -> Known:
        core = Peer(view or View(node, self._mesh, software=self._software), self._clock.now_ms())
        peer = self._peers[node] = Known(core, Link(node, self._tls, self._advertise, self))
        return peer

    def _reached(self, node: NodeId, address: str) -> None:
        """Discovery, or the node itself, says that `node` may answer at `address`."""
        peer = self._peers.get(node)
        if peer is None:
            if len(self._peers) >= PEERS_MAX:
                log.warning("%s at %s is one too many: a node has at most %d peers", node, address, PEERS_MAX)
                return
            twin = next((n for n in self._peers if n.name == node.name), None)
            if twin is not None:
                log.warning("%s at %s bears the name of %s: names are unique in a mesh", node.uri, address, twin.uri)
                return
            peer = self._add(node)
        if peer.link.add_address(address):
            log.info("%s may answer at %s", node, address)
        self._dial(peer)

    def _dial(self, peer: Known) -> None:
        if self._started and not self._stopped and peer.dialling is None:
            peer.dialling = self._spawn(peer.link.run(), f"dial {peer.link.peer}")

    def _line(self, peer: Known) -> Line:
        """Kept while the address holds."""
        line = peer.line
        if line is None or line.address != peer.link.address:
            if line is not None:
                self._spawn(line.close(), f"hang up on {line!r}")
            line = peer.line = Line(peer.link.peer, peer.link.address, self._tls, self._me.name)
        return line

    async def _run_call(self, call: Call, exchange: Exchange, peer: NodeId) -> Answer:
        self._calls += 1
        try:
            return await self._answer(call, exchange, peer)
        finally:
            self._calls -= 1

    # ---- events: links, subscribers, time -------------------------------------------------------

    def link_opened(self, peer: NodeId) -> None:
        self._handle(peer, Opened())

    def link_received(self, peer: NodeId, frame: Down) -> None:
        known = self._peers[peer]
        known.told(frame, self._clock.wall_ms())
        self._handle(peer, Received(frame))
        known.measure_lag(self._clock.now_ms())

    def link_broken(self, peer: NodeId, cause: str) -> None:
        known = self._peers[peer]
        if known.last_error != cause:
            log.info("no stream from %s: %s", peer, cause)
        known.last_error = cause
        self._handle(peer, Broken(cause))

    def hello(self, sub: Subscriber, hello: Hello) -> None:
        """A subscriber's Hello (`service.ServiceUser`)."""
        for effect in self._log.subscribe(sub, hello, self._clock.wall_ms()):
            match effect:
                case SaveEpoch(epoch):
                    self._store.raise_epoch(epoch)
                case Alarm(name, message):
                    log.error("%s: %s", name, message)
        self._service.wake()

    def dialled_by(self, peer: NodeId, address: str) -> None:
        """A peer proved itself by dialling us (`service.ServiceUser`)."""
        if address:
            self._finder.found(Found(address, peer))
        if (known := self._peers.get(peer)) is not None and not known.link.connected:
            known.link.retired = False
            known.link.hurry()

    def witness(self, node: NodeId) -> tuple[bool, bool, int]:
        """Does this node hear `node`? (`service.ServiceUser`)"""
        if node == self._me:
            return True, True, 0
        known = self._peers.get(node)
        if known is None:
            return False, False, 0
        now = self._clock.now_ms()
        return True, known.core.pulse.hears(now), min(known.core.pulse.silence_ms(now), 0xFFFF_FFFF)

    async def _ticking(self) -> None:
        planned, count, noted = self._clock.now_ms(), 0, self._clock.now_ms()
        while True:
            planned += TICK_MS
            await asyncio.sleep(max(0, planned - self._clock.now_ms()) / 1000)
            now = self._clock.now_ms()
            self._lag_ms = max(0, now - planned)
            if self._lag_ms > TICK_MS:
                planned = now
            for node in tuple(self._peers):
                self._handle(node, Tick(self._lag_ms))
            if count % BEAT_TICKS == 0:
                self._service.beat(self._make_beat(hashed=count // BEAT_TICKS % HASH_BEATS == HASH_BEATS - 1))
            count += 1
            if now - noted >= HEARD_MS:
                noted = now
                self._note_heard()

    def _make_beat(self, *, hashed: bool) -> Beat:
        return self._log.beat(
            load=self._calls,
            lag_ms=self._lag_ms,
            draining=self._draining,
            wall_ms=self._clock.wall_ms(),
            hashed=hashed,
        )

    def _note_heard(self) -> None:
        now = self._clock.now_ms()
        self._saver.heard(node for node, peer in self._peers.items() if peer.core.pulse.hears(now))

    # ---- effects --------------------------------------------------------------------------------

    def _handle(self, node: NodeId, event: Event) -> None:
        self._carry_out(node, self._peers[node].core.handle(event, self._clock.now_ms()))

    def _carry_out(self, node: NodeId, effects: Effects) -> None:
        peer = self._peers[node]
        for effect in effects:
            match effect:
                case Send(frame):
                    peer.link.send(frame)
                case Changed(puts, deletes):
                    self._listener.changed(node, puts, deletes)
                case Save():
                    self._saver.save(node, effect)
                case Forget():
                    self._saver.forget(node)
                case Close(cause):
                    peer.last_error = cause
                    peer.link.drop()
                case Probe():
                    peer.link.drop()
                    peer.link.hurry()
                case AskWitnesses(most):
                    self._spawn(self._ask_witnesses(node, most), f"who hears {node}")
                case Became(state, cause):
                    peer.link.retired = state is Liveness.LEFT
                    if state is Liveness.ALIVE:
                        peer.last_error = ""
                    log.info("%s is %s%s", node, state, f": {cause}" if cause else "")
                    self._tell(node)
                case Listed():
                    self._tell(node)
                case Alarm(name, message):
                    # A refused peer is dialled again and again: one line until something else happens.
                    if peer.last_error != message:
                        log.error("%s: %s", name, message)
                    peer.last_error = message

    def _tell(self, node: NodeId) -> None:
        core = self._peers[node].core
        self._listener.liveness(node, core.pulse.state, listed=core.view.listed)

    async def _ask_witnesses(self, node: NodeId, most: int) -> None:
        now = self._clock.now_ms()
        others = [n for n, p in self._peers.items() if n != node and p.core.pulse.hears(now)]
        chosen = secrets.SystemRandom().sample(others, min(most, len(others)))
        replies = await asyncio.gather(*(self._line(self._peers[w]).hears(node) for w in chosen))
        asked = tuple(w.name for w, reply in zip(chosen, replies, strict=True) if reply is not None)
        hearing = tuple(w.name for w, reply in zip(chosen, replies, strict=True) if reply)
        self._handle(node, Witnessed(asked, hearing))
