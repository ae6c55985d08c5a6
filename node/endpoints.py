"""What agents reach: the three meta-tools at `/mcp`, and each server, unprefixed, at `/mcp/{name}`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import Any

from node.balance import tier
from node.catalog import Catalog, Server
from node.choosing import NAMED, not_up
from node.gateway import Gateway
from node.ports import EVERYTHING, Action, Caller, ChangeListener, Endpoint, Guard, Visibility
from proto.calls import Answer, Exchange
from proto.errors import Fault, Invalid, MeshError, ScopeRequired, Unauthenticated, Unknown
from proto.names import split_qualified
from proto.records import Kind, Principal
from router import metatools
from router.ports import Filter, Hit, SearchResult, ToolEntry
from router.router import Router

log = logging.getLogger("toolmesh.endpoints")

LISTS: dict[str, tuple[str, Kind]] = {
    "tools/list": ("tools", Kind.TOOL),
    "prompts/list": ("prompts", Kind.PROMPT),
    "resources/list": ("resources", Kind.RESOURCE),
    "resources/templates/list": ("resourceTemplates", Kind.TEMPLATE),
}
NAMED_KINDS = frozenset(kind for _, kind in NAMED.values())
CHANGE_KINDS = {Kind.TOOL: "tools", Kind.PROMPT: "prompts", Kind.RESOURCE: "resources", Kind.TEMPLATE: "resources"}

INSTRUCTIONS = (
    "This server is a gateway to many others. Find a tool with search_mcp_server (one search per step of the task), "
    "then run it with use_tool, naming the server and tool as the search shows them."
)


class MetaEndpoint:
    """`/mcp`: find a tool, bring a server in, use a tool."""

    def __init__(
        self,
        catalog: Catalog,
        guard: Guard,
        gateway: Gateway,
        router: Router,
        add: Callable[[str, Caller], Awaitable[Server]],
        top_k: int,
    ) -> None:
        self._catalog = catalog
        self._guard = guard
        self._gateway = gateway
        self._router = router
        self._add = add
        self._top_k = top_k

    def describe(self, caller: Caller) -> dict[str, Any]:
        return {
            "serverInfo": {
                "name": "toolmesh",
                "title": f"toolmesh {self._catalog.me.name}",
                "version": version("toolmesh"),
            },
            "capabilities": {"tools": {"listChanged": False}},
            "instructions": INSTRUCTIONS,
        }

    async def handle(self, method: str, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        if method == "tools/list":
            return {"result": {"tools": metatools.META_TOOLS}}
        if method != "tools/call":
            raise Unknown(f"method {method!r} does not exist here", method=method)
        name, arguments = params.get("name"), params.get("arguments")
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            raise Invalid("params.arguments must be an object")
        try:
            if name == "search_mcp_server":
                return {"result": await self._search(arguments, caller)}
            if name == "add_mcp_server":
                return {"result": await self._add_server(arguments, caller)}
            if name == "use_tool":
                return await self._use(params, arguments, caller, exchange)
        except (Unauthenticated, ScopeRequired):
            # The client, not the model, can mend these: they stay protocol errors.
            raise
        except MeshError as e:
            return {"result": failure(e)}
        raise Unknown(f"no tool named {name!r} here; there are search_mcp_server, add_mcp_server and use_tool")

    async def listen(self, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        return await nothing_to_hear(exchange)

    async def notify(self, method: str, params: dict[str, Any], caller: Caller) -> None:
        """Whom it would concern is not said here."""

    async def search(self, task: str, key_words: Sequence[str], caller: Caller, k: int) -> SearchResult:
        """What the caller may see and call, best first. Raises `Invalid`."""
        visibility = self._guard.visible(caller.principal, Action.SEARCH)
        return await self._router.search(task, key_words, k=k, only=self._filter(visibility))

    def place(self, hit: Hit, visibility: Visibility) -> metatools.Place:
        """Where a hit lives, under the name by which this caller reaches it: of the owners that are up, the nearest."""
        keys = (hit.entry.key, *hit.replicas)
        servers = [s for key in keys if (s := self._catalog.find(key.owner, key.server)) is not None]
        if not servers:
            key = hit.entry.key
            return metatools.Place(server=key.server, region=hit.entry.region, node=key.owner, health="unknown")
        here = self._catalog.owners[self._catalog.me.name].place
        server = min(servers, key=lambda s: (not s.up, s.owner.draining, tier(here, s.owner.place)))
        health = (
            "up"
            if server.up
            else str(server.owner.liveness if server.owner.liveness != "alive" else server.health.get("state"))
        )
        return metatools.Place(
            server=self._catalog.shown_name(server, visibility, hit.entry.key.tool),
            region=server.owner.id.region,
            node=server.owner.id.name,
            health=health,
            replicas=len(servers),
        )

    async def _search(self, arguments: dict[str, Any], caller: Caller) -> dict[str, Any]:
        task, key_words = metatools.parse_search(arguments)
        result = await self.search(task, key_words, caller, self._top_k)
        visibility = self._guard.visible(caller.principal, Action.SEARCH)
        return metatools.render_search(result, places=lambda hit: self.place(hit, visibility))

    async def _add_server(self, arguments: dict[str, Any], caller: Caller) -> dict[str, Any]:
        name = metatools.parse_add(arguments)
        visibility = self._guard.visible(caller.principal, Action.ADD)
        try:
            route = self._catalog.route(name, visibility)
        except Unknown:
            route = None
        if route is None or not any(s.up for s in route.servers):
            try:
                await self._add(name, caller)
            except Unknown:
                if route is None:
                    raise
            route = self._catalog.route(name, visibility)
        if not any(s.up for s in route.servers):
            raise not_up(route)
        tools = [
            m.definition for tool, m in route.members(Kind.TOOL).items() if visibility.allows(route.lead.resource(tool))
        ]
        return metatools.render_added(name, tools)

    async def _use(
        self, outer: dict[str, Any], arguments: dict[str, Any], caller: Caller, exchange: Exchange
    ) -> Answer:
        server, tool, inner = metatools.parse_use(arguments)
        params: dict[str, Any] = {"name": tool, "arguments": inner}
        if "_meta" in outer:
            # Progress token, trace context and the rest belong to the call that is made, not to the wrapper.
            params["_meta"] = outer["_meta"]
        return await self._gateway.call(server, "tools/call", params, caller, exchange)

    def _filter(self, visibility: Visibility) -> Filter:
        def allows(entry: ToolEntry) -> bool:
            server = self._catalog.find(entry.key.owner, entry.key.server)
            return server is not None and visibility.allows(server.resource(entry.key.tool))

        return Filter(visibility.key, allows)


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


async def nothing_to_hear(exchange: Exchange) -> Answer:
    """A listen that honours nothing, until it is cancelled."""
    exchange.event({"method": "notifications/subscriptions/acknowledged", "params": {"notifications": {}}})
    ended: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    return await ended


def relayed(capabilities: dict[str, Any]) -> dict[str, Any]:
    """What of a server's capabilities this gateway carries today; what it cannot carry it does not promise."""
    carried: dict[str, Any] = {}
    for family in ("tools", "prompts", "resources"):
        if family in capabilities:
            carried[family] = {"listChanged": True}
    for plain in ("completions", "experimental"):
        if plain in capabilities:
            carried[plain] = capabilities[plain]
    return carried


def failure(error: MeshError) -> dict[str, Any]:
    """A refusal as a tool result, so that the model reads why and what to do."""
    message, data = error.message, error.data
    if isinstance(error, Fault):
        message, data = "internal error", {"fault_id": error.data["fault_id"]}
    detail = {**data, "kind": error.kind, "message": message}
    return {
        "content": [{"type": "text", "text": message}],
        "structuredContent": {"error": detail},
        "isError": True,
    }


class MeshEndpoints:
    """Path → endpoint, and who wants to know when a list behind one changes."""

    def __init__(self, meta: MetaEndpoint, catalog: Catalog, guard: Guard, gateway: Gateway) -> None:
        self._meta = meta
        self._catalog = catalog
        self._guard = guard
        self._gateway = gateway
        self._listeners: list[ChangeListener] = []
        catalog.listen(self._changed)

    def endpoint(self, name: str | None) -> Endpoint:
        if name is None:
            return self._meta
        if name == EVERYTHING:
            raise Unknown("/mcp-all is not served here")
        split_qualified(name)
        return ServerEndpoint(name, self._catalog, self._guard, self._gateway)

    def subscribe_changes(self, listener: ChangeListener) -> None:
        self._listeners.append(listener)

    def unsubscribe_changes(self, listener: ChangeListener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)

    def _changed(self, server: Server, kinds: frozenset[Kind], put: Sequence[str], deleted: Sequence[str]) -> None:
        if not self._listeners or not kinds:
            return
        changed = frozenset(CHANGE_KINDS[k] for k in kinds)
        resource = server.resource()

        def seen_by(principal: Principal) -> bool:
            return self._guard.visible(principal, Action.LIST).allows(resource)

        for name in {server.name, server.qualified, server.service} - {""}:
            for listener in tuple(self._listeners):
                listener(name, changed, seen_by)
