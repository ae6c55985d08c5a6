"""What ends or goes wrong with a node's own standing in the mesh while it runs: looked at once a minute."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from federation.clock import Clock
from federation.events import Alarm
from federation.status import PeerStatus
from federation.tls import MeshTls, learn_identity
from proto.errors import MeshError
from proto.names import NodeId

log = logging.getLogger("toolmesh.federation")

EVERY_S = 60.0

SOON = timedelta(days=30)

_MEND = "'toolmesh ca issue' makes a new one, then restart"


def forewarned(ends: datetime, now: datetime) -> str:
    """What is said at a start of the own certificate; empty while it holds for longer than `SOON`."""
    if ends - now >= SOON:
        return ""
    return f"the certificate of this node ends at {ends:%Y-%m-%d %H:%M} UTC, and no peer accepts it then: {_MEND}"


def ended(ends: datetime, now: datetime) -> Alarm | None:
    """The alarm that the own certificate has ended."""
    if ends > now:
        return None
    return Alarm(
        "certificate",
        f"the certificate of this node ended at {ends:%Y-%m-%d %H:%M} UTC: streams that are open live on, but no peer "
        f"accepts a new one, so this node drops out with its next broken connection: {_MEND}",
    )


class Upkeep:
    """`alarm(me, what)` is for the operator of this node."""

    def __init__(
        self,
        me: NodeId,
        tls: MeshTls,
        clock: Clock,
        alarm: Callable[[NodeId, Alarm], None],
        peers: Callable[[], Sequence[PeerStatus]],
        elsewhere: Callable[[str, NodeId], None],
    ) -> None:
        """`elsewhere(address, node)`: what this node advertises is where another one answers."""
        self._me = me
        self._tls = tls
        self._clock = clock
        self._alarm = alarm
        self._peers = peers
        self._elsewhere = elsewhere
        self._ends = tls.expires_at
        self._told: set[tuple[NodeId, datetime]] = set()
        self._proved = False

    def __repr__(self) -> str:
        return f"Upkeep(of {self._me.name}, whose certificate ends {self._ends:%Y-%m-%d})"

    async def run(self, advertised: str, listens_there: bool) -> None:
        """Until cancelled. Where this node listens at what it advertises, there is nothing to prove."""
        self._proved = listens_there
        if why := forewarned(self._ends, self._now()):
            log.warning("%s", why)
        while True:
            self.look_at_certificates(self._now())
            if not self._proved:
                await self.prove(advertised)
            await asyncio.sleep(EVERY_S)

    def look_at_certificates(self, now: datetime) -> None:
        """An alarm when the own one has ended, a line for each of a peer. A new one of the same peer is news again."""
        if (alarm := ended(self._ends, now)) is not None:
            self._alarm(self._me, alarm)
        over = {(p.node, p.certificate_expires) for p in self._peers() if p.node and p.certificate_expires}
        over = {(node, ends) for node, ends in over if ends <= now}
        for node, ends in sorted(over - self._told):
            log.warning("the certificate of %s ended at %s UTC: it can open no new stream", node, f"{ends:%F %H:%M}")
        self._told = over

    async def prove(self, advertised: str) -> None:
        """Whose address this node gives as its own. Where nobody can be asked, nothing is known: not every network lets
        a machine dial itself by the name that others use.
        """
        try:
            node = await learn_identity(advertised, self._tls)
        except MeshError as e:
            log.debug("whether %s leads to this node is not known: %s", advertised, e.message)
            return
        self._proved = node == self._me
        if not self._proved:
            self._alarm(
                self._me,
                Alarm(
                    "advertise",
                    f"federation.advertise is {advertised}, where {node.name} answers: no peer can dial this node "
                    "there. Give the HOST:PORT at which others reach this node, then restart",
                ),
            )
            self._elsewhere(advertised, node)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall_ms() / 1000, UTC)
