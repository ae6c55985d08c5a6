"""Who in the mesh may lay down rules, and who has them: a `node.governance.desk.Mesh` over the federation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from federation.events import Liveness
from node.governance.desk import Arrived

if TYPE_CHECKING:
    from federation.status import PeerStatus

LOOK_S = 0.01
_THERE = frozenset({Liveness.ALIVE, Liveness.DRAINING})


class Reach:
    """`peers` gives the federation's peers as of now; a node that runs alone has none."""

    def __init__(self, peers: Callable[[], Sequence[PeerStatus]]) -> None:
        self._peers = peers

    def authorities(self) -> Sequence[tuple[str, bool]]:
        return sorted((p.node.name, p.state in _THERE) for p in self._peers() if p.node and "authority" in p.roles)

    async def arrived(self, within_s: float) -> Arrived:
        """Looks every `LOOK_S`, since acknowledgements wake nobody."""
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        while True:
            peers = [p for p in self._peers() if p.node is not None and p.state is not Liveness.LEFT]
            there = [p for p in peers if p.subscribed and p.lacks == 0]
            waiting = [p for p in peers if p.subscribed and p.lacks != 0]
            if not waiting or loop.time() >= until:
                away = [p for p in peers if not p.subscribed]
                return Arrived(*(tuple(p.node.name for p in part if p.node) for part in (there, waiting, away)))
            await asyncio.sleep(LOOK_S)
