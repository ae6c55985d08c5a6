"""`/mcp`: the meta-tools, through which an agent finds and uses all others, and a resource that says what there is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from node.catalog import Catalog, Route, Server
from node.choosing import not_up
from node.endpoints.aliases import Aliases
from node.endpoints.capabilities import TASKS, is_modern
from node.endpoints.relay import Relay
from node.endpoints.summary import RESOURCE, URI, Summary
from node.endpoints.using import Using
from node.experience import Experience
from node.gateway import Gateway
from node.hints import Hints
from node.ports import Action, Caller, Guard
from node.searching import Searching
from node.settings.sections import SearchSection
from node.task_ids import by_server
from proto.calls import Answer, Exchange
from proto.errors import Fault, Invalid, MeshError, ScopeRequired, Unauthenticated, Unknown
from proto.records import Kind
from router import metatools
from router.arguments import fold
from router.feedback import Feedback
from router.rendering import TOKENS_DEFAULT, render_added, render_search
from router.router import Router

INSTRUCTIONS = (
    "This server is a gateway to many others. Find a tool with search_mcp_server (one search per step of the task), "
    f"then run it with use_tool, naming the server and tool as the search shows them. The resource {URI} lists all "
    "servers."
)


@dataclass(frozen=True, slots=True)
class MetaSettings:
    """`top_k` hits unless an agent asks for another number, told in `token_budget` tokens for every five.

    `aliases` are families of other names for the tools (`router.aliases`); `read_only_tool` offers the twin of
    `use_tool`, for tools that servers matching `believe_hints` call read-only.
    """

    top_k: int = 5
    token_budget: int = TOKENS_DEFAULT
    aliases: tuple[str, ...] = ()
    read_only_tool: bool = False
    believe_hints: tuple[str, ...] = ()

    @classmethod
    def of(cls, section: SearchSection) -> MetaSettings:
        return cls(**{name: getattr(section, name) for name in cls.__slots__})


class MetaEndpoint:
    """`/mcp`: find a tool, bring a server in, use a tool. `searching` is for operators too."""

    def __init__(
        self,
        catalog: Catalog,
        guard: Guard,
        gateway: Gateway,
        router: Router,
        add: Callable[[str, Caller], Awaitable[Server]],
        settings: MetaSettings | None = None,
        feedback: Feedback | None = None,
    ) -> None:
        self._catalog = catalog
        self._guard = guard
        self._settings = settings = settings or MetaSettings()
        self._relay = Relay(gateway)
        self._add = add
        hints = Hints(settings.believe_hints, on=settings.read_only_tool)
        self.searching = Searching(catalog, guard, router, lambda: gateway.standings, hints)
        self._experience = Experience(feedback, catalog, guard)
        self._using = Using(catalog, guard, self._relay, hints, self._experience)
        self._summary = Summary(catalog, guard)
        self._aliases = Aliases(
            settings.aliases,
            catalog,
            guard,
            self.searching,
            self._using,
            self._ready,
            self._experience,
            settings.token_budget,
        )
        twin = [metatools.READ_ONLY_TOOL] if settings.read_only_tool else []
        self._tools = [*metatools.META_TOOLS, *twin, *self._aliases.tools]
        self._names = frozenset(tool["name"] for tool in self._tools)

    def describe(self, caller: Caller) -> dict[str, Any]:
        capabilities: dict[str, Any] = {
            "tools": {"listChanged": False},
            "resources": {"listChanged": False, "subscribe": True},
        }
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
        if method == "tools/call":
            return await self._call(params, caller, exchange)
        if method.startswith("tasks/") and method != "tasks/list":
            return await self._relay.task(method, params, caller, exchange)
        match method:
            case "tools/list":
                return {"result": {"tools": self._tools}}
            case "resources/list":
                return {"result": {"resources": [RESOURCE]}}
            case "resources/templates/list":
                return {"result": {"resourceTemplates": []}}
            case "resources/read":
                return {"result": await self._summary.read(params.get("uri"), caller)}
        raise Unknown(f"method {method!r} does not exist here", method=method)

    async def listen(self, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        """Of tasks that use_tool has started, and of changes of the one resource here."""
        wanted = params.get("notifications") or {}
        own = {}
        if URI in (wanted.get("resourceSubscriptions") or ()):
            own[URI] = lambda heard: self._summary.listen(caller, heard)
        return await self._relay.listen(by_server(wanted.get("taskIds")), caller, exchange, own)

    async def notify(self, method: str, params: dict[str, Any], caller: Caller) -> None:
        await self._relay.notify(method, params, caller)

    # ---- tools ----------------------------------------------------------------------------------

    async def _call(self, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        name, arguments = str(params.get("name")), params.get("arguments")
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            raise Invalid("params.arguments must be an object")
        if name not in self._names:
            name = self._meant(name)
        try:
            if name == metatools.USE:
                return await self._using.run(metatools.parse_use(arguments), params, caller, exchange)
            if name == metatools.SEARCH:
                return {"result": await self._search(arguments, caller)}
            if name == metatools.ADD:
                return {"result": await self._add_server(arguments, caller)}
            if name == metatools.READ:
                asked = metatools.parse_use(arguments, metatools.READ)
                return await self._using.run(asked, params, caller, exchange, read_only=True)
            return await self._aliases.handle(name, arguments, params, caller, exchange)
        except (Unauthenticated, ScopeRequired):
            # The client, not the model, can mend these: they stay protocol errors.
            raise
        except MeshError as e:
            return {"result": failure(e)}

    def _meant(self, name: str) -> str:
        """A meta-tool by another spelling. Raises `Invalid`: which there are is no secret, and `Unknown` is answered in
        words that cannot say it."""
        meant = metatools.SPELLINGS.get(fold(name), "")
        if meant in self._names:
            return meant
        names = ", ".join(tool["name"] for tool in self._tools)
        raise Invalid(f"no tool named {name[:100]!r} here; there are {names}, and use_tool runs what a search finds")

    async def _search(self, arguments: dict[str, Any], caller: Caller) -> dict[str, Any]:
        asked = metatools.parse_search(arguments)
        found = await self.searching.find(asked, asked.limit or self._settings.top_k, caller)
        self._experience.shown(caller, found)
        return render_search(found, detail=asked.detail, token_budget=self._settings.token_budget)

    async def _add_server(self, arguments: dict[str, Any], caller: Caller) -> dict[str, Any]:
        name = metatools.parse_add(arguments)
        route = await self._ready(name, caller)
        visibility = self._guard.visible(caller.principal, Action.LIST)
        shown = (route.shown(Kind.TOOL, name, visibility) for name in route.names(Kind.TOOL))
        tools = [member.definition for member in shown if member is not None]
        return render_added(name, tools, token_budget=self._settings.token_budget)

    async def _ready(self, name: str, caller: Caller) -> Route:
        """Where the server is, brought in if it is configured and not running. Raises `Unknown`, `Unavailable`."""
        # What is there already need not be added; `_add` decides on what is not.
        visibility = self._guard.visible(caller.principal, Action.LIST)
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
        return route


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
