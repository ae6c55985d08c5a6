"""`toolmesh://catalogue`: every server that a caller may see, one line each, as a resource of `/mcp`.

It stands outside the tools' descriptions, so that these, and with them the caches of models, never change. The text is
the same, byte for byte, until servers come, go or list something else; how they fare is not in it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from contextlib import suppress
from typing import Any

from node.catalog import Catalog, Server
from node.endpoints.listens import ACKNOWLEDGED
from node.indexing import about
from node.ports import Action, Caller, Guard, Visibility
from proto.calls import Answer, Exchange
from proto.errors import MeshError, Unknown
from proto.records import Kind
from router.documents import first_sentence

URI = "toolmesh://catalogue"
RESOURCE = {
    "uri": URI,
    "name": "catalogue",
    "title": "What there is",
    "description": "Every server within reach, one line each: what it is for and how much it offers.",
    "mimeType": "text/markdown",
}
LINE_MAX = 120
SERVERS_SHOWN = 500
"""Beyond them the rest is counted: searching is for large meshes, reading for small ones."""
SUMMARIES_KEPT = 64
"""By class of visibility; beyond it the one not asked for longest is made anew."""
SLICE = 50
"""Servers looked at before others on the loop come to their turn: a millisecond or two."""
REST_S = 1.0
"""Changes are told at most once in this time: a mesh that starts changes a thousand times."""

_COUNTED = {Kind.TOOL: "tool", Kind.PROMPT: "prompt", Kind.RESOURCE: "resource", Kind.TEMPLATE: "template"}


class Summary:
    """One for all callers of a node."""

    def __init__(self, catalog: Catalog, guard: Guard) -> None:
        self._catalog = catalog
        self._guard = guard
        self._kept: OrderedDict[Hashable, tuple[int, str]] = OrderedDict()

    def __repr__(self) -> str:
        return f"Summary({len(self._kept)} of {SUMMARIES_KEPT} kept)"

    async def read(self, uri: Any, caller: Caller) -> dict[str, Any]:
        """The result of `resources/read`. Raises `Unknown` for any other URI."""
        if uri != URI:
            raise Unknown(f"there is one resource here, {URI!r}")
        return {"contents": [{"uri": URI, "mimeType": RESOURCE["mimeType"], "text": await self.text(caller)}]}

    async def text(self, caller: Caller) -> str:
        visibility = self._guard.visible(caller.principal, Action.LIST)
        kept = self._kept.get(visibility.key)
        if kept is None or kept[0] != self._catalog.revised:
            # What changes while it is written is in the next one.
            kept = self._catalog.revised, await self._written(visibility)
            self._kept[visibility.key] = kept
        self._kept.move_to_end(visibility.key)
        if len(self._kept) > SUMMARIES_KEPT:
            self._kept.popitem(last=False)
        return kept[1]

    async def listen(self, caller: Caller, exchange: Exchange) -> Answer:
        """Tell of each change of the text as this caller sees it, until cancelled."""
        text = await self.text(caller)
        exchange.event({"method": ACKNOWLEDGED, "params": {"notifications": {"resourceSubscriptions": [URI]}}})
        while True:
            await self._catalog.change()
            await asyncio.sleep(REST_S)
            if (now := await self.text(caller)) != text:
                text = now
                exchange.event({"method": "notifications/resources/updated", "params": {"uri": URI}})

    async def _written(self, visibility: Visibility) -> str:
        """In slices: a mesh may have thousands of servers, and this runs on the loop."""
        found = set()
        for i, server in enumerate(self._catalog.servers(visibility)):
            found.add(self._catalog.shown_name(server, visibility))
            if i % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        names = sorted(found)
        lines = [f"{len(names)} server{'' if len(names) == 1 else 's'}. Find tools with search_mcp_server.", ""]
        for i, name in enumerate(names[:SERVERS_SHOWN]):
            with suppress(MeshError):
                # One that has left meanwhile has no line.
                lines.append(self._line(name, visibility))
            if i % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        if len(names) > SERVERS_SHOWN:
            lines.append(f"… and {len(names) - SERVERS_SHOWN} more: search for what a tool should do")
        return "\n".join(lines) + "\n"

    def _line(self, name: str, visibility: Visibility) -> str:
        servers = self._catalog.route(name, visibility).servers
        counts = ((len(_visible(servers, kind, visibility)), word) for kind, word in _COUNTED.items())
        offers = ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts if n)
        regions = ", ".join(sorted({s.owner.id.region for s in servers}))
        what = next((first_sentence(text, LINE_MAX) for s in servers if (text := about(s))), "")
        return f"- {name}{f': {what}' if what else ''} ({offers or 'nothing yet'}; {regions})"


def _visible(servers: tuple[Server, ...], kind: Kind, visibility: Visibility) -> set[str]:
    return {
        name for server in servers for name in server.members[kind] if visibility.allows(server.resource(name, kind))
    }
