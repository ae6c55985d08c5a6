"""From an address to a node: hints of discovery, each proved by TLS before anything is made of it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from federation.clock import Clock, SystemClock
from federation.events import Liveness
from federation.ports import Discovery, Found
from federation.refusals import Reason, Refusals, reason_of, side_of
from federation.status import PeerStatus
from federation.tls import MeshTls, learn_identity
from proto.errors import Forbidden, Invalid, MeshError, Unavailable
from proto.names import NodeId

log = logging.getLogger("toolmesh.federation.finding")

ADDRESSES_MAX = 2_048
"""Addresses that are looked into, twice the longest static list; further hints are dropped until they come again."""

ASKED_MAX = 128
"""Of them so many are asked at a time who they are; each has its turn, however many others are dead."""

RETRY_MIN_S = 0.5
RETRY_MAX_S = 10.0
REFUSED_S = 30.0
DISCOVERY_RETRY_S = 10.0
UNNAMED_MS = 600_000
"""An address that no discovery has named for so long is no longer looked into, nor shown."""


@dataclass(slots=True)
class _Trial:
    task: asyncio.Task[None] | None = None
    error: str = ""
    since_ms: int = 0
    """When it was first refused."""
    found_ms: int = 0


def unfit(me: NodeId, node: NodeId) -> Forbidden | None:
    """Why another node cannot be a peer of this one, whatever it proves; None if it can."""
    if node.trust_domain != me.trust_domain:
        return Forbidden(f"{node.uri} is of another trust domain than {me.trust_domain}", reason=Reason.TRUST_DOMAIN)
    if node.name == me.name:
        return Forbidden(
            f"{node.uri} bears the name of this node, {me.uri}: names are unique in a mesh; issue one of them anew",
            reason=Reason.NAME,
        )
    return None


async def announce(discovery: Discovery, me: NodeId, address: str, mesh: str) -> None:
    """Let others find this node; where that fails, the log says why."""
    try:
        await discovery.announce(me, address, mesh)
    except MeshError as e:
        log.warning("%r cannot announce this node: %s", discovery, e.message)


async def withdraw(discovery: Discovery) -> None:
    """Be found no longer. Nothing that a discovery raises, a library's own errors included, ends the stop of a node."""
    try:
        await discovery.withdraw()
    except MeshError as e:
        log.warning("%r cannot withdraw this node: %s", discovery, e.message)
    except Exception:
        log.exception("%r cannot withdraw this node", discovery)


class Finder:
    """Runs the discoveries; calls `reached(node, address)` for each address whose node is known.

    An address that claims an id is believed for dialling, since the dial proves it; one that claims none is asked.
    """

    def __init__(
        self,
        me: NodeId,
        tls: MeshTls,
        reached: Callable[[NodeId, str], None],
        clock: Clock | None = None,
        refusals: Refusals | None = None,
        met_at: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`met_at`: whether a peer was found at an address before; such a one is not asked who it is."""
        self._met_at = met_at
        self._clock: Clock = clock or SystemClock()
        self._refusals = refusals or Refusals(self._clock)
        self._me = me
        self._tls = tls
        self._reached = reached
        self._trials: dict[str, _Trial] = {}
        self._own: set[str] = set()
        self._turns = asyncio.Semaphore(ASKED_MAX)

    def own_address(self, address: str) -> None:
        """This node itself: never dialled."""
        self._own.add(address)

    def claims_ours(self, address: str, says: NodeId) -> bool:
        """Whether a peer gives the address of this node as its own; that is noted as a refusal."""
        if address not in self._own:
            return False
        message = f"it gives {address} as its own, as this node does: mend federation.advertise where it is wrong"
        self._refusals.note("here", says.uri, Reason.IDENTITY, message)
        return True

    def others_address(self, address: str, node: NodeId) -> None:
        """What was taken for this node's own has proved to be where `node` answers."""
        self._own.discard(address)
        self._settle(address, node)

    async def run(self, discovery: Discovery) -> None:
        """Until cancelled; a discovery that fails is started again."""
        while True:
            try:
                await discovery.run(self.found)
                return
            except MeshError as e:
                log.warning("%r failed, again in %g s: %s", discovery, DISCOVERY_RETRY_S, e.message)
            except Exception:
                log.exception("%r failed, again in %g s", discovery, DISCOVERY_RETRY_S)
            await asyncio.sleep(DISCOVERY_RETRY_S)

    def found(self, found: Found) -> None:
        address, claimed = found.address, found.claimed
        if not address or address in self._own or claimed == self._me:
            return
        if len(self._trials) >= ADDRESSES_MAX:
            self._forget_unnamed(self._clock.now_ms())
        if claimed is not None:
            if why := unfit(self._me, claimed):
                self._refuse(address, why)
            else:
                self._reached(claimed, address)
        elif address in self._trials:
            self._trials[address].found_ms = self._clock.now_ms()
        elif not self._met_at(address) and len(self._trials) < ADDRESSES_MAX:
            trial = self._trials[address] = _Trial(found_ms=self._clock.now_ms())
            trial.task = asyncio.create_task(self._prove(address, trial), name=f"who is {address}")

    def _refuse(self, address: str, error: MeshError) -> None:
        why = error.message
        if not isinstance(error, Unavailable):  # nobody there is no refusal
            self._refusals.note(side_of(error), address, reason_of(error), why)
        if address in self._trials or len(self._trials) < ADDRESSES_MAX:
            trial = self._trials.setdefault(address, _Trial())
            trial.found_ms = trial.found_ms if trial.task else self._clock.now_ms()
            if not trial.error:
                trial.since_ms = self._clock.now_ms()
            if trial.error != why:
                log.warning("no peer at %s: %s", address, why)
            trial.error = why

    async def _prove(self, address: str, trial: _Trial) -> None:
        pause_s = RETRY_MIN_S
        while True:
            try:
                async with self._turns:
                    node = await learn_identity(address, self._tls)
            except Unavailable as e:
                self._refuse(address, e)
                pause_s = min(RETRY_MAX_S, pause_s * 2)
            except Invalid as e:
                self._refuse(address, e)
                return
            except MeshError as e:
                self._refuse(address, e)
                pause_s = REFUSED_S
            else:
                if self._settle(address, node):
                    return
                pause_s = REFUSED_S
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 jitter, not a secret

    def _settle(self, address: str, node: NodeId) -> bool:
        if node == self._me:
            log.info("%s proves to be this node itself; it is not dialled", address)
            self._own.add(address)
        elif why := unfit(self._me, node):
            self._refuse(address, why)
            return False
        else:
            self._reached(node, address)
        self._trials.pop(address, None)
        return True

    def unproved(self) -> Sequence[PeerStatus]:
        """Addresses of which no node could be made, why, and since when."""
        now = self._clock.now_ms()
        self._forget_unnamed(now)
        return [
            PeerStatus(
                None,
                address,
                Liveness.UNREACHABLE,
                cause=trial.error,
                since_ms=now - trial.since_ms,
                last_error=trial.error,
            )
            for address, trial in self._trials.items()
            if trial.error
        ]

    def _forget_unnamed(self, now_ms: int) -> None:
        for address, trial in list(self._trials.items()):
            if now_ms - trial.found_ms >= UNNAMED_MS:
                del self._trials[address]
                if trial.task is not None:
                    trial.task.cancel()

    async def close(self) -> None:
        tasks = [t.task for t in self._trials.values() if t.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
