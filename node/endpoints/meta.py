"""`/mcp`: the three meta-tools, through which an agent finds and uses all others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import Any

from node.balance import tier
from node.catalog import Catalog, Server
from node.choosing import not_up
from node.endpoints.capabilities import TASKS, is_modern
from node.endpoints.near import did_you_mean, near
from node.endpoints.relay import Relay
from node.gateway import Gateway
from node.ports import Action, Caller, Guard, Visibility
from node.task_ids import by_server
from proto.calls import Answer, Exchange
from proto.errors import Fault, Invalid, MeshError, ScopeRequired, Unauthenticated, Unknown
from proto.records import Kind
from router import metatools
from router.ports import Filter, Hit, SearchResult, ToolEntry
from router.router import Router

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
        self._relay = Relay(gateway)
        self._router = router
        self._add = add
        self._top_k = top_k

    def describe(self, caller: Caller) -> dict[str, Any]:
        capabilities: dict[str, Any] = {"tools": {"listChanged": False}}
        if is_modern(caller.era):
            # A tool that use_tool runs may become a task, of which the methods then ask here.
            capabilities["extensions"] = {TASKS: {}}
        return {
            "serverInfo": {
                "name": "toolmesh",
                "title": f"toolmesh {self._catalog.me.name}",
                "version": version("toolmesh"),
            },
            "capabilities": capabilities,
            "instructions": INSTRUCTIONS,
        }

    async def handle(self, method: str, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        if method == "tools/list":
            return {"result": {"tools": metatools.META_TOOLS}}
        if method.startswith("tasks/") and method != "tasks/list":
            return await self._relay.task(method, params, caller, exchange)
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
        """Of tasks that use_tool has started; there is nothing else here to hear of."""
        return await self._relay.listen(by_server((params.get("notifications") or {}).get("taskIds")), caller, exchange)

    async def notify(self, method: str, params: dict[str, Any], caller: Caller) -> None:
        await self._relay.notify(method, params, caller)

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
        # Progress token, trace context, a task or a further round belong to the call that is made, not to the wrapper.
        params = {key: value for key, value in outer.items() if key not in ("name", "arguments")}
        try:
            return await self._relay.call(
                server, "tools/call", {"name": tool, "arguments": inner, **params}, caller, exchange
            )
        except Unknown as e:
            raise Unknown(e.message + did_you_mean(self._near(server, tool, caller)), **e.data) from None

    def _near(self, server: str, tool: str, caller: Caller) -> list[str]:
        """What may have been meant by a server or a tool that there is none of, of what the caller may see."""
        visibility = self._guard.visible(caller.principal, Action.CALL)
        try:
            route = self._catalog.route(server, visibility)
        except MeshError:
            names = (self._catalog.shown_name(s, visibility) for s in self._catalog.servers(visibility))
            return near(server, names)
        tools = (name for name in route.members(Kind.TOOL) if visibility.allows(route.lead.resource(name)))
        return near(tool, tools)

    def _filter(self, visibility: Visibility) -> Filter:
        def allows(entry: ToolEntry) -> bool:
            server = self._catalog.find(entry.key.owner, entry.key.server)
            return server is not None and visibility.allows(server.resource(entry.key.tool))

        return Filter(visibility.key, allows)


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
