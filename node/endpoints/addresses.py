"""Path → endpoint, and who wants to know when a list behind one changes."""

from __future__ import annotations

from collections.abc import Sequence

from node.catalog import Catalog, Server
from node.endpoints.directory import Directory
from node.endpoints.everything import PAGE_ITEMS, EverythingEndpoint
from node.endpoints.meta import MetaEndpoint
from node.endpoints.relay import Relay
from node.endpoints.server import ServerEndpoint
from node.endpoints.starting import START_WAIT_S, Starting
from node.facts import Offered
from node.gateway import Gateway
from node.ports import EVERYTHING, Action, ChangeListener, Endpoint, Guard
from proto.names import split_qualified
from proto.records import Kind, Principal

CHANGE_KINDS = {Kind.TOOL: "tools", Kind.PROMPT: "prompts", Kind.RESOURCE: "resources", Kind.TEMPLATE: "resources"}


SERVERS_KEPT = 10_000
"""Addresses of servers that were asked for, whether anything stands there or not; at the bound all are made again."""


class MeshEndpoints:
    """Path → endpoint, and who wants to know when a list behind one changes.

    `page_items`: of lists at `/mcp-all`. `start_wait_s`: so long a server that is coming up is waited for.
    """

    def __init__(
        self,
        meta: MetaEndpoint,
        catalog: Catalog,
        guard: Guard,
        gateway: Gateway,
        page_items: int = PAGE_ITEMS,
        start_wait_s: float = START_WAIT_S,
    ) -> None:
        self._meta = meta
        self._catalog = catalog
        self._guard = guard
        self._gateway = gateway
        self._directory = Directory(catalog)
        self._everything = EverythingEndpoint(catalog, guard, self._directory, Relay(gateway), page_items)
        self._starting = Starting(catalog, guard, start_wait_s)
        self._servers: dict[str, ServerEndpoint] = {}
        self._listeners: list[ChangeListener] = []
        catalog.listen(self._changed)

    def endpoint(self, name: str | None) -> Endpoint:
        if name is None:
            return self._meta
        if name == EVERYTHING:
            return self._everything
        known = self._servers.get(name)
        if known is None:
            split_qualified(name)
            if len(self._servers) >= SERVERS_KEPT:
                self._servers.clear()
            known = ServerEndpoint(name, self._catalog, self._directory, self._guard, self._gateway)
            self._servers[name] = known
        return known

    async def started(self, name: str | None, principal: Principal) -> None:
        if name is not None and name != EVERYTHING:
            await self._starting.over(name, principal)

    def subscribe_changes(self, listener: ChangeListener) -> None:
        self._listeners.append(listener)

    def unsubscribe_changes(self, listener: ChangeListener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)

    def _changed(
        self, server: Server, kinds: frozenset[Kind], put: Sequence[Offered], deleted: Sequence[Offered]
    ) -> None:
        if not self._listeners or not kinds:
            return
        changed = frozenset(CHANGE_KINDS[k] for k in kinds)

        def seen_by(principal: Principal) -> bool:
            return self._catalog.seen(server, self._guard.visible(principal, Action.LIST)) is not None

        names = frozenset({server.name, server.qualified, server.service} - {""})
        for listener in tuple(self._listeners):
            listener(names, changed, seen_by)
