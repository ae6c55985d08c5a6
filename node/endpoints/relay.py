"""Calls to one of many servers behind an address that stands for them all."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from node import task_ids
from node.endpoints.listens import Listen, merged, nothing_to_hear
from node.gateway import Gateway
from node.ports import Caller
from proto.calls import Answer, Exchange
from proto.errors import Exhausted, MeshError

log = logging.getLogger("toolmesh.endpoints")

SESSIONS_MAX = 10_000
"""Sessions whose servers are remembered; beyond it the one that called longest ago is forgotten."""
VISITED_MAX = 64
"""Servers remembered of one session; beyond it the one called longest ago is forgotten."""
LISTENED_MAX = 64
"""Servers that one listen may concern; more are refused."""


class Relay:
    """Ids of tasks are addressed on their way out; a client's notifications go where its calls have been."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._visited: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()

    def __repr__(self) -> str:
        return f"Relay({len(self._visited)} sessions)"

    async def call(
        self, server: str, method: str, params: dict[str, Any], caller: Caller, exchange: Exchange
    ) -> Answer:
        """Raises any `MeshError`."""
        self._remember(caller.session_key, server)
        answer = await self._gateway.call(server, method, params, caller, task_ids.TaskExchange(server, exchange))
        return task_ids.outward(server, method, answer)

    async def task(self, method: str, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        """A method about a task, whose id says where it runs. Raises any `MeshError`."""
        server, inner = task_ids.split(params)
        return await self.call(server, method, inner, caller, exchange)

    async def listen(
        self,
        asked: dict[str, dict[str, Any]],
        caller: Caller,
        exchange: Exchange,
        own: Mapping[str, Listen] | None = None,
    ) -> Answer:
        """Server → what `notifications` are asked of it; task ids in `asked` and in what comes back are addressed.

        `own` are listens of the endpoint's own, each under a name that no server has.
        """
        if not asked and not own:
            return await nothing_to_hear(exchange)
        if len(asked) > LISTENED_MAX:
            raise Exhausted(
                f"the resources and tasks named lie at {len(asked)} servers; at most {LISTENED_MAX} a listen"
            )
        listens = {server: self._listening(server, what, caller) for server, what in asked.items()}
        return await merged({**listens, **(own or {})}, exchange)

    async def notify(self, method: str, params: dict[str, Any], caller: Caller) -> None:
        """To the servers that the caller's session has called. What one of them does not take is not told."""
        servers = list(self._visited.get(caller.session_key, ()))
        told = (self._gateway.tell(server, method, params, caller) for server in servers)
        for server, failed in zip(servers, await asyncio.gather(*told, return_exceptions=True), strict=True):
            if isinstance(failed, MeshError):
                log.debug("%s was not passed on to %r: %s", method, server, failed.message)
            elif isinstance(failed, BaseException):
                raise failed

    def _listening(self, server: str, what: dict[str, Any], caller: Caller) -> Listen:
        async def listen(exchange: Exchange) -> Answer:
            params = {"notifications": what}
            return await self._gateway.listen(server, params, caller, task_ids.TaskExchange(server, exchange))

        return listen

    def _remember(self, session: str, server: str) -> None:
        if not session:
            return
        visited = self._visited.setdefault(session, OrderedDict())
        self._visited.move_to_end(session)
        visited[server] = None
        visited.move_to_end(server)
        if len(visited) > VISITED_MAX:
            visited.popitem(last=False)
        if len(self._visited) > SESSIONS_MAX:
            self._visited.popitem(last=False)
