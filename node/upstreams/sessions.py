"""The sessions with a server beside its main one: opened when a client needs one of its own, ended when unused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from node.credentials.ports import ConsentNeeded
from node.upstreams.connection import Connection
from node.upstreams.era import Transport
from node.upstreams.pool import Key, Pool, Slot
from node.upstreams.spec import UpstreamSpec
from node.upstreams.wire import logger
from proto.calls import Exchange
from proto.errors import Exhausted, MeshError, Unavailable
from proto.records import Principal

KEYS_MAX = 1000
"""Sessions at a `url`, of so many principals and capabilities, one each: they cost this node no process."""
PULSE_TIMEOUT_S = 5.0
MISSES_MAX = 2
"""Pings in a row without an answer, after which a session at a `url` that somebody listens in is opened anew."""
SWEEP_LATE_S = 0.01
"""An unused session ends so much later than it may: two that are due together then end together."""
WAIT_MAX_S = 10.0
"""For a session where all are taken."""


class Sessions:
    """`Pool`, with what it takes to open, await and close. The death of one fails its own calls and no other's."""

    def __init__(self, spec: UpstreamSpec, on_changed: Callable[[str], None]) -> None:
        """`on_changed` hears of lists that the server says to have changed, in 2026-07-28 or at a `url`: the main
        session may not. A command says so of the process of that session alone."""
        self.pool = Pool(spec.sessions_max, KEYS_MAX if spec.url else 0)
        self.on_full: Callable[[], object] = lambda: None
        """Called whenever a call has to wait for a session."""
        self._spec = spec
        self._on_changed = on_changed
        self._loop = asyncio.get_running_loop()
        self._opening: dict[Slot, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._waiting: list[asyncio.Future[None]] = []
        self._pulses: dict[Slot, asyncio.Task[None]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._stopped = False

    def __repr__(self) -> str:
        return f"Sessions({len(self.pool)} of {self.pool.slots_max})"

    async def take(
        self,
        key: Key,
        holder: str,
        capabilities: dict[str, Any],
        exchange: Exchange | None,
        transport: Transport,
        *,
        listens: bool = False,
        pins: bool = False,
        task: str = "",
        principal: Principal | None = None,
    ) -> tuple[Slot, Connection]:
        """An open session for one call, or for one who `listens`; give the slot back with `release`, alike.

        `principal` is whom a new session signs in for, where the server tells callers apart; `key.owner` is its alone.
        A call about a `task` goes to where that was begun. What the server asks while it opens goes to `exchange`.
        Raises `Exhausted` where all sessions stay taken for `WAIT_MAX_S`, `Unavailable` where none can be opened.
        """
        slot = await self._find(key, holder, transport, task, alone=pins or not listens)
        _count(slot, +1, listens=listens, pins=pins)
        if not listens or pins:
            slot.holder = holder
        try:
            if slot.connection is None:
                slot.principal = slot.principal or principal
                await self._opened(slot, capabilities, exchange, transport)
            connection = slot.connection
            if connection is None:
                raise Unavailable(f"server {self._spec.name!r} was stopped", server=self._spec.name)
        except BaseException:
            self.release(slot, listens=listens, pins=pins)
            raise
        if listens and transport == "http" and not key.modern and slot not in self._pulses:
            self._pulses[slot] = asyncio.create_task(self._pulse(slot, connection))
        return slot, connection

    def release(self, slot: Slot, *, listens: bool = False, pins: bool = False) -> None:
        _count(slot, -1, listens=listens, pins=pins)
        slot.used_at = self._loop.time()
        if not slot.listeners and (pulse := self._pulses.pop(slot, None)):
            pulse.cancel()
        if self._sweep is None and not slot.running and not slot.listeners and not self._stopped:
            self._sweep = self._loop.call_later(self._spec.session_idle_s, self._end_unused)
        self._wake()

    def forget(self, owner: tuple[str, ...]) -> None:
        """End the sessions that were opened in the name of `owner`, with whatever runs in them."""
        for slot in tuple(self.pool):
            if slot.key.owner[: len(owner)] == owner:
                self._let_go(slot, "its principal may no longer sign in there")
                if (opening := self._opening.get(slot)) is not None:
                    opening.cancel()

    async def stop(self, cause: str) -> None:
        """Close all; what is still being opened, too. Nothing is left when this returns."""
        self._stopped = True
        if self._sweep is not None:
            self._sweep.cancel()
        for slot in tuple(self.pool):
            self._let_go(slot, cause)
        tasks = (*self._opening.values(), *self._pulses.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._closing:
            await asyncio.gather(*self._closing)
        self._wake()

    # ---- finding one -----------------------------------------------------------------------------

    async def _find(self, key: Key, holder: str, transport: Transport, task: str, *, alone: bool) -> Slot:
        give_up = self._loop.time() + WAIT_MAX_S
        pool = self.pool
        while True:
            if self._stopped:
                raise Unavailable(f"server {self._spec.name!r} was stopped", server=self._spec.name)
            now = self._loop.time()
            slot = pool.find(key, holder, task)
            if slot is None and not alone:
                # One who only listens, and cannot be asked, is in nobody's way.
                slot = pool.least_busy(key)
            slot = slot or pool.add(key, now)
            if slot is None and transport == "http":
                # The stream that a question comes on tells whose it is.
                slot = pool.least_busy(key)
            if slot is None and (victim := pool.victim(now)):
                self._let_go(victim, "made room for another client's session")
                slot = pool.add(key, now)
            if slot is not None:
                return slot
            await self._room(give_up)

    async def _room(self, give_up: float) -> None:
        """Until something changed. Who may do without a session is asked for it first."""
        self.on_full()
        change: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(change)
        try:
            async with asyncio.timeout_at(give_up):
                await change
        except TimeoutError:
            raise Exhausted(
                f"all {self.pool.slots_max} sessions with server {self._spec.name!r} are in use by other clients "
                "('sessions_max')",
                retry_after_s=1,
            ) from None
        finally:
            if change in self._waiting:
                self._waiting.remove(change)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            if not change.done():
                change.set_result(None)

    # ---- opening and closing ---------------------------------------------------------------------

    async def _opened(
        self, slot: Slot, capabilities: dict[str, Any], exchange: Exchange | None, transport: Transport
    ) -> None:
        """One opens it for all who wait, and none of them takes it along when cancelled."""
        opening = self._opening.get(slot)
        if opening is None:
            opening = asyncio.create_task(
                self._open(slot, capabilities, exchange, transport), name=f"session with {self._spec.name}"
            )
            self._opening[slot] = opening
            opening.add_done_callback(lambda done: self._ended_opening(slot, done))
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            if not opening.cancelled():
                raise
            why = "was stopped" if self._stopped else "may not be used for this caller any more"
            raise Unavailable(f"server {self._spec.name!r} {why}", server=self._spec.name) from None

    def _ended_opening(self, slot: Slot, done: asyncio.Task[None]) -> None:
        del self._opening[slot]
        if not done.cancelled() and (error := done.exception()) is not None:
            logger.info("server %s: a session could not be opened: %s", self._spec.name, error)

    async def _open(
        self, slot: Slot, capabilities: dict[str, Any], exchange: Exchange | None, transport: Transport
    ) -> None:
        name = self._spec.name
        connection = Connection(
            self._spec,
            transport,
            self._on_changed if slot.key.modern or self._spec.url else _nothing,
            modern=slot.key.modern,
            capabilities=capabilities if slot.key.leased else {},
            principal=slot.principal,
        )
        connection.channel.opener = exchange
        try:
            async with asyncio.timeout(self._spec.start_timeout_s):
                await connection.open()
        except BaseException as e:
            self.pool.remove(slot)
            self._close(connection, "could not be opened")
            self._wake()
            if isinstance(e, TimeoutError):
                why = f"did not finish its start within {self._spec.start_timeout_s:g} s"
                raise Unavailable(f"a session with server {name!r} {why}", server=name) from None
            if isinstance(e, MeshError) and not isinstance(e, ConsentNeeded):
                raise Unavailable(
                    f"a session with server {name!r} could not be opened: {e.message}", server=name
                ) from e
            raise
        slot.connection = connection
        connection.follow_lists()
        connection.channel.gone.add_done_callback(lambda _: self._let_go(slot, "ended"))

    async def _pulse(self, slot: Slot, connection: Connection) -> None:
        """Over HTTP nothing tells that the other side has forgotten a session, and with it who listens."""
        misses = 0
        while misses < MISSES_MAX:
            await asyncio.sleep(self._spec.probe_every_s)
            try:
                async with asyncio.timeout(PULSE_TIMEOUT_S):
                    await connection.request("ping", {})
                misses = 0
            except (MeshError, TimeoutError) as e:
                misses += 1
                logger.debug("server %s: a session did not answer: %s", self._spec.name, e)
        self._let_go(slot, "did not answer 'ping'")

    def _let_go(self, slot: Slot, cause: str) -> None:
        if self.pool.remove(slot) and slot.connection is not None:
            logger.debug("server %s: %r: %s", self._spec.name, slot, cause)
            self._close(slot.connection, cause)
        self._wake()

    def _close(self, connection: Connection, cause: str) -> None:
        closing = asyncio.create_task(connection.close(cause))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _end_unused(self) -> None:
        self._sweep = None
        idle_s = self._spec.session_idle_s
        for slot in self.pool.unused(self._loop.time(), idle_s):
            self._let_go(slot, "unused")
        resting = [max((s.used_at + idle_s, *s.tasks.values())) for s in self.pool if not s.running and not s.listeners]
        if resting:
            self._sweep = self._loop.call_at(min(resting) + SWEEP_LATE_S, self._end_unused)


def _count(slot: Slot, by: int, *, listens: bool, pins: bool) -> None:
    if listens:
        slot.listeners += by
        slot.pins += by if pins else 0
    else:
        slot.running += by


def _nothing(_kind: str) -> None:
    """The main session is the one that lists, and of another process."""
