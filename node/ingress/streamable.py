"""Legacy sessions over Streamable HTTP, as agents dial it: POST, batches at 2025-03-26, GET, resumption, DELETE.

A request for a session that another node holds is carried there; initialize is always this node's own.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from node.ingress.carrying import Carriage
from node.ingress.envelope import Shape
from node.ingress.holding import Asked, Holding
from node.ingress.incoming import Incoming
from node.ingress.legacy import SESSION_ID, LegacyEdge
from node.ingress.reply import Reply
from node.ingress.settings import IngressSettings
from node.ports import Carrier


class SessionsOverHttp:
    """Each method answers one HTTP request. Without a `carrier` every session is this node's."""

    def __init__(self, edge: LegacyEdge, settings: IngressSettings, carrier: Carrier | None = None) -> None:
        self._settings = settings
        self._holding = Holding(edge, settings)
        self._carriage = None if carrier is None else Carriage(carrier, self._holding)

    async def post(self, request: web.Request, incoming: Incoming, message: Any, shape: Shape) -> web.StreamResponse:
        if shape is Shape.REQUEST and message["method"] == "initialize":
            return (await self._holding.initialize(incoming, message)).response()
        return await self._serve(request, Asked("POST", incoming, message, shape))

    async def batch(self, request: web.Request, incoming: Incoming, messages: list[Any]) -> web.StreamResponse:
        return await self._serve(request, Asked("POST", incoming, messages))

    async def get(self, request: web.Request, incoming: Incoming) -> web.StreamResponse:
        return await self._serve(request, Asked("GET", incoming))

    async def delete(self, request: web.Request, incoming: Incoming) -> web.StreamResponse:
        return await self._serve(request, Asked("DELETE", incoming))

    async def _serve(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        incoming = asked.incoming
        holder = "" if self._carriage is None else self._carriage.holder(incoming.headers.get(SESSION_ID, ""))
        # When a response becomes a stream, the session's holder knows.
        reply = Reply(request, self._settings, incoming.accepts_sse, promotes=False)
        if self._carriage is not None and holder:
            return await self._carriage.carry(holder, asked, reply)
        return await self._holding.serve(asked, reply)
