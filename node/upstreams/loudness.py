"""How much a server of before 2026-07-28 is asked to log in one session: as much as its loudest listener wants."""

from __future__ import annotations

import asyncio
from typing import Any

from node.upstreams.channel import LOG_LEVEL
from node.upstreams.subscribing import Request
from node.upstreams.wire import logger
from proto.errors import MeshError

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")  # RFC 5424 §6.2.1


def level_in(params: dict[str, Any]) -> str:
    """The level that a request asks for in its `_meta` (MCP 2026-07-28); empty for none, or one that is unknown."""
    meta = params.get("_meta")
    level = meta.get(LOG_LEVEL) if isinstance(meta, dict) else None
    return level if level in LEVELS else ""


class Loudness:
    """`logging/setLevel` once for each step louder. It never goes back: a quieter client's edge filters for it."""

    def __init__(self, name: str, request: Request) -> None:
        self.allowed = False
        """The server declares `logging`."""
        self._name = name
        self._request = request
        self._level = ""
        self._setting = asyncio.Lock()

    def __repr__(self) -> str:
        return f"Loudness({self._level or 'as the server likes'})"

    async def ensure(self, level: str) -> None:
        """At least as loud as `level`. What the server thinks of it is its own affair, and only noted."""
        if self._loud_enough(level):
            return
        async with self._setting:
            if self._loud_enough(level):
                return
            try:
                answer = await self._request("logging/setLevel", {"level": level})
            except MeshError as e:
                logger.debug("server %s: its log level could not be set: %s", self._name, e)
                return
            if "error" in answer:
                logger.debug("server %s: declined the log level %s: %r", self._name, level, answer["error"])
            self._level = level

    def forget(self) -> None:
        """A new session has the server's own level again."""
        self._level = ""

    def _loud_enough(self, level: str) -> bool:
        return not self.allowed or (bool(self._level) and LEVELS.index(self._level) <= LEVELS.index(level))
