"""The peers of this process: who is one, who may not be, and who takes the place of whom."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Set
from typing import Protocol

from federation.clock import Clock
from federation.events import Liveness
from federation.known import Known
from federation.line import Line
from federation.link import Link, LinkUser
from federation.peer import Peer
from federation.refusals import Reason, Refusals, reason_of
from federation.tasks import Tasks
from federation.tls import MeshTls, learn_identity
from federation.traffic import Traffic
from proto.errors import Exhausted, Forbidden, MeshError, Unavailable
from proto.names import NodeId
from proto.records import NOTHING_KNOWN

log = logging.getLogger("toolmesh.federation.roster")

PEERS_MAX = 256
"""Beyond it a peer that is gone and of which nothing is held makes room; where there is none, a new one is refused."""

SPREAD_S = 0.02
SPREAD_MAX_S = 1.0
"""First dials are spread over so long for each peer that is known: a mesh that boots as one dials everybody at once."""

STRANGER_MS = 600_000
"""A peer that is gone, of which nothing is held, and that nothing has named for so long is a peer no longer."""

GONE = frozenset({Liveness.DOWN, Liveness.UNREACHABLE, Liveness.LEFT})


class RosterUser(LinkUser, Protocol):
    """Whom the roster, and the links it makes, tell what happens. All on the loop."""

    def calls_failed(self, peer: NodeId, cause: str) -> None:
        """A Forward stream to it could not be opened, or broke."""

    def forgotten(self, known: Known) -> None:
        """It is a peer no longer; what is held of it goes."""


class Roster:
    """Peers by id; no two bear one name. `make` gives a new peer its core."""

    def __init__(
        self,
        me: NodeId,
        tls: MeshTls,
        make: Callable[[NodeId], Peer],
        user: RosterUser,
        tasks: Tasks,
        refusals: Refusals,
        clock: Clock,
    ) -> None:
        self.advertise = ""
        self._me = me
        self._tls = tls
        self._make = make
        self._user = user
        self._tasks = tasks
        self._refusals = refusals
        self._clock = clock
        self._known: dict[NodeId, Known] = {}
        self._by_name: dict[str, Known] = {}
        self._rivals: dict[NodeId, tuple[NodeId, str]] = {}
        self._proving: set[NodeId] = set()
        self._dialling = False

    def __repr__(self) -> str:
        alive = sum(k.core.pulse.state is Liveness.ALIVE for k in self)
        return f"Roster({alive} of {len(self)} peers alive)"

    def __iter__(self) -> Iterator[Known]:
        """A snapshot: peers may come and go meanwhile."""
        return iter(tuple(self._known.values()))

    def __len__(self) -> int:
        return len(self._known)

    def get(self, node: NodeId) -> Known | None:
        return self._known.get(node)

    def named(self, name: str) -> Known | None:
        return self._by_name.get(name)

    def traffic(self, node: NodeId) -> Traffic | None:
        return known.traffic if (known := self._known.get(node)) is not None else None

    def add(self, core: Peer) -> Known:
        node, traffic = core.view.owner, Traffic(self._clock.now_ms())
        link = Link(node, self._tls, self.advertise, self._user, traffic=traffic, refusals=self._refusals)
        known = self._known[node] = Known(core, link, traffic, found_ms=self._clock.now_ms())
        self._index()
        return known

    def _index(self) -> None:
        """Every forwarded call asks for a name. Of two on an old disk that bear one, the first has it."""
        self._by_name = {k.node.name: k for k in reversed(self._known.values())}

    # ---- dialling -------------------------------------------------------------------------------

    def dial_all(self) -> None:
        """From now on peers are dialled: those that are known, and whoever is reached later."""
        self._dialling = True
        for known in self:
            self._dial(known)

    def _dial(self, known: Known) -> None:
        if self._dialling and known.dialling is None:
            after_s = random.uniform(0, min(SPREAD_MAX_S, SPREAD_S * len(self)))  # noqa: S311 jitter, not a secret
            known.dialling = self._tasks.spawn(known.link.run(after_s), f"dial {known.node}")

    def reached(self, node: NodeId, address: str, *, proved: bool = False) -> None:
        """`node` may answer at `address`: a hint of discovery, or (`proved`) TLS has shown that it exists.

        One that has proved itself and may not be a peer is told so: raises `Forbidden` or `Exhausted`. A hint is only
        noted.
        """
        known = self._known.get(node) or self._admit(node, address, proved=proved)
        if known is None:
            return
        known.found_ms = self._clock.now_ms()
        if address and known.link.add_address(address):
            log.info("%s may answer at %s", node, address)
        self._dial(known)

    def reachable(self, name: str) -> Line:
        """To the node of this name. Raises `Unavailable` with the reason unless it is alive."""
        known = self.named(name)
        if known is None:
            raise Unavailable(f"node {name!r} is not known in this mesh", node=name)
        pulse = known.core.pulse
        if pulse.state not in (Liveness.ALIVE, Liveness.DRAINING):
            raise Unavailable(f"node {name!r} is {pulse.state}: {pulse.cause}", node=name)
        return self.line(known)

    def line(self, known: Known) -> Line:
        """For calls and questions. Where the address changes, calls that run go on where they are."""
        line, node, address = known.line, known.node, known.link.address
        if line is None:
            line = known.line = Line(
                node,
                address,
                self._tls,
                self._me.name,
                trouble=lambda cause: self._user.calls_failed(node, cause),
                traffic=known.traffic,
            )
        line.address = address
        return line

    async def close(self) -> None:
        """Hang up every line. The dialling ends with the tasks."""
        self._dialling = False
        await asyncio.gather(*(known.line.close() for known in self if known.line is not None))

    # ---- who may be one -------------------------------------------------------------------------

    def _admit(self, node: NodeId, address: str, *, proved: bool) -> Known | None:
        twin = self.named(node.name)
        if twin is not None:
            if not self._succeeds(node, address, twin, proved=proved):
                return None
            self._forget(twin, f"{node.uri} bears its name now")
        if len(self._known) >= PEERS_MAX and not self._make_room():
            full = Exhausted(f"a node has at most {PEERS_MAX} peers, and all are in use", reason=Reason.FULL)
            self._refuse(node, address, full, proved=proved)
            return None
        return self.add(self._make(node))

    def _succeeds(self, node: NodeId, address: str, twin: Known, *, proved: bool) -> bool:
        """A node issued anew in another region takes the place of its old id once that is gone, never of a live one."""
        pulse = twin.core.pulse
        self._rivals[twin.node] = (node, address)
        if pulse.state not in GONE:
            message = (
                f"it bears the name of {twin.node.uri}, which is {pulse.state}: names are unique in a mesh; "
                "stop that one, or issue one of them another name"
            )
            self._refuse(node, address, Forbidden(message, reason=Reason.NAME), proved=proved)
            return False
        if not proved:
            # A hint must not cost a peer its place.
            self._prove(twin.node)
        return proved

    def became(self, node: NodeId, state: Liveness) -> None:
        """A peer's state has changed: one that waits for its place may have it."""
        if state in GONE and node in self._rivals:
            self._prove(node)

    def _prove(self, incumbent: NodeId) -> None:
        if self._dialling and incumbent not in self._proving:
            self._proving.add(incumbent)
            rival, address = self._rivals[incumbent]
            self._tasks.spawn(self._call_on(incumbent, rival, address), f"is {rival} at {address}")

    async def _call_on(self, incumbent: NodeId, rival: NodeId, address: str) -> None:
        try:
            if await learn_identity(address, self._tls) == rival:
                self.reached(rival, address, proved=True)
        except MeshError as e:
            log.info("%s does not become a peer at %s: %s", rival.uri, address, e.message)
        finally:
            self._proving.discard(incumbent)

    def forget_strangers(self, present: Set[NodeId]) -> None:
        """Called now and then. Who was only claimed to exist and never met, and who has been away until its view was
        deleted, would else be told as down for good. `present`: those that subscribe here. Who is found again returns.
        """
        now = self._clock.now_ms()
        for known in self:
            core = known.core
            gone = core.pulse.state in GONE and core.view.version == NOTHING_KNOWN and known.node not in present
            idle_ms = now - max(known.found_ms, core.pulse.since_ms)
            if gone and idle_ms >= STRANGER_MS and not known.link.refused:
                self._forget(known, "nothing is held of it, and nothing has named it for ten minutes")

    def met_at(self, address: str) -> bool:
        """Whether a peer was found there, not merely said to be."""
        return any(known.link.met_at(address) for known in self)

    def _make_room(self) -> bool:
        idle = [k for k in self if k.core.pulse.state in GONE and not k.core.view.size]
        if not idle:
            return False
        self._forget(min(idle, key=lambda k: k.core.pulse.since_ms), "its place is needed")
        return True

    def _forget(self, known: Known, why: str) -> None:
        log.warning("%s (%s) is a peer no longer: %s", known.node.uri, known.core.pulse.state, why)
        del self._known[known.node]
        self._index()
        self._rivals.pop(known.node, None)
        known.link.drop()
        if known.dialling is not None:
            known.dialling.cancel()
        if known.line is not None:
            self._tasks.spawn(known.line.close(), f"hang up on {known.line!r}")
        self._user.forgotten(known)

    def _refuse(self, node: NodeId, address: str, error: MeshError, *, proved: bool) -> None:
        if proved:
            raise error  # whoever ends its stream with it notes it, on both sides
        if self._refusals.note("here", node.uri, reason_of(error), error.message):
            log.warning("%s at %s is refused: %s", node.uri, address or "an unknown address", error.message)
