"""Path → endpoint, and who wants to know when a list behind one changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from node.catalog import Catalog, Server
from node.endpoints.directory import Directory
from node.endpoints.everything import PAGE_ITEMS, EverythingEndpoint
from node.endpoints.meta import MetaEndpoint
from node.endpoints.relay import Relay
from node.endpoints.server import ServerEndpoint
from node.endpoints.starting import START_WAIT_S, Starting
from node.facts import Offered
from node.gateway import Gateway
from node.guard.governed import EMPTY, Governed
from node.guard.shifts import shift
from node.ports import EVERYTHING, Action, ChangeListener, Endpoint, Guard
from proto.names import split_qualified
from proto.records import Kind, Principal

CHANGE_KINDS = {Kind.TOOL: "tools", Kind.PROMPT: "prompts", Kind.RESOURCE: "resources", Kind.TEMPLATE: "resources"}
_ALL_KINDS = frozenset(CHANGE_KINDS.values())

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
        self._governed = EMPTY
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

    def govern(self, governed: Governed) -> None:
        """Tell whoever listens that lists may show something else now. To be called once the guard goes by it.

        What a server shows can have changed for those who do not see it any more, so nobody is left out by that.
        """
        before, self._governed = self._governed, governed
        servers, keys = shift(before, governed)
        if servers is None:
            self._tell(None, _ALL_KINDS, None)
            return
        for name in servers:
            if names := self._names_of(name):
                self._tell(names, _ALL_KINDS, None)
        if keys:
            self._tell(None, _ALL_KINDS, lambda principal: principal.kind == "key" and principal.subject in keys)

    def _names_of(self, bare: str) -> frozenset[str]:
        owned = (owner.servers.get(bare) for owner in self._catalog.owners.values())
        return frozenset(name for server in owned if server is not None for name in _names(server))

    def _changed(
        self, server: Server, kinds: frozenset[Kind], put: Sequence[Offered], deleted: Sequence[Offered]
    ) -> None:
        if not self._listeners or not kinds:
            return
        changed = frozenset(CHANGE_KINDS[k] for k in kinds)

        def seen_by(principal: Principal) -> bool:
            return self._catalog.seen(server, self._guard.visible(principal, Action.LIST)) is not None

        self._tell(_names(server), changed, seen_by)

    def _tell(
        self, names: frozenset[str] | None, kinds: frozenset[str], seen_by: Callable[[Principal], bool] | None
    ) -> None:
        for listener in tuple(self._listeners):
            listener(names, kinds, seen_by)


def _names(server: Server) -> frozenset[str]:
    return frozenset({server.name, server.qualified, server.service} - {""})
