"""Docker's and ToolHive's names for the meta-tools, where a node is configured to offer them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from node.catalog import Catalog, Route
from node.endpoints.directory import Directory
from node.endpoints.labels import labelled
from node.endpoints.using import Using
from node.experience import Experience
from node.indexing import about
from node.ports import Action, Caller, Guard, Visibility
from node.searching import Searching
from proto.calls import Answer, Exchange
from proto.errors import Conflict, Unknown
from proto.names import listed_tool
from proto.records import Kind
from router import aliases
from router.arguments import Use
from router.documents import first_sentence

HITS_A_SERVER = 3
"""Tools looked at for each server that is asked for."""
TOOL_TOKENS = 200
"""What a definition costs on the average, for the saving that ToolHive's answer states."""
CANDIDATES_SHOWN = 5

Ready = Callable[[str, Caller], Awaitable[Route]]
"""Brings a server in if need be: where its tools are."""


class Aliases:
    """`offered` are keys of `router.aliases.ALIASES`."""

    def __init__(
        self,
        offered: Sequence[str],
        catalog: Catalog,
        guard: Guard,
        searching: Searching,
        using: Using,
        ready: Ready,
        experience: Experience,
        budget: int,
    ) -> None:
        self._catalog = catalog
        self._guard = guard
        self._searching = searching
        self._using = using
        self._ready = ready
        self._experience = experience
        self._budget = budget
        self._directory = Directory(catalog)
        self.tools = [tool for family in offered for tool in aliases.ALIASES[family]]
        self.names = frozenset(tool["name"] for tool in self.tools)

    async def handle(
        self, name: str, arguments: dict[str, Any], outer: dict[str, Any], caller: Caller, exchange: Exchange
    ) -> Answer:
        """One of `names`. Raises any `MeshError`."""
        match name:
            case aliases.FIND_SERVERS:
                return {"result": await self._find_servers(arguments, caller)}
            case aliases.ADD_SERVER:
                return {"result": await self._add(arguments, caller)}
            case aliases.FIND_TOOL:
                return {"result": await self._find_tool(arguments, caller)}
        called = aliases.parse_call(name, arguments)
        server, tool = self._named(called.name, self._guard.visible(caller.principal, Action.CALL))
        return await self._using.run(Use(server, tool, called.params), outer, caller, exchange)

    async def _find_servers(self, arguments: dict[str, Any], caller: Caller) -> dict[str, Any]:
        asked = aliases.parse_find_servers(arguments)
        most = asked.limit or aliases.SERVERS_FOUND
        found = await self._searching.find(asked, min(50, most * HITS_A_SERVER), caller)
        servers: dict[str, str] = {}
        for hit, place in found.usable:
            server = self._catalog.find(hit.entry.key.owner, hit.entry.key.server)
            servers.setdefault(place.server, first_sentence(about(server)) if server else "")
        return aliases.render_servers(asked.task, list(servers.items())[:most])

    async def _add(self, arguments: dict[str, Any], caller: Caller) -> dict[str, Any]:
        name = aliases.parse_add_server(arguments)
        route = await self._ready(name, caller)
        visibility = self._guard.visible(caller.principal, Action.LIST)
        tools = [
            (listed_tool(name, tool), member.definition)
            for tool in route.names(Kind.TOOL)
            if (member := route.shown(Kind.TOOL, tool, visibility)) is not None
        ]
        return aliases.render_ready(name, tools, self._budget)

    async def _find_tool(self, arguments: dict[str, Any], caller: Caller) -> dict[str, Any]:
        asked = aliases.parse_find_tool(arguments)
        found = await self._searching.find(asked, asked.limit or aliases.TOOLS_FOUND, caller)
        self._experience.shown(caller, found)
        labels = [listed_tool(place.server, hit.entry.key.tool) for hit, place in found.usable]
        return aliases.render_tools(found, labels, found.result.searched * TOOL_TOKENS, self._budget)

    def _named(self, name: str, visibility: Visibility) -> tuple[str, str]:
        """(server, tool) of SERVER__TOOL, or of a tool's bare name where one server alone has it."""
        try:
            found = labelled(Kind.TOOL, name, self._catalog, self._directory, visibility)
        except Unknown:
            rows = self._directory.rows(Kind.TOOL, visibility).rows
            having = [row.name for row in rows if name in row.members]
            if not having:
                raise Unknown(f"no tool named {name[:100]!r}; use the name that a search or mcp-add gives") from None
            if len(having) > 1:
                shown = ", ".join(listed_tool(server, name) for server in having[:CANDIDATES_SHOWN])
                raise Conflict(f"{len(having)} servers have a tool {name!r}; say which one: {shown}") from None
            return having[0], name
        return found.server, found.name
