"""One MCP server behind this node: kept connected, kept listed, and called.

Each call runs in the era of its client where the server speaks it, and in a session that is its client's own where
the server needs to know what the client can do (`pool`). Callers who declare nothing share the main session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from node.credentials.ports import ConsentNeeded, UpstreamCredentials
from node.upstreams.channel import LISTEN, LOG_LEVEL
from node.upstreams.clock import CallClock
from node.upstreams.connection import Connection
from node.upstreams.following import Following
from node.upstreams.gate import Gate
from node.upstreams.keeping import Keeper, unix_ms
from node.upstreams.learning import Learning
from node.upstreams.listening import Listening
from node.upstreams.loudness import level_in
from node.upstreams.modern import MODERN_VERSION
from node.upstreams.offer import Health, Offer
from node.upstreams.pool import MODERN, SHARED, Key, Slot, declared
from node.upstreams.sessions import Sessions
from node.upstreams.spec import UpstreamSpec
from node.upstreams.tasks import note, task_of
from proto.calls import Answer, Call, Exchange
from proto.errors import Expired, OutcomeUnknown, Unavailable
from proto.records import Principal

__all__ = ["Health", "Offer", "Upstream"]


class Upstream:
    """`on_offer` is called on the loop whenever anything in the offer changed; it must not block.

    `clock` gives Unix milliseconds for `Health.since_ms`. Of those that are given the same `surveys` one at a time is
    surveyed.
    """

    def __init__(
        self,
        spec: UpstreamSpec,
        on_offer: Callable[[Offer], None],
        *,
        clock: Callable[[], int] = unix_ms,
        surveys: asyncio.Lock | None = None,
    ) -> None:
        self.spec = spec
        self._gate = Gate(spec.name, spec.concurrency)
        self._on_offer = on_offer
        self._keeper = Keeper(
            spec, self._offered, lambda: bool(self._gate.running), clock, surveys or asyncio.Lock(), self.learn
        )
        self._sessions = Sessions(spec, self._keeper.relisting.changed)
        self._following = Following(spec, self._sessions)
        self._listening = Listening(spec.name, self._keeper.revived)
        self._shared = spec.stateless or spec.sessions == "shared"
        self._tenant: tuple[str, ...] | None = SHARED if self._shared or not spec.sessions_max else None
        """Whose the main session is; None: of the first who comes."""
        self._tenancy: Connection | None = None
        self._learning = Learning(self._keeper)
        credentials = spec.credentials
        self._credentials = credentials if credentials is not None and credentials.per_principal else None
        """Where the server tells callers apart: then nobody shares a connection with another, nor with our lists."""
        if self._credentials is not None:
            self._credentials.when_forgotten(self._sessions.forget)
        self._stopped = False

    def __repr__(self) -> str:
        return f"Upstream({self.offer!r} running={self._gate.running} {self._sessions!r})"

    @property
    def offer(self) -> Offer:
        """What it offers now; the last lists while it is down."""
        return self._keeper.offer

    @property
    def health(self) -> Health:
        return self._keeper.offer.health

    @property
    def modern(self) -> bool | None:
        """Whether the server speaks 2026-07-28. None: not known yet, `learn` tells."""
        return self._keeper.modern

    @property
    def legacy(self) -> bool | None:
        """Whether the server speaks a revision with a handshake. None: it has not been up, or is spoken to in
        2026-07-28 and nobody had to know; `learn_legacy` tells."""
        return self._keeper.legacy

    async def start(self) -> None:
        """Begin to connect, and return at once. A server that cannot be reached shows in `health`, never here."""
        self._keeper.start()

    def when_full(self, do: Callable[[], object]) -> None:
        """`do` is called whenever a call has to wait for a session that others hold."""
        self._sessions.on_full = do

    async def stop(self) -> None:
        """End it: pending calls fail, its processes are gone when this returns (within seconds)."""
        self._stopped = True
        await self._learning.stop()
        await self._following.stop()
        await asyncio.gather(self._keeper.stop(), self._sessions.stop("stopped"))
        if self.spec.credentials is not None:
            await self.spec.credentials.close()

    def _offered(self, offer: Offer) -> None:
        keeper = self._keeper
        both_eras = bool(keeper.modern and keeper.legacy) and not keeper.main_is_modern and not self._stopped
        self._following.offered(offer, keeper.transport, both_eras=both_eras)
        self._on_offer(offer)

    def wake(self) -> None:
        """Its credentials have changed, or what kept it down may be over: try now."""
        self._keeper.wake()

    async def learn(self) -> None:
        """Settle `modern`. Never raises."""
        if self._keeper.modern is None:
            await self._learning.modern()

    async def learn_legacy(self) -> None:
        """Settle `legacy`, within seconds, where the main session does not tell. Never raises."""
        if self._keeper.legacy is None:
            await self._learning.legacy()

    # ---- calls -----------------------------------------------------------------------------------

    async def run(self, call: Call, exchange: Exchange) -> Answer:
        """Run one request; the answer is the server's own, `isError` results and JSON-RPC errors included.

        `subscriptions/listen` stays open, bounded by its caller alone; a notification goes to the sessions that are
        its client's, if any are open. Raises `Unavailable` (nothing was sent), `Exhausted` (too many calls),
        `Expired` (the time ran out; whether it had started is in the message and in `data["started"]`),
        `OutcomeUnknown` (sent, and the server went).
        """
        if call.method == LISTEN:
            return await self._listen(call, exchange)
        if call.method.startswith("notifications/"):
            return await self._tell(call)
        limit_s = min(call.budget_ms / 1000, self.spec.call_timeout_s)
        if limit_s <= 0:
            raise Expired(f"the time for the call ran out before it reached server {self.spec.name!r}", started=False)
        deadline = asyncio.get_running_loop().time() + limit_s
        if self.spec.credentials is not None:
            await self._signed_in(self.spec.credentials, call, deadline)
        self._keeper.connected()
        await self._gate.enter(deadline)
        started = asyncio.Event()
        try:
            async with asyncio.timeout_at(deadline) as limit:
                if self._keeper.legacy is None and call.era != MODERN_VERSION:
                    await self._learning.legacy()
                key = self._key(call)
                if key is None:
                    return await self._request(self._keeper.connected(), call, exchange, started)
                return await self._in_session(key, call, exchange, started, limit)
        except TimeoutError:
            raise self._expired(call, limit_s, started.is_set()) from None
        except OutcomeUnknown as e:
            self._keeper.doubt()
            raise OutcomeUnknown(e.message, **{**e.data, "call_id": call.call_id}) from e
        except ConsentNeeded:
            raise
        except Unavailable:
            self._keeper.doubt()
            raise
        finally:
            self._gate.leave()

    call = run
    """As a `Target`, for callers who speak to the server in its own era."""

    def _key(self, call: Call) -> Key | None:
        """Which session a call belongs to; None: the main one."""
        keeper = self._keeper
        if self._credentials is not None:
            owner = self._owner(call)
            modern = not keeper.legacy or (call.era == MODERN_VERSION and keeper.modern)
            return Key(owner, "", modern=True) if modern else Key(owner, declared(call.client_capabilities))
        if not keeper.legacy:
            return None
        if call.era == MODERN_VERSION and keeper.modern and not self.main_will_do(call):
            return None if keeper.main_is_modern else MODERN
        owner = self._owner(call)
        if keeper.main_is_modern:
            return Key(owner, declared(call.client_capabilities))
        if not call.client_capabilities and owner == self._main_tenant(owner):
            return None
        if not self.spec.sessions_max:
            return None
        return Key(owner, declared(call.client_capabilities))

    def main_will_do(self, call: Call) -> bool:
        """Whether a command of both eras need not be started once more for this client of 2026-07-28.

        One that declares nothing can be asked nothing, so the main session, if it may have that, is as good.
        """
        keeper = self._keeper
        if (
            self._credentials is not None
            or call.client_capabilities
            or keeper.transport != "stdio"
            or not keeper.legacy
            or keeper.main_is_modern
        ):
            return False
        owner = self._owner(call)
        return owner == self._main_tenant(owner)

    def _owner(self, call: Call) -> tuple[str, ...]:
        if self._credentials is not None:
            identity = self._credentials.whose(call.principal, call.via)
        elif self._shared:
            return SHARED
        else:
            identity = call.principal.identity
        # A server asks for roots once in a session and keeps them: what one agent opened is not another's to read.
        own = self.spec.sessions == "session" or ("roots" in call.client_capabilities and call.era != MODERN_VERSION)
        return (*identity, call.session_key) if own else identity

    def _main_tenant(self, owner: tuple[str, ...]) -> tuple[str, ...]:
        """Whose the main session is. A new one, of a server that started anew, is of the first who comes."""
        if self._tenancy is not self._keeper.connection and self._tenant != SHARED:
            self._tenancy, self._tenant = self._keeper.connection, None
        if self._tenant is None:
            self._tenant = owner
        return self._tenant

    async def _signed_in(self, credentials: UpstreamCredentials, call: Call, deadline: float) -> None:
        """Until a token for this caller is at hand, and the server, should that have waited for a consent, is up.

        No call goes without a token, even where the server gives its lists to anybody.

        Raises `ConsentNeeded`, or `Unavailable` where the caller cannot be served.
        """
        credentials.whose(call.principal, call.via)
        try:
            async with asyncio.timeout_at(deadline):
                await credentials.headers(call.principal)
                if self._keeper.waits_for_consent:
                    self._keeper.wake()
                    await self._keeper.revived()
        except TimeoutError:
            raise Expired(
                f"signing in to server {self.spec.name!r} took too long; nothing ran", started=False
            ) from None

    async def _request(
        self,
        connection: Connection,
        call: Call,
        exchange: Exchange,
        started: asyncio.Event,
        holder: str = "",
        clock: CallClock | None = None,
    ) -> Answer:
        params = call.params
        if (
            not connection.modern
            and (meta := params.get("_meta"))
            and LOG_LEVEL in meta
            and (level := level_in(params))
        ):
            await connection.loudness.ensure(level)
        return await connection.request(
            call.method,
            params,
            exchange,
            started.set,
            capabilities=call.client_capabilities,
            holder=holder,
            clock=clock,
        )

    async def _in_session(
        self,
        key: Key,
        call: Call,
        exchange: Exchange,
        started: asyncio.Event,
        limit: asyncio.Timeout,
    ) -> Answer:
        holder = _holder(call)
        slot, connection = await self._sessions.take(
            key,
            holder,
            call.client_capabilities,
            exchange,
            self._keeper.transport,
            task=task_of(call),
            principal=self._signs(call),
        )
        clock = CallClock(limit, self._gate)
        try:
            if key.modern and connection.adopted is not self.offer.tools:
                connection.adopt_tools(self.offer.tools)
            answer = await self._request(connection, call, exchange, started, holder, clock)
            note(slot, call, answer, asyncio.get_running_loop().time())
            return answer
        finally:
            clock.stop()
            self._sessions.release(slot)

    def _signs(self, call: Call) -> Principal | None:
        return call.principal if self._credentials is not None else None

    def _expired(self, call: Call, limit_s: float, started: bool) -> Expired:
        what = f"{call.method} on server {self.spec.name!r}"
        if started:
            message = f"{what} had started and did not end within {limit_s:g} s; it was cancelled"
        else:
            message = f"{what} could not be sent within {limit_s:g} s; nothing ran"
        return Expired(message, started=started, call_id=call.call_id)

    # ---- what stays open, and what is only told --------------------------------------------------

    async def _listen(self, call: Call, exchange: Exchange) -> Answer:
        holder = _holder(call)
        asked = call.era != MODERN_VERSION and bool(call.client_capabilities)

        @asynccontextmanager
        async def enter() -> AsyncIterator[Connection]:
            main = self._keeper.connected()
            if call.era != MODERN_VERSION:
                await self.learn_legacy()
            key = self._key(call)
            if key is None:
                yield main
                return
            pins = asked and key.leased
            slot, connection = await self._sessions.take(
                key,
                holder,
                call.client_capabilities,
                exchange,
                self._keeper.transport,
                listens=True,
                pins=pins,
                principal=self._signs(call),
            )
            try:
                yield connection
            finally:
                self._sessions.release(slot, listens=True, pins=pins)

        return await self._listening.listen(call, exchange, holder, asked=asked, enter=enter)

    async def _tell(self, call: Call) -> Answer:
        key = self._key(call)
        if self._keeper.legacy is None and call.era != MODERN_VERSION:
            told = []
        elif key is None:
            told = [self._keeper.connected()]
        else:
            told = [s.connection for s in self._sessions.pool.of(key) if s.connection and _is_its(s, call)]
        for connection in told:
            params = connection.channel.dress(call.params, call.client_capabilities) if call.params else None
            await connection.channel.notify(call.method, params)
        return {"result": {}}


def _is_its(slot: Slot, call: Call) -> bool:
    return not slot.key.leased or slot.holder == call.session_key


def _holder(call: Call) -> str:
    """Whose calls may meet in a session that asks back: one client session's. Without sessions, each call is alone."""
    return call.call_id if call.era == MODERN_VERSION or not call.session_key else call.session_key
