"""The one loop of the federation: events into the pure cores, their effects carried out, and the facade of it all."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from functools import partial

import grpc

from federation import witnesses
from federation.alarms import Alarms, Raised
from federation.answering import ForwardServer
from federation.clock import Clock, SystemClock
from federation.credentials import Credentials
from federation.events import (
    Alarm,
    AskWitnesses,
    Became,
    Broken,
    CallsFailed,
    Changed,
    Close,
    Effects,
    Event,
    Expel,
    Forget,
    Governs,
    Listed,
    Liveness,
    Opened,
    Probe,
    Received,
    Save,
    SaveEpoch,
    Send,
    Spoke,
    Tick,
)
from federation.finding import Finder, announce, withdraw
from federation.known import Known
from federation.lending import Lender, Loan
from federation.listening import bind
from federation.log import Log, Subscriber
from federation.peer import Peer
from federation.ports import Answerer, Discovery, Governor, Ungoverned, ViewListener, ViewStore
from federation.publishing import publish
from federation.refusals import Reason, Refusals, reason_of_alarm
from federation.restoring import Restoration
from federation.roster import Roster
from federation.saving import Saver
from federation.service import MeshService
from federation.status import PeerStatus
from federation.tasks import Tasks
from federation.telling import Teller
from federation.ticking import Ticker
from federation.tls import MeshTls
from federation.upkeep import Upkeep
from federation.view import View
from federation.vouching import DirectOnly
from proto.calls import Answer, Call, Exchange, Target
from proto.errors import Conflict, Invalid, MeshError
from proto.frames import Down, Farewell, Hello, Reject
from proto.names import NodeId
from proto.records import Record, RecordKey

__all__ = ["Clock", "Federation", "PeerStatus", "SystemClock"]

log = logging.getLogger("toolmesh.federation")

FAREWELL_S = 3.0

ASK_LAG_MS = 1_000
"""A node that comes to its ticks later than this asks no witnesses; the verdict is reviewed in two seconds."""

RESTORE_S = 1.0
"""A start waits so long for views from disk; the rest of large ones is put back while the node is at work already."""


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
        lender: Lender | None = None,
        clock: Clock | None = None,
        governor: Governor | None = None,
    ) -> None:
        self._me = me
        self._mesh = mesh
        self._listen = listen
        self._advertise = advertise
        self._tls = tls
        self._discoveries = tuple(discoveries)
        self._store = store
        self._listener = Teller(listener)
        self._governor: Governor = governor or Ungoverned()
        self._answer = answer
        self._software = software
        self._clock: Clock = clock or SystemClock()
        self._tasks = Tasks()
        self._alarms = Alarms(self._clock)
        self.refusals = Refusals(self._clock)
        self._calls = self._port = 0
        self._ticker = Ticker(self._clock, self)
        self._draining = self._started = self._stopped = False
        self.parted: frozenset[NodeId] = frozenset()
        """Peers that have taken the goodbye."""
        self._log = Log(me, mesh, 0, secrets.token_bytes(16), software=software)
        self._roster = Roster(me, tls, self._make_peer, self, self._tasks, self.refusals, self._clock)
        traffic = self._roster.traffic
        self._forward = ForwardServer(
            self._run_call, traffic=traffic, refusals=self.refusals, vouching=DirectOnly(me.trust_domain)
        )
        self._service = MeshService(
            me, self._log, self._forward, self, lender, refusals=self.refusals, traffic=traffic, chain=tls.cert_pem
        )
        self._server: grpc.aio.Server | None = None
        self._saver = Saver(store, self._clock.wall_ms)
        restored = partial(View.restored, mesh=mesh, software=software, speaker=self._log.instance)
        self._restoration = Restoration(store, self._clock, restored, self._put_back, me)
        self._finder = Finder(me, tls, self._roster.reached, self._clock, self.refusals, self._roster.met_at)

    def __repr__(self) -> str:
        return f"Federation({self._log!r}, {self._roster!r})"

    # ---- facade ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, restore views (the listener is told), begin to dial. Waits for no peer, nor long for large views.

        Raises `Unavailable` if the port or the store is taken, `Invalid` if the certificate is another node's.
        """
        if self._tls.identity() != self._me:
            raise Invalid(f"the certificate names {self._tls.identity().uri}, not {self._me.uri}; issue one for it")
        self._store.open()
        self._log.epoch = self._store.begin_epoch(self._clock.wall_ms(), self._log.instance)
        server, self._port, self._roster.advertise = bind(self._listen, self._advertise, self._tls, self._service)
        await server.start()
        self._server = server
        self._started = True
        self._finder.own_address(self._roster.advertise)
        self._tasks.spawn(self._ticker.run(), "tick")
        upkeep = Upkeep(self._me, self._tls, self._clock, self._alarm, self.peers, self._finder.others_address)
        self._tasks.spawn(upkeep.run(self._roster.advertise, self._advertise in ("", self._listen)), "upkeep")
        restored = self._tasks.spawn(self._remember(), "restore views")
        await asyncio.wait({restored}, timeout=RESTORE_S)
        if self._restoration.problem is not None:
            raise self._restoration.problem

    async def _remember(self) -> None:
        """Views first: nobody is dialled, and nobody made a peer, whose saved view is still on its way."""
        early = await self._restoration.run()
        if (problem := self._restoration.problem) is not None:
            log.error("views cannot be read, so none are saved; the node runs on without: %s", problem.message)
        else:
            self._tasks.spawn(self._saver.run(), "save views")
        self._roster.dial_all()
        for peer, address in early.items():
            try:
                self.dialled_by(peer, address)
            except MeshError as e:
                log.warning("%s at %s is no peer: %s", peer.uri, address, e.message)
        for discovery in self._discoveries:
            self._tasks.spawn(self._finder.run(discovery), f"discover by {discovery!r}")
            self._tasks.spawn(
                announce(discovery, self._me, self._roster.advertise, self._mesh), f"announce by {discovery!r}"
            )
        await self._listener.told()

    def publish(self, puts: Sequence[Record], deletes: Sequence[RecordKey]) -> None:
        """This node's own records; equal digests change nothing. A record that cannot be one is left out."""
        if publish(self._log, self.refusals, puts, deletes):
            self._service.wake()

    def set_loaded(self) -> None:
        """This node's own servers have been started once: peers may drop what they still hold from before."""
        self._log.set_loaded()
        self._service.wake()

    def set_draining(self, draining: bool) -> None:
        """Tell peers, with the next beat (at once), whether to send new work here."""
        self._draining = draining
        self.beat(hashed=False)

    def target(self, owner: str) -> Target:
        """Where calls for this node name go. Raises `Unavailable` with the reason unless it is alive."""
        return self._roster.reachable(owner).target

    async def borrow(self, owner: str, model: str, recipe: str, digests: Sequence[bytes], within_s: float) -> Loan:
        """Vectors that this node has, by digest. Raises as `target` and `borrowing.borrow` do."""
        return await self._roster.reachable(owner).borrow(model, recipe, digests, within_s)

    def peers(self) -> tuple[PeerStatus, ...]:
        """Peers by id, then addresses of which no node could be made. Costs nothing that grows with the records."""
        now = self._clock.now_ms()
        subscribers: dict[NodeId, list[Subscriber]] = {}
        shown: dict[NodeId, Credentials] = {}
        for session in self._service.sessions:
            subscribers.setdefault(session.sub.peer, []).append(session.sub)
            shown[session.sub.peer] = session.credentials
        known = sorted(self._roster, key=lambda k: k.node)
        statuses = (k.status(now, self._log.seq, subscribers.get(k.node, ()), shown.get(k.node)) for k in known)
        return (*statuses, *self._finder.unproved())

    @property
    def discoveries(self) -> tuple[tuple[str, str], ...]:
        """(its name, what is wrong with it; empty if nothing is), in the order in which they were given."""
        return tuple((type(d).__name__.removesuffix("Discovery").lower(), d.problem) for d in self._discoveries)

    @property
    def restored(self) -> bool:
        """Every view on disk is one of a peer again."""
        return self._restoration.done

    @property
    def alarms(self) -> tuple[Raised, ...]:
        """The latest, newest first."""
        return self._alarms.latest()

    @property
    def bound_port(self) -> int:
        """The port in use, 0 before `start`."""
        return self._port

    async def stop(self, farewell: Farewell = Farewell.RESTART) -> None:
        """Say goodbye, end every stream, save what waits. Safe after a failed `start`, and twice.

        Peers keep what they hold of a node that restarts, and delete it of one that leaves.
        """
        if self._stopped:
            return
        self._stopped = True
        for discovery in self._discoveries:
            await withdraw(discovery)
        # Peers are told before new calls are refused, and say goodbye to a node that runs nothing for them.
        self.set_draining(True)
        await self._forward.finish()
        self.parted = await self._service.farewell(farewell, FAREWELL_S)
        await self._forward.close()
        await self._tasks.close()
        await self._finder.close()
        await self._roster.close()
        if self._server is not None:
            await self._server.stop(grace=FAREWELL_S)
        if self._started and self._restoration.done and self._restoration.problem is None:
            self.note_heard()
            await self._saver.flush()
        self._store.close()

    # ---- starting -------------------------------------------------------------------------------

    def _put_back(self, view: View) -> None:
        self._roster.add(Peer(view, self._clock.now_ms()))
        self._listener.changed(view.owner, tuple(view.records.values()), ())
        self._tell(view.owner)

    def _make_peer(self, node: NodeId) -> Peer:
        view = View(node, self._mesh, software=self._software, speaker=self._log.instance)
        return Peer(view, self._clock.now_ms())

    async def _run_call(self, call: Call, exchange: Exchange, peer: NodeId) -> Answer:
        self._calls += 1
        try:
            return await self._answer(call, exchange, peer)
        finally:
            self._calls -= 1

    # ---- events: links, subscribers, time -------------------------------------------------------

    def link_opened(self, peer: NodeId, credentials: Credentials | None) -> None:
        authority = credentials is not None and credentials.authority
        address = known.link.address if (known := self._roster.get(peer)) is not None else ""
        self._governor.role(peer, authority=authority)
        self._handle(peer, Opened(authority, address))

    def link_received(self, peer: NodeId, frame: Down) -> None:
        if (known := self._roster.get(peer)) is not None:
            known.told(frame, self._clock.now_ms(), self._clock.wall_ms())
            self._handle(peer, Received(frame))
            known.measure_lag(self._clock.now_ms())

    def link_broken(self, peer: NodeId, cause: str) -> None:
        if (known := self._roster.get(peer)) is not None:
            if known.last_error != cause:
                log.info("no stream from %s: %s", peer, cause)
            known.last_error = cause
            self._handle(peer, Broken(cause))

    def calls_failed(self, peer: NodeId, cause: str) -> None:
        self._handle(peer, CallsFailed(cause))

    def forgotten(self, known: Known) -> None:
        """Another node takes its place (`roster.RosterUser`)."""
        self._saver.forget(known.node)
        self._listener.changed(known.node, (), tuple(known.core.view.records))
        self._listener.liveness(known.node, Liveness.LEFT, listed=False)

    def hello(self, sub: Subscriber, hello: Hello) -> None:
        """A subscriber's Hello (`service.ServiceUser`)."""
        known = self._roster.get(sub.peer)
        if known is not None and (why := known.core.bearers.refusal(hello.instance, self._clock.now_ms())):
            raise Conflict(why, reason=Reason.CLONE)
        before = self._log.epoch
        for effect in self._log.subscribe(sub, hello, self._clock.wall_ms()):
            match effect:
                case SaveEpoch(epoch):
                    try:
                        self._store.raise_epoch(epoch)
                    except MeshError:
                        self._log.lower(before)
                        raise
                case Alarm():
                    self._alarm(sub.peer, effect)
        self.spoke(sub)
        self._service.wake()

    def spoke(self, sub: Subscriber) -> None:
        """A subscriber has said something (`service.ServiceUser`)."""
        self._handle(sub.peer, Spoke(sub.instance, sub.address))

    def dialled_by(self, peer: NodeId, address: str) -> None:
        """A peer proved itself by dialling us (`service.ServiceUser`)."""
        if self._restoration.defers(peer, address):
            return
        if address and not self._finder.claims_ours(address, peer):
            self._roster.reached(peer, address, proved=True)
        if (known := self._roster.get(peer)) is not None:
            known.link.seen()

    def witness(self, node: NodeId) -> tuple[bool, bool, int]:
        """Does this node hear `node`? (`service.ServiceUser`)"""
        if node == self._me:
            return True, True, 0
        known = self._roster.get(node)
        if known is None:
            return False, False, 0
        now = self._clock.now_ms()
        return True, known.core.pulse.hears(now), min(known.core.pulse.silence_ms(now), 0xFFFF_FFFF)

    def tick(self, now_ms: int, lag_ms: int) -> None:
        """Time passes (`ticking.TickUser`)."""
        for known in self._roster:
            known.traffic.tick(now_ms)
            self._handle(known.node, Tick(lag_ms))
        self._governor.heard([k.node for k in self._roster if k.core.governs(now_ms)])

    def beat(self, *, hashed: bool) -> None:
        """Peers are told that this node lives, and how."""
        self._roster.forget_strangers({s.sub.peer for s in self._service.sessions})
        self._service.beat(
            self._log.beat(
                load=self._calls,
                lag_ms=self._ticker.lag_ms,
                draining=self._draining,
                wall_ms=self._clock.wall_ms(),
                hashed=hashed,
            )
        )

    def note_heard(self) -> None:
        """On disk, whom this node hears."""
        now = self._clock.now_ms()
        self._saver.heard(known.node for known in self._roster if known.core.pulse.hears(now))

    # ---- effects --------------------------------------------------------------------------------

    def _handle(self, node: NodeId, event: Event) -> None:
        if (known := self._roster.get(node)) is not None:
            with self._alarms.contain(node.uri):
                self._carry_out(known, known.core.handle(event, self._clock.now_ms()))

    def _carry_out(self, known: Known, effects: Effects) -> None:
        node, link = known.node, known.link
        for effect in effects:
            match effect:
                case Send(frame):
                    if isinstance(frame, Reject):
                        self.refusals.note("here", node.uri, Reason.RECORD, frame.reason)
                    link.send(frame)
                case Changed(puts, deletes):
                    self._listener.changed(node, puts, deletes)
                case Save():
                    self._saver.save(node, effect)
                case Governs(records, refused, whole):
                    self._governor.governs(node, records, refused, whole=whole)
                case Forget(left):
                    self._saver.forget(node)
                    if left:
                        self._governor.left(node)
                case Close(cause, refusal):
                    known.last_error = cause
                    if refusal:
                        link.refuse(reason_of_alarm(refusal), cause)
                    else:
                        link.drop()
                case Probe():
                    link.drop()
                    link.hurry()
                case AskWitnesses():
                    self._tasks.spawn(self._ask(node, effect), f"who hears {node}")
                case Became(state, cause):
                    self._became(known, state, cause)
                case Expel(instance, why):
                    self._service.expel(node, instance, Conflict(why, reason=Reason.CLONE))
                case Listed():
                    self._tell(node)
                case Alarm():
                    self._alarm(node, effect)
                    known.last_error = effect.message

    def _became(self, known: Known, state: Liveness, cause: str) -> None:
        log.info("%s is %s%s", known.node, state, f": {cause}" if cause else "")
        known.became(state, cause, self._clock.wall_ms())
        known.link.retired = state is Liveness.LEFT
        if state is Liveness.ALIVE:
            known.last_error = ""
        if known.line is not None:
            known.line.target.owner_is(state, cause)
        self._tell(known.node)
        self._roster.became(known.node, state)

    def _tell(self, node: NodeId) -> None:
        if (known := self._roster.get(node)) is not None:
            self._listener.liveness(node, known.core.pulse.state, listed=known.core.view.listed)

    def _alarm(self, about: NodeId, alarm: Alarm) -> None:
        if self._alarms.note(about.uri, alarm.name, alarm.message):
            log.error("%s: %s", alarm.name, alarm.message)

    async def _ask(self, about: NodeId, question: AskWitnesses) -> None:
        # Who is late itself has no time for questions, and no right to judge.
        others = tuple(self._roster) if self._ticker.lag_ms <= ASK_LAG_MS else ()
        self._handle(about, await witnesses.ask(about, question, others, self._roster.line, self._clock.now_ms))
