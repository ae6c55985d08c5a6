"""`/mcp/{name}`: one server, or one service, as if it were dialled directly."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from node.catalog import Catalog
from node.choosing import not_up
from node.endpoints.capabilities import promised
from node.endpoints.directory import Directory
from node.endpoints.listens import nothing_to_hear
from node.endpoints.paging import cursor, position
from node.gateway import Gateway
from node.ports import Action, Caller, Guard
from proto.calls import Answer, Exchange
from proto.errors import MeshError, Unknown
from proto.records import Kind

LISTS: dict[str, tuple[str, Kind]] = {
    "tools/list": ("tools", Kind.TOOL),
    "prompts/list": ("prompts", Kind.PROMPT),
    "resources/list": ("resources", Kind.RESOURCE),
    "resources/templates/list": ("resourceTemplates", Kind.TEMPLATE),
}
PAGE_ITEMS = 10_000
"""One page up to here, more than a server's list may hold: an agent that dials one server expects to see it whole,
and many never ask for a second page. Only a service whose owners differ much has more."""


class ServerEndpoint:
    """`/mcp/{name}`: one server, or one service, as if it were dialled directly."""

    def __init__(self, name: str, catalog: Catalog, directory: Directory, guard: Guard, gateway: Gateway) -> None:
        self._name = name
        self._catalog = catalog
        self._directory = directory
        self._guard = guard
        self._gateway = gateway

    def describe(self, caller: Caller) -> dict[str, Any]:
        route = self._catalog.route(self._name, self._guard.visible(caller.principal, Action.LIST))
        if not any(s.introduced for s in route.servers):
            # Answered now, it would be as a server without capabilities, for as long as the session lasts.
            raise not_up(route)
        info = route.lead.info or {}
        described = {
            "serverInfo": info.get("serverInfo") or {"name": self._name, "version": "0"},
            "capabilities": promised(info, caller.era),
        }
        if info.get("instructions"):
            described["instructions"] = info["instructions"]
        return described

    def header_schema(self, tool: str, caller: Caller) -> dict[str, Any] | None:
        """The tool's inputSchema if it mirrors parameters into headers and this caller may see it, else None."""
        visibility = self._guard.visible(caller.principal, Action.CALL)
        try:
            route = self._catalog.route(self._name, visibility)
        except MeshError:
            # The call itself, which follows, is refused for the same reason, in its own words.
            return None
        # Almost no tool has any: what this caller may see of it need not be asked.
        if not any(m.header_params for s in route.servers if (m := s.members[Kind.TOOL].get(tool)) is not None):
            return None
        member = route.shown(Kind.TOOL, tool, visibility)
        if member is None or not member.header_params:
            return None
        schema = member.definition.get("inputSchema")
        return schema if isinstance(schema, dict) else None

    async def handle(self, method: str, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        listed = LISTS.get(method)
        if listed is None:
            return await self._gateway.call(self._name, method, params, caller, exchange)
        return {"result": self._list(method, params, *listed, caller)}

    async def listen(self, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        asked = params.get("notifications") or {}
        if "resourceSubscriptions" in asked and not self._subscribes(caller):
            asked = {key: value for key, value in asked.items() if key != "resourceSubscriptions"}
            if not asked and "_meta" not in params:
                return await nothing_to_hear(exchange)
        return await self._gateway.listen(self._name, {**params, "notifications": asked}, caller, exchange)

    async def notify(self, method: str, params: dict[str, Any], caller: Caller) -> None:
        await self._gateway.tell(self._name, method, params, caller)

    def _list(self, method: str, params: dict[str, Any], field: str, kind: Kind, caller: Caller) -> dict[str, Any]:
        visibility = self._guard.visible(caller.principal, Action.LIST)
        route = self._catalog.route(self._name, visibility)
        if not route.lead.introduced:
            raise not_up(route)
        family = "resources" if field == "resourceTemplates" else field
        if family not in ((route.lead.info or {}).get("capabilities") or {}):
            raise Unknown(f"server {self._name!r} offers no {family}", method=method)
        row = self._directory.row(self._name, kind, visibility)
        after = position(params, method, self._name, 1)
        if after is None and len(row.members) <= PAGE_ITEMS:
            return {field: row.definitions}
        start = 0 if after is None else bisect_right(row.ordered, after[0])
        page = row.ordered[start : start + PAGE_ITEMS]
        result: dict[str, Any] = {field: [row.members[name].definition for name in page]}
        if start + len(page) < len(row.ordered):
            result["nextCursor"] = cursor(method, self._name, (page[-1],))
        return result

    def _subscribes(self, caller: Caller) -> bool:
        route = self._catalog.route(self._name, self._guard.visible(caller.principal, Action.LIST))
        resources = ((route.lead.info or {}).get("capabilities") or {}).get("resources")
        return isinstance(resources, dict) and resources.get("subscribe") is True
