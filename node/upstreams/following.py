"""Changed lists of a server at a `url` that speaks both eras.

Where its main session is of the older era (over a WebSocket, or where there may be but one session), it may not hear:
some servers tell of changes those alone who listen as 2026-07-28 has it. So the connection in which such a server is
spoken to in that era is opened with the main session and kept beside it. For a command that would be a second
process; its changes are heard in that era while a client has the connection open.
"""

from __future__ import annotations

import asyncio
from typing import Any

from node.upstreams.backoff import Backoff
from node.upstreams.channel import LIST_CHANGED
from node.upstreams.era import Transport
from node.upstreams.offer import Offer
from node.upstreams.pool import MODERN
from node.upstreams.sessions import Sessions
from node.upstreams.spec import UpstreamSpec
from node.upstreams.wire import logger
from proto.errors import MeshError

REOPEN_FIRST_S = 1.0


class Following:
    """Of one server, whose sessions these are. They hear of the changes; this only keeps one of them open."""

    def __init__(self, spec: UpstreamSpec, sessions: Sessions) -> None:
        self._spec = spec
        self._sessions = sessions
        self._following: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Following({'on' if self._following is not None else 'off'})"

    def offered(self, offer: Offer, transport: Transport, *, both_eras: bool) -> None:
        """What the server offers now. Begins, goes on or ends accordingly."""
        up = offer.health.state == "up"
        wanted = bool(self._spec.url) and up and both_eras and _announces(offer.modern_capabilities)
        if wanted and self._following is None:
            self._following = asyncio.create_task(self._follow(transport), name=f"lists of {self._spec.name}")
        elif not wanted and self._following is not None:
            self._following.cancel()
            self._following = None

    async def stop(self) -> None:
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self, transport: Transport) -> None:
        backoff = Backoff(first_s=REOPEN_FIRST_S)
        while True:
            try:
                slot, connection = await self._sessions.take(MODERN, "", {}, None, transport, listens=True)
            except MeshError as e:
                logger.debug("server %s: its changes cannot be heard in both eras: %s", self._spec.name, e)
            else:
                try:
                    await asyncio.shield(connection.channel.gone)
                finally:
                    self._sessions.release(slot, listens=True)
            await asyncio.sleep(backoff.next_s())


def _announces(capabilities: dict[str, Any]) -> bool:
    return any(
        isinstance(said := capabilities.get(kind), dict) and said.get("listChanged") is True
        for kind in LIST_CHANGED.values()
    )
