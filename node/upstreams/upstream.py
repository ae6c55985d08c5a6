"""One MCP server behind this node: kept connected, kept listed, and called."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from node.upstreams.backoff import Backoff
from node.upstreams.connection import Connection
from node.upstreams.gate import Gate
from node.upstreams.listing import CAPABILITIES
from node.upstreams.modern import MODERN_VERSION
from node.upstreams.offer import Health, Offer, State
from node.upstreams.spec import UpstreamSpec
from node.upstreams.wire import logger
from proto.calls import Answer, Call, Exchange
from proto.errors import Expired, MeshError, OutcomeUnknown, Unavailable

__all__ = ["Health", "Offer", "Upstream"]

PROBE_TIMEOUT_S = 5.0
MISSES_MAX = 2
"""Probes in a row without an answer, while no call runs, after which a server counts as down."""
STEADY_S = 30.0
"""A connection that held this long starts the waits between attempts anew."""
COALESCE_S = 0.05
RELIST_EVERY_S = 1.0
"""A server that announces changes without pause is listed once in this time."""


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


class Upstream:
    """A `Target`. `on_offer` is called on the loop whenever anything in the offer changed; it must not block.

    `clock` gives Unix milliseconds for `Health.since_ms`.
    """

    def __init__(
        self, spec: UpstreamSpec, on_offer: Callable[[Offer], None], *, clock: Callable[[], int] = _unix_ms
    ) -> None:
        self.spec = spec
        self._on_offer = on_offer
        self._clock = clock
        self._offer = Offer(spec, Health("starting", clock()))
        self._gate = Gate(spec.name, spec.concurrency)
        self._connection: Connection | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._stale: set[str] = set()
        self._wake = asyncio.Event()
        self._doubted = False

    def __repr__(self) -> str:
        return f"Upstream({self._offer!r} running={self._gate.running})"

    @property
    def offer(self) -> Offer:
        """What it offers now; the last lists while it is down."""
        return self._offer

    @property
    def health(self) -> Health:
        return self._offer.health

    async def start(self) -> None:
        """Begin to connect, and return at once. A server that cannot be reached shows in `health`, never here."""
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise(), name=f"upstream {self.spec.name}")

    async def stop(self) -> None:
        """End it: pending calls fail, its process is gone when this returns (within seconds)."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None:
            return
        supervisor.cancel()
        await asyncio.gather(supervisor, return_exceptions=True)
        if self._closing is not None:
            await self._closing
        # A supervisor cancelled between two attempts, or before its first step, has said nothing.
        self._say("down", "stopped")

    @property
    def modern(self) -> bool | None:
        """Whether the server speaks 2026-07-28; None until it has been up once."""
        version = self._offer.protocol_version
        return version == MODERN_VERSION if version else None

    async def run(self, call: Call, exchange: Exchange) -> Answer:
        """Run one request; the answer is the server's own, `isError` results and JSON-RPC errors included.

        Raises `Unavailable` (nothing was sent), `Exhausted` (too many calls), `Expired` (the time ran out; whether
        it had started is in the message and in `data["started"]`), `OutcomeUnknown` (sent, and the server went).
        """
        limit_s = min(call.budget_ms / 1000, self.spec.call_timeout_s)
        if limit_s <= 0:
            raise Expired(f"the time for the call ran out before it reached server {self.spec.name!r}", started=False)
        self._connected()
        deadline = asyncio.get_running_loop().time() + limit_s
        await self._gate.enter(deadline)
        started = asyncio.Event()
        try:
            async with asyncio.timeout_at(deadline):
                return await self._connected().request(call.method, call.params, exchange, started.set)
        except TimeoutError:
            raise self._expired(call, limit_s, started.is_set()) from None
        except OutcomeUnknown as e:
            self._doubt()
            raise OutcomeUnknown(e.message, **{**e.data, "call_id": call.call_id}) from e
        except Unavailable:
            self._doubt()
            raise
        finally:
            self._gate.leave()

    call = run
    """As a `Target`, for whoever speaks to the server in its own era."""

    def _connected(self) -> Connection:
        connection = self._connection
        if connection is None or connection.channel.gone.done():
            health = self.health
            said = f": {health.cause}" if health.cause else ""
            state = health.state if connection is None else "reconnecting"
            raise Unavailable(f"server {self.spec.name!r} is {state}{said}", server=self.spec.name, state=state)
        return connection

    def _expired(self, call: Call, limit_s: float, started: bool) -> Expired:
        what = f"{call.method} on server {self.spec.name!r}"
        if started:
            message = f"{what} had started and did not end within {limit_s:g} s; it was cancelled"
        else:
            message = f"{what} could not be sent within {limit_s:g} s; nothing ran"
        return Expired(message, started=started, call_id=call.call_id)

    # ---- keeping it connected --------------------------------------------------------------------

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
            await asyncio.sleep(wait_s)
            health = replace(self.health, restarts=self.health.restarts + 1)
            self._offer = replace(self._offer, health=health)

    async def _live(self, backoff: Backoff) -> str:
        """One connection from beginning to end. Returns the cause of its end."""
        loop = asyncio.get_running_loop()
        connection = Connection(self.spec, self._changed)
        up_at: float | None = None
        cause = "stopped"
        try:
            async with asyncio.timeout(self.spec.start_timeout_s):
                await connection.open()
                self._stale.clear()
                lists: dict[str, Any] = await connection.lists(CAPABILITIES)
            up_at = loop.time()
            self._up(connection, lists)
            cause = await self._watch(connection)
        except TimeoutError:
            words = connection.channel.wire.last_words()
            said = f"; last stderr line: {words}" if words else ""
            cause = f"did not finish its start within {self.spec.start_timeout_s:g} s{said}"
        except MeshError as e:
            cause = e.message
        except Exception:
            # The supervisor outlives our own bugs: the server is down, the others are not touched.
            logger.exception("server %s: internal error", self.spec.name)
            cause = "internal error of the gateway; see its log"
        finally:
            self._connection = None
            self._say("down", cause)
            if self._refreshing is not None:
                self._refreshing.cancel()
                self._refreshing = None
            # A stop that comes while this runs must not leave a process behind.
            self._closing = asyncio.create_task(connection.close(cause))
            await asyncio.shield(self._closing)
        if up_at is not None and loop.time() - up_at >= STEADY_S:
            backoff.reset()
        return cause

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
            if not doubted and (self._gate.running or quiet_s < self.spec.probe_every_s / 2):
                misses = 0
                continue
            problem = await self._probe(connection)
            misses = misses + 1 if problem else 0
            if problem and misses >= MISSES_MAX:
                return connection.epitaph() if connection.channel.gone.done() else problem
            if problem and doubted:
                self._doubt()

    async def _probe(self, connection: Connection) -> str:
        """Empty if the server is alive: any answer counts, an error too."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await connection.request(connection.agreement.probe, {})
        except TimeoutError:
            # A server may be too busy with its calls to answer: these have their own limits.
            return "" if self._gate.running else f"did not answer {connection.agreement.probe!r}"
        except MeshError as e:
            return e.message
        return ""

    def _doubt(self) -> None:
        """A call failed in a way that the server's death would explain: look now."""
        self._doubted = True
        self._wake.set()

    # ---- keeping it listed -----------------------------------------------------------------------

    def _up(self, connection: Connection, lists: dict[str, Any]) -> None:
        agreed = connection.agreement
        self._connection = connection
        logger.info(
            "server %s: up, revision %s, %d tools", self.spec.name, agreed.protocol_version, len(lists["tools"])
        )
        self._publish(
            health=Health("up", self._clock(), "", self.health.restarts),
            server_info=agreed.server_info,
            capabilities=agreed.capabilities,
            instructions=agreed.instructions,
            protocol_version=agreed.protocol_version,
            **lists,
        )
        if self._stale:
            self._refresh_soon(connection)

    def _changed(self, kind: str) -> None:
        if kind not in CAPABILITIES:
            return
        self._stale.add(kind)
        if self._connection is not None:
            self._refresh_soon(self._connection)

    def _refresh_soon(self, connection: Connection) -> None:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh(connection))

    async def _refresh(self, connection: Connection) -> None:
        wait_s = COALESCE_S
        while self._stale:
            await asyncio.sleep(wait_s)
            wait_s = RELIST_EVERY_S
            kinds = frozenset(self._stale)
            self._stale.clear()
            try:
                async with asyncio.timeout(self.spec.start_timeout_s):
                    lists: dict[str, Any] = await connection.lists(kinds)
            except (MeshError, TimeoutError) as e:
                what = ", ".join(sorted(kinds))
                logger.warning("server %s: %s could not be listed again: %s", self.spec.name, what, e or "timeout")
                self._doubt()
                return
            self._publish(**lists)

    def _say(self, state: State, cause: str) -> None:
        if (self.health.state, self.health.cause) != (state, cause):
            since_ms = self.health.since_ms if self.health.state == state else self._clock()
            self._publish(health=Health(state, since_ms, cause, self.health.restarts))

    def _publish(self, **changes: Any) -> None:
        offer = replace(self._offer, **changes)
        if offer == self._offer:
            return
        self._offer = offer
        try:
            self._on_offer(offer)
        except Exception:
            logger.exception("server %s: whoever hears of its offer failed", self.spec.name)
