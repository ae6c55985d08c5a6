"""The main session with a server: kept open, kept listed, and watched. Its state is the server's health."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from node.credentials.ports import ConsentNeeded
from node.upstreams.awaiting import sign_in
from node.upstreams.backoff import Backoff
from node.upstreams.connection import Connection
from node.upstreams.era import Era, Transport, detect, transport_of
from node.upstreams.handshake import OFFERED_VERSION, Agreement, Declined
from node.upstreams.listing import CAPABILITIES, LISTS, Items
from node.upstreams.offer import Health, Offer, State
from node.upstreams.relisting import Relisting
from node.upstreams.spec import UpstreamSpec
from node.upstreams.survey import Survey, merged
from node.upstreams.wire import logger
from proto.errors import MeshError, Unavailable

PROBE_TIMEOUT_S = 5.0
MISSES_MAX = 2
"""Probes in a row without an answer, while no call runs, after which a server counts as down."""
STEADY_S = 30.0
"""A connection that held this long starts the waits between attempts anew."""


def unix_ms() -> int:
    return time.time_ns() // 1_000_000


class Keeper:
    """One server's main session, from attempt to attempt. It declares nothing, so it can be asked nothing.

    `on_offer` is called on the loop whenever anything in the offer changed; `busy` tells whether calls run;
    `surveys` is held by the one survey that runs on this node, which has `modern` settled by `learn`. `modern` and
    `legacy` tell which eras the server speaks; None: not known.
    """

    def __init__(
        self,
        spec: UpstreamSpec,
        on_offer: Callable[[Offer], None],
        busy: Callable[[], bool],
        clock: Callable[[], int],
        surveys: asyncio.Lock,
        learn: Callable[[], Awaitable[None]],
    ) -> None:
        self.spec = spec
        self.offer = Offer(spec, Health("starting", clock()))
        self.connection: Connection | None = None
        self.modern: bool | None = None
        self.legacy: bool | None = None
        self.transport: Transport = transport_of(spec)
        self.relisting = Relisting(spec, self._publish, self.doubt)
        self._agreed: Agreement | None = None
        """Of the last main session."""
        self._older: Agreement | None = None
        """What a server says in a handshake, where the main session is of 2026-07-28."""
        self._survey = Survey(spec, surveys, learn, self._surveyed)
        self._plain: dict[str, Items] = {}
        self._capable: dict[str, Items] = {}
        self._on_offer = on_offer
        self._busy = busy
        self._clock = clock
        self._supervisor: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._revived: asyncio.Future[Connection] | None = None
        self._wake = asyncio.Event()
        self._at_once = asyncio.Event()
        self.waits_for_consent = False
        """There is no main session, because nobody has agreed yet that this node may sign in there."""
        self._doubted = False

    @property
    def health(self) -> Health:
        return self.offer.health

    @property
    def main_is_modern(self) -> bool:
        return self.connection is not None and self.connection.modern

    def start(self) -> None:
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise(), name=f"upstream {self.spec.name}")

    async def stop(self) -> None:
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None:
            return
        supervisor.cancel()
        await asyncio.gather(supervisor, return_exceptions=True)
        await self._survey.end()
        if self._closing is not None:
            await self._closing
        # A supervisor cancelled between two attempts, or before its first step, has said nothing.
        self._say("down", "stopped")
        if self._revived is not None and not self._revived.done():
            self._revived.set_exception(Unavailable(f"server {self.spec.name!r} was stopped", server=self.spec.name))
            self._revived.exception()

    def connected(self) -> Connection:
        """The main session. Raises `Unavailable`."""
        connection = self.connection
        if connection is None or connection.channel.gone.done():
            health = self.health
            said = f": {health.cause}" if health.cause else ""
            state = health.state if connection is None else "reconnecting"
            raise Unavailable(f"server {self.spec.name!r} is {state}{said}", server=self.spec.name, state=state)
        return connection

    async def revived(self) -> None:
        """Until the main session is open (again). Raises `Unavailable` if it is stopped."""
        if self._supervisor is None:
            raise Unavailable(f"server {self.spec.name!r} was stopped", server=self.spec.name)
        if self.connection is not None and not self.connection.channel.gone.done():
            return
        if self._revived is None or self._revived.done():
            self._revived = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._revived)

    def doubt(self) -> None:
        """A call failed in a way that the server's death would explain: look now."""
        self._doubted = True
        self._wake.set()

    def wake(self) -> None:
        """What kept it down may be over: the next attempt is due now."""
        if self.connection is None:
            self._at_once.set()

    # ---- from attempt to attempt -----------------------------------------------------------------

    async def _supervise(self) -> None:
        backoff = Backoff()
        before = ""
        while True:
            cause = await self._live(backoff)
            wait_s = backoff.next_s()
            # Said aloud when it is news; status shows it all the while.
            level = logging.DEBUG if cause == before else logging.WARNING
            logger.log(level, "server %s: down: %s; next attempt in %.1f s", self.spec.name, cause, wait_s)
            before = cause
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._at_once.wait()
            self._at_once.clear()
            health = replace(self.health, restarts=self.health.restarts + 1)
            self.offer = replace(self.offer, health=health)

    async def _live(self, backoff: Backoff) -> str:
        """One main session from beginning to end. Returns the cause of its end."""
        loop = asyncio.get_running_loop()
        opened: list[Connection] = []
        up_at: float | None = None
        cause = "stopped"
        try:
            async with asyncio.timeout(self.spec.start_timeout_s):
                connection = await self._open(opened)
                self.relisting.begin(connection)
                lists: dict[str, Any] = await connection.lists(CAPABILITIES)
            up_at = loop.time()
            self.waits_for_consent = False
            self._up(connection, lists)
            cause = await self._watch(connection)
        except TimeoutError:
            words = opened[-1].channel.wire.last_words() if opened else ""
            said = f"; last stderr line: {words}" if words else ""
            cause = f"did not finish its start within {self.spec.start_timeout_s:g} s{said}"
        except MeshError as e:
            cause = e.message
            self.waits_for_consent = isinstance(e, ConsentNeeded)
        except Exception:
            # The supervisor outlives our own bugs: the server is down, the others are not touched.
            logger.exception("server %s: internal error", self.spec.name)
            cause = "internal error of the gateway; see its log"
        finally:
            if up_at is None:
                # Another program may be there by the next attempt.
                self.transport, self.modern, self.legacy = transport_of(self.spec), None, None
            self.connection = None
            self._ended(cause)
            self.relisting.end()
            # A stop that comes while this runs must not leave a process behind.
            self._closing = asyncio.create_task(_close(opened, cause))
            await asyncio.shield(self._closing)
        if up_at is not None and loop.time() - up_at >= STEADY_S:
            backoff.reset()
        return cause

    async def _open(self, opened: list[Connection]) -> Connection:
        """In 2026-07-28 where a server at a URL knows that: its lists tell how long they hold, and their changes all
        of that era alone. Otherwise by handshake, where the server knows it: that costs a command no second start.
        What is opened on the way is in `opened`."""
        if self.modern is None and self.transport == "http":
            era = await detect(self.spec)
            self.transport = era.transport
            self.learnt(era)
        declined: Declined | None = None
        for modern in self._eras():
            # A process that was spoken to in one era is not fit for the other.
            await _close(opened, "of the other era")
            opened.clear()
            connection = Connection(self.spec, self.transport, self.relisting.changed, modern=modern)
            opened.append(connection)
            try:
                await connection.open()
            except MeshError as e:
                if isinstance(e, ConsentNeeded):
                    raise
                if declined is not None:
                    logger.debug("server %s: is not of the other era either: %s", self.spec.name, e)
                    raise declined from e
                if not isinstance(e, Declined):
                    raise
                logger.debug("server %s: %s", self.spec.name, e)
                declined = e
            else:
                self._settle(modern, other_declined=declined is not None)
                connection.follow_lists()
                return connection
        raise declined or Unavailable(f"server {self.spec.name!r} has no era left to be spoken to in")

    def _eras(self) -> tuple[bool, ...]:
        """In which eras to open the main session, one after the other: is it 2026-07-28?"""
        if self.modern is False:
            return (False,)
        # Where there is to be but one session, it is one of the era that has sessions.
        if self.modern and self.transport == "http" and self.spec.sessions_max:
            # Who was not greeted in time may be so in the next main session.
            self.legacy = self.legacy or None
            return (True, False)
        return (True,) if self.legacy is False else (False, True)

    def _settle(self, modern: bool, *, other_declined: bool) -> None:
        """The main session is open in this era."""
        if modern:
            self.modern = True
            if other_declined:
                self.legacy = False
        else:
            self.legacy = True
            if other_declined:
                self.learnt(Era(self.transport, modern=False))

    # ---- while it is open ------------------------------------------------------------------------

    async def _watch(self, connection: Connection) -> str:
        """Until the connection is gone or no longer answers. Returns the cause."""
        connection.channel.gone.add_done_callback(lambda _: self._wake.set())
        self._doubted = False
        misses = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.spec.probe_every_s):
                    await self._wake.wait()
            self._wake.clear()
            doubted, self._doubted = self._doubted, False
            if connection.channel.gone.done():
                return connection.epitaph()
            quiet_s = asyncio.get_running_loop().time() - connection.channel.heard_at
            if not doubted and (self._busy() or quiet_s < self.spec.probe_every_s / 2):
                misses = 0
                continue
            problem = await self._probe(connection)
            misses = misses + 1 if problem else 0
            if problem and misses >= MISSES_MAX:
                return connection.epitaph() if connection.channel.gone.done() else problem
            if problem and doubted:
                self.doubt()

    async def _probe(self, connection: Connection) -> str:
        """Empty if the server is alive: any answer counts, an error too."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await connection.request(connection.agreement.probe, {})
        except TimeoutError:
            # A server may be too busy with its calls to answer: these have their own limits.
            return "" if self._busy() else f"did not answer {connection.agreement.probe!r}"
        except MeshError as e:
            return e.message
        return ""

    def _up(self, connection: Connection, lists: dict[str, Any]) -> None:
        agreed = connection.agreement
        if self.legacy and self._agreed is not None and agreed.server_info != self._agreed.server_info:
            # Another program than the one whose other era was learnt.
            if connection.modern:
                self.legacy = None
            else:
                self.modern = None
                self._publish(modern_capabilities={})
        self.connection, self._agreed = connection, agreed
        if not (connection.modern and self.legacy):
            self._older = None
        if self.modern is None and agreed.protocol_version != OFFERED_VERSION:
            # Who does not know the last revision with a handshake does not know the one after it.
            self.learnt(Era(self.transport, modern=False))
        logger.info(
            "server %s: up, revision %s, %d tools", self.spec.name, agreed.protocol_version, len(lists["tools"])
        )
        self._publish(health=Health("up", self._clock(), "", self.health.restarts), **self._about(agreed), **lists)
        self.relisting.catch_up()
        if self.legacy:
            self._survey.begin(agreed.server_info, self.transport)
        if self._revived is not None and not self._revived.done():
            self._revived.set_result(connection)

    def learnt(self, era: Era) -> None:
        """Whether it speaks 2026-07-28, and what it says of itself there."""
        self.modern = era.modern
        self._publish(modern_capabilities=era.capabilities if era.modern else {})

    def greeted(self, older: Agreement | None) -> None:
        """What it says in a handshake, beside a main session of 2026-07-28; None: it knows none."""
        main = self.connection
        self.legacy, self._older = older is not None, older
        if main is not None and older is not None:
            self._publish(**self._about(main.agreement))
            self._survey.begin(main.agreement.server_info, self.transport)

    def _about(self, main: Agreement) -> dict[str, Any]:
        """What is offered of the server itself: as it says in a handshake, once that is known, and else what the main
        session has, of which both eras understand nearly all."""
        told = self._older or main
        about = {
            "server_info": main.server_info or told.server_info,
            "capabilities": told.capabilities,
            "instructions": told.instructions or main.instructions,
            "protocol_version": told.protocol_version,
        }
        return {**about, "modern_capabilities": main.capabilities} if self.main_is_modern else about

    def _ended(self, cause: str) -> None:
        """A server that waits for somebody's consent can be called: that is how people learn where to give it."""
        if not self.waits_for_consent:
            self._say("down", cause)
            return
        self._say("up", cause)
        if not self.offer.tools:
            self._publish(tools=(sign_in(self.spec),), capabilities={"tools": {}})

    def _say(self, state: State, cause: str) -> None:
        if (self.health.state, self.health.cause) != (state, cause):
            since_ms = self.health.since_ms if self.health.state == state else self._clock()
            self._publish(health=Health(state, since_ms, cause, self.health.restarts))

    def _surveyed(self, lists: dict[str, Items]) -> None:
        self._capable = lists
        self._publish(**self._plain)

    def _publish(self, **changes: Any) -> None:
        for field in LISTS.keys() & changes.keys():
            self._plain[field] = changes[field]
            changes[field] = merged(field, changes[field], self._capable)
        offer = replace(self.offer, **changes)
        if offer == self.offer:
            return
        self.offer = offer
        try:
            self._on_offer(offer)
        except Exception:
            logger.exception("server %s: whoever hears of its offer failed", self.spec.name)


async def _close(connections: list[Connection], cause: str) -> None:
    await asyncio.gather(*(connection.close(cause) for connection in connections))
