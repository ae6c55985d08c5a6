"""Resources that clients listen to, subscribed to once at a server of before 2026-07-28 for all who do."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Protocol

from node.upstreams.channel import Channel
from node.upstreams.handshake import say_error
from node.upstreams.wire import logger
from proto.calls import Answer
from proto.errors import MeshError

URIS_MAX = 10_000
"""On one session; a listener is told that further ones are not honoured."""
TURNS = 8
"""So many requests at once; what is asked about one URI is asked in order, or the last word might come first."""


class Request(Protocol):
    """One of our own; a lost session is renewed."""

    async def __call__(self, method: str, params: dict[str, Any], /) -> Answer: ...


class Subscriptions:
    """Counted by URI: `resources/subscribe` with the first, `resources/unsubscribe` after the last."""

    def __init__(self, channel: Channel, request: Request) -> None:
        self.allowed = False
        """The server declares `resources.subscribe`."""
        self._channel = channel
        self._request = request
        self._counts: Counter[str] = Counter()
        self._turns = tuple(asyncio.Lock() for _ in range(TURNS))

    def __repr__(self) -> str:
        return f"Subscriptions({len(self._counts)} resources)"

    async def add(self, uri: str) -> bool:
        """Whether the server honours it. Raises as the channel does."""
        if not self.allowed or (uri not in self._counts and len(self._counts) >= URIS_MAX):
            return False
        async with self._turn(uri):
            if uri not in self._counts and not await self._ask(self._request, "resources/subscribe", uri):
                return False
            self._counts[uri] += 1
            return True

    async def drop(self, uri: str) -> None:
        """One less. Never raises."""
        async with self._turn(uri):
            self._counts[uri] -= 1
            if self._counts[uri] > 0:
                return
            del self._counts[uri]
            if not self._channel.gone.done():
                try:
                    await self._ask(self._request, "resources/unsubscribe", uri)
                except MeshError as e:
                    logger.debug("server %s: %s could not be unsubscribed from: %s", self._channel.name, uri, e)

    async def renew(self) -> None:
        """The same for a new session of the same connection. What the server no longer honours stays unheard."""
        await asyncio.gather(*(self._renew(uri) for uri in tuple(self._counts)))

    async def _renew(self, uri: str) -> None:
        async with self._turn(uri):
            await self._ask(self._channel.request, "resources/subscribe", uri)

    def _turn(self, uri: str) -> asyncio.Lock:
        return self._turns[hash(uri) % TURNS]

    async def _ask(self, request: Request, method: str, uri: str) -> bool:
        answer = await request(method, {"uri": uri})
        if "error" in answer:
            said = say_error(answer["error"])
            logger.debug("server %s: declined %s of %s: %s", self._channel.name, method, uri, said)
        return "error" not in answer
