"""How a node goes for good: nothing runs there any more, every peer is told, and its process ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from federation.events import Liveness
from node.draining import Draining
from node.gateway import Gateway
from proto.errors import Conflict
from proto.frames import Farewell

if TYPE_CHECKING:
    from federation.driver import Federation

log = logging.getLogger("toolmesh.node")


class LeaveState(NamedTuple):
    """`left`: peers have been told and the process ends; else `in_flight` calls run still, `for_peers` of them from
    other nodes, and the node goes on draining. By name, `told` are the peers that took the goodbye; `untold` could not
    be told, and will hold this node for down.
    """

    left: bool
    in_flight: int
    for_peers: int
    sessions: int
    told: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()


class Leaving:
    """`end` is called once all is said: the process is to stop."""

    def __init__(
        self, gateway: Gateway, draining: Draining, federation: Federation | None, end: Callable[[], None]
    ) -> None:
        self._gateway = gateway
        self._draining = draining
        self._federation = federation
        self._end = end
        self._going: asyncio.Task[LeaveState] | None = None

    def __repr__(self) -> str:
        return "Leaving(under way)" if self.begun else "Leaving(not begun)"

    @property
    def begun(self) -> bool:
        """There is no way back."""
        return self._going is not None

    async def leave(self, within_s: float, *, cut: bool) -> LeaveState:
        """Drain, `within_s` seconds at most, then go; with calls that still run only if they may be `cut`.

        Whoever asks while the node goes gets the same answer; one who stops waiting stops nothing. Raises `Conflict` if
        there is no mesh to leave.
        """
        federation = self._federation
        if federation is None:
            raise Conflict("this node runs alone: there is no mesh to leave; stop it with SIGTERM or Ctrl-C")
        if self._going is None:
            self._draining.begin()
            if not await self._draining.wait(within_s) and not cut:
                state = self._draining.state()
                return LeaveState(False, state.in_flight, state.for_peers, state.sessions)
        if self._going is None:
            self._going = asyncio.create_task(self._go(federation), name="leaving")
        return await asyncio.shield(self._going)

    async def settled(self) -> None:
        """Until a goodbye that has begun is over."""
        if self._going is not None:
            await asyncio.wait({self._going})

    async def _go(self, federation: Federation) -> LeaveState:
        log.info("node %s leaves the mesh for good", self._gateway.me)
        state = self._draining.state()
        self._gateway.refusing = True
        peers = {p.node.name for p in federation.peers() if p.node is not None and p.state is not Liveness.LEFT}
        try:
            await federation.stop(Farewell.LEAVE)
        finally:
            self._end()
        told = {node.name for node in federation.parted}
        log.info("%d of %d peers were told", len(told), len(peers | told))
        return LeaveState(
            True, state.in_flight, state.for_peers, state.sessions, tuple(sorted(told)), tuple(sorted(peers - told))
        )
