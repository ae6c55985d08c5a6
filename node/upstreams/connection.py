"""One life of a connection to a server: opened, agreed, asked, closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from node.upstreams.channel import Channel
from node.upstreams.clock import CallClock
from node.upstreams.era import Transport, build_wire
from node.upstreams.expiry import Expiry
from node.upstreams.handshake import Agreement, shake_hands
from node.upstreams.listing import Items, list_all
from node.upstreams.loudness import Loudness
from node.upstreams.modern import Modern
from node.upstreams.spec import UpstreamSpec
from node.upstreams.subscribing import Subscriptions
from node.upstreams.wire import SessionLost, logger
from proto.calls import Answer, Exchange
from proto.errors import MeshError, Unavailable
from proto.records import Principal

_NONE: dict[str, Any] = {}


class Connection:
    """Built closed, in one era: `modern` is 2026-07-28, otherwise `capabilities` are declared in a handshake.

    `principal` is whom it signs in for, where the server tells callers apart; None: for its lists.
    `open` may raise; `close` must be called in any case.
    """

    def __init__(
        self,
        spec: UpstreamSpec,
        transport: Transport,
        on_changed: Callable[[str], None],
        *,
        modern: bool = False,
        capabilities: dict[str, Any] = _NONE,
        principal: Principal | None = None,
    ) -> None:
        self.spec = spec
        self.modern = modern
        wire = build_wire(spec, transport, principal=principal)
        self.channel = Channel(
            spec.name, wire, on_changed, may_ask=bool(capabilities), ask_timeout_s=spec.ask_timeout_s
        )
        self.agreement = Agreement("")
        self.adopted: Items = ()
        """The tools that it has learnt of."""
        self.subscriptions = Subscriptions(self.channel, self.request)
        self.loudness = Loudness(spec.name, self.request)
        self._capabilities = capabilities
        self._on_changed = on_changed
        self._modern = Modern(self.channel) if modern else None
        self._expiry = Expiry(on_changed)
        self._listening: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._renewals = 0
        self._asides: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"Connection({self.channel!r} {self.agreement.protocol_version or 'not agreed'})"

    async def open(self) -> None:
        """Raises a `MeshError` whose message is a cause that a person can act on; `Declined` for the wrong era."""
        await self.channel.open()
        try:
            if self._modern is not None:
                self.agreement = await self._modern.discover()
            else:
                self.agreement = await shake_hands(self.channel, self._capabilities)
        except MeshError as e:
            if self.channel.gone.done():
                raise Unavailable(f"{self.channel.gone.result()} during start{self._last_words()}") from e
            raise
        self._adopt()

    def _adopt(self) -> None:
        self.subscriptions.allowed = self.offers("resources", "subscribe")
        self.loudness.allowed = "logging" in self.agreement.capabilities

    def offers(self, capability: str, member: str) -> bool:
        """Did the server declare this member of a capability?"""
        declared = self.agreement.capabilities.get(capability)
        return isinstance(declared, dict) and bool(declared.get(member))

    def follow_lists(self) -> None:
        """Hear of changed lists from a modern server, which tells only those who subscribe."""
        if self._modern is not None and self._listening is None:
            following = self._modern.listen(self.agreement.capabilities, self._on_changed)
            self._listening = asyncio.create_task(following)

    def _last_words(self) -> str:
        words = self.channel.wire.last_words()
        return f"; last stderr line: {words}" if words else ""

    def epitaph(self) -> str:
        """Why it is gone, in words for a person."""
        return f"{self.channel.gone.result()}{self._last_words()}"

    async def lists(self, wanted: Iterable[str]) -> dict[str, Items]:
        """By field of `Offer`, for the `wanted` capabilities. Raises as the channel does."""
        ttls_ms: dict[str, float] = {}
        found = await list_all(self.channel, self.agreement.capabilities, wanted, ttls_ms)
        if self.modern:
            self._expiry.listed(self.agreement.capabilities, ttls_ms)
        if "tools" in found:
            found["tools"] = self.adopt_tools(found["tools"])
        return found

    def adopt_tools(self, tools: Items) -> Items:
        """Learn what calls of these tools need in headers; those that a modern server may not offer are left out."""
        self.adopted = tools
        return self._modern.adopt_tools(tools) if self._modern is not None else tools

    async def request(
        self,
        method: str,
        params: dict[str, Any],
        exchange: Exchange | None = None,
        on_sent: Callable[[], None] | None = None,
        *,
        capabilities: dict[str, Any] = _NONE,
        holder: str = "",
        clock: CallClock | None = None,
    ) -> Answer:
        """As `Channel.request`; a lost session is renewed once, since the server then has run nothing."""
        if self._renewing is not None:
            await asyncio.shield(self._renewing)
        seen = self._renewals
        channel = self.channel
        try:
            return await channel.request(
                method, params, exchange, on_sent, capabilities=capabilities, holder=holder, clock=clock
            )
        except SessionLost as e:
            logger.info("server %s: %s; shaking hands again", self.spec.name, e)
        if self._renewals == seen:
            # One handshake for all who lost the session, and none of them takes it along when cancelled.
            if self._renewing is None:
                self._renewing = asyncio.create_task(self._renew())
            await asyncio.shield(self._renewing)
        return await channel.request(
            method, params, exchange, on_sent, capabilities=capabilities, holder=holder, clock=clock
        )

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(self.spec.start_timeout_s):
                self.channel.wire.renew()
                self.agreement = await shake_hands(self.channel, self._capabilities)
                self._adopt()
                self.loudness.forget()
                await self.subscriptions.renew()
        except TimeoutError:
            raise Unavailable(f"server {self.spec.name!r} did not renew the session in time") from None
        finally:
            self._renewing = None
        self._renewals += 1
        for kind in self.agreement.capabilities:
            self._on_changed(kind)

    def aside(self, doing: Coroutine[Any, Any, None]) -> None:
        """Do this while it is open, beside whatever else happens. `doing` raises nothing."""
        task = asyncio.create_task(doing)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    async def close(self, cause: str) -> None:
        """Never raises."""
        self._expiry.stop()
        tasks = [*self._asides, *(task for task in (self._listening, self._renewing) if task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.channel.close(cause)
