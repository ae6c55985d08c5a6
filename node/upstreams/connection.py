"""One life of a connection to a server: opened, agreed, asked, closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from node.upstreams.channel import Channel
from node.upstreams.handshake import Agreement, Declined, shake_hands
from node.upstreams.http import HttpWire
from node.upstreams.listing import Items, list_all
from node.upstreams.modern import Modern
from node.upstreams.spec import UpstreamSpec
from node.upstreams.stdio import StdioWire
from node.upstreams.wire import SessionLost, Wire, logger
from proto.calls import Answer, Exchange
from proto.errors import MeshError, Unavailable


class Connection:
    """Built closed. `open` may raise; `close` must be called in any case."""

    def __init__(self, spec: UpstreamSpec, on_changed: Callable[[str], None]) -> None:
        self.spec = spec
        wire: Wire = StdioWire(spec) if spec.command else HttpWire(spec)
        self.channel = Channel(spec.name, wire, on_changed)
        self.agreement = Agreement("")
        self._on_changed = on_changed
        self._modern: Modern | None = None
        self._listening: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._renewals = 0

    def __repr__(self) -> str:
        return f"Connection({self.channel!r} {self.agreement.protocol_version or 'not agreed'})"

    async def open(self) -> None:
        """Raises a `MeshError` whose message is a cause that a person can act on."""
        await self.channel.open()
        try:
            await self._agree()
        except MeshError as e:
            if self.channel.gone.done():
                raise Unavailable(f"{self.channel.gone.result()} during start{self._last_words()}") from e
            raise Unavailable(e.message) from e

    async def _agree(self) -> None:
        try:
            self.agreement = await shake_hands(self.channel)
        except Declined as declined:
            self._modern = Modern(self.channel)
            try:
                self.agreement = await self._modern.discover()
            except MeshError as e:
                logger.debug("server %s: is not a modern one either: %s", self.spec.name, e)
                raise declined from e
            self._listening = asyncio.create_task(self._modern.listen(self.agreement.capabilities, self._on_changed))

    def _last_words(self) -> str:
        words = self.channel.wire.last_words()
        return f"; last stderr line: {words}" if words else ""

    def epitaph(self) -> str:
        """Why it is gone, in words for a person."""
        return f"{self.channel.gone.result()}{self._last_words()}"

    async def lists(self, wanted: Iterable[str]) -> dict[str, Items]:
        """By field of `Offer`, for the `wanted` capabilities. Raises as the channel does."""
        found = await list_all(self.channel, self.agreement.capabilities, wanted)
        if self._modern is not None and "tools" in found:
            found["tools"] = self._modern.adopt_tools(found["tools"])
        return found

    async def request(
        self,
        method: str,
        params: dict[str, Any],
        exchange: Exchange | None = None,
        on_sent: Callable[[], None] | None = None,
    ) -> Answer:
        """As `Channel.request`; a lost session is renewed once, since the server then has run nothing."""
        if self._renewing is not None:
            await asyncio.shield(self._renewing)
        seen = self._renewals
        try:
            return await self.channel.request(method, params, exchange, on_sent)
        except SessionLost as e:
            logger.info("server %s: %s; shaking hands again", self.spec.name, e)
        if self._renewals == seen:
            # One handshake for all who lost the session, and none of them takes it along when cancelled.
            if self._renewing is None:
                self._renewing = asyncio.create_task(self._renew())
            await asyncio.shield(self._renewing)
        return await self.channel.request(method, params, exchange, on_sent)

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(self.spec.start_timeout_s):
                self.channel.wire.renew()
                self.agreement = await shake_hands(self.channel)
        except TimeoutError:
            raise Unavailable(f"server {self.spec.name!r} did not renew the session in time") from None
        finally:
            self._renewing = None
        self._renewals += 1
        for kind in self.agreement.capabilities:
            self._on_changed(kind)

    async def close(self, cause: str) -> None:
        """Never raises."""
        tasks = [task for task in (self._listening, self._renewing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.channel.close(cause)
