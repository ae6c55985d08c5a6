"""How a node stops without a failed call: others are chosen, what runs ends, then nothing more is taken.

draining    peers choose other owners, `/readyz` answers 503; whoever still comes is served
refusing    only when it is about to stop: new calls are refused before they run, so that an entry node takes them
            elsewhere, and what runs can end

A node that drains takes work again with `end`; one that refuses stops.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from node.gateway import Gateway

log = logging.getLogger("toolmesh.node")

QUIET_S = 0.5
"""After peers were told: what they sent before they heard of it has come by then, whatever the region."""

SERVING_SHARE = 0.75
"""Of the time that a stopping node gives its calls: in the rest nothing new is taken."""


class DrainState(NamedTuple):
    """`for_peers` of the calls `in_flight` came from other nodes, the rest from agents here; legacy `sessions` last
    until the node stops. `done`: nothing runs, and nothing came for `QUIET_S` since peers were told.
    """

    draining: bool
    in_flight: int
    for_peers: int
    sessions: int
    done: bool


class Draining:
    """`tell_peers(draining)` is heard by all that listen; `sessions()` counts the legacy sessions of agents."""

    def __init__(self, gateway: Gateway, tell_peers: Callable[[bool], None], sessions: Callable[[], int]) -> None:
        self._gateway = gateway
        self._tell_peers = tell_peers
        self._sessions = sessions
        self._done = False

    def __repr__(self) -> str:
        return f"Draining({self.state()})"

    def state(self) -> DrainState:
        gateway = self._gateway
        done = self._done and not gateway.in_flight
        return DrainState(gateway.draining, gateway.in_flight, gateway.for_peers, self._sessions(), done)

    def begin(self) -> None:
        if not self._gateway.draining:
            self._gateway.draining = True
            self._tell_peers(True)

    def end(self) -> None:
        """Take work again. Peers hear of it with the next beat, at once."""
        self._done = False
        self._gateway.draining = False
        self._tell_peers(False)

    async def wait(self, within_s: float) -> bool:
        """Until nothing runs and nothing has come for a moment; False if that took longer than `within_s`."""
        gateway = self._gateway
        try:
            async with asyncio.timeout(within_s):
                while not self._done:
                    await gateway.drained()
                    before = gateway.calls_total
                    await asyncio.sleep(QUIET_S)
                    self._done = gateway.draining and not gateway.in_flight and gateway.calls_total == before
                await gateway.drained()
        except TimeoutError:
            return False
        return True

    async def finish(self, within_s: float) -> None:
        """Begin, and wait; towards the end of `within_s` refuse what is new, and then cut what still runs."""
        gateway = self._gateway
        self.begin()
        if gateway.in_flight:
            log.info("node %s waits for %d running calls", gateway.me, gateway.in_flight)
        if not await self.wait(within_s * SERVING_SHARE):
            gateway.refusing = True
            try:
                async with asyncio.timeout(within_s * (1 - SERVING_SHARE)):
                    await gateway.drained()
            except TimeoutError:
                log.warning("%d calls have not ended within %g s and are cut", gateway.in_flight, within_s)
        gateway.refusing = True
