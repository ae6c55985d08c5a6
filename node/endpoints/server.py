"""`/mcp/{name}`: one server, or one service, as if it were dialled directly."""

from __future__ import annotations

from typing import Any

from node.catalog import Catalog
from node.choosing import NAMED, not_up
from node.endpoints.capabilities import relayed
from node.endpoints.listens import nothing_to_hear
from node.gateway import Gateway
from node.ports import Action, Caller, Guard
from proto.calls import Answer, Exchange
from proto.errors import Invalid, MeshError, Unknown
from proto.records import Kind

LISTS: dict[str, tuple[str, Kind]] = {
    "tools/list": ("tools", Kind.TOOL),
    "prompts/list": ("prompts", Kind.PROMPT),
    "resources/list": ("resources", Kind.RESOURCE),
    "resources/templates/list": ("resourceTemplates", Kind.TEMPLATE),
}
NAMED_KINDS = frozenset(kind for _, kind in NAMED.values())


class ServerEndpoint:
    """`/mcp/{name}`: one server, or one service, as if it were dialled directly."""

    def __init__(self, name: str, catalog: Catalog, guard: Guard, gateway: Gateway) -> None:
        self._name = name
        self._catalog = catalog
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
            "capabilities": relayed(info.get("capabilities") or {}),
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
        member = route.member(Kind.TOOL, tool)
        if member is None or not member.header_params or not visibility.allows(route.lead.resource(tool)):
            return None
        schema = member.definition.get("inputSchema")
        return schema if isinstance(schema, dict) else None

    async def handle(self, method: str, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        listed = LISTS.get(method)
        if listed is None:
            return await self._gateway.call(self._name, method, params, caller, exchange)
        field, kind = listed
        visibility = self._guard.visible(caller.principal, Action.LIST)
        route = self._catalog.route(self._name, visibility)
        if not route.lead.introduced:
            raise not_up(route)
        family = "resources" if field == "resourceTemplates" else field
        if family not in ((route.lead.info or {}).get("capabilities") or {}):
            raise Unknown(f"server {self._name!r} offers no {family}", method=method)
        if params.get("cursor"):
            raise Invalid("params.cursor is not one that this list has given; ask for the list without a cursor")
        members = route.members(kind)
        if kind in NAMED_KINDS:
            # What a call by name would be refused is not listed either.
            members = {n: m for n, m in members.items() if visibility.allows(route.lead.resource(n))}
        return {"result": {field: [m.definition for m in members.values()]}}

    async def listen(self, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        return await nothing_to_hear(exchange)

    async def notify(self, method: str, params: dict[str, Any], caller: Caller) -> None:
        return
