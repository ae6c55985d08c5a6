"""Catalogue changes → the search index: the router hears of tools, and of nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from node.catalog import Catalog, Server
from proto.records import Kind
from router.ports import ToolEntry, ToolKey
from router.router import Router


class Indexing:
    """Keeps a router's entries equal to the catalogue's listed tools."""

    def __init__(self, catalog: Catalog, router: Router) -> None:
        self._router = router
        catalog.listen(self._changed)

    def _changed(self, server: Server, kinds: frozenset[Kind], put: Sequence[str], deleted: Sequence[str]) -> None:
        if put or deleted:
            puts = [entry(server, tool) for tool in put if tool in server.tools]
            self._router.apply(puts, [_key(server, tool) for tool in deleted])


def entry(server: Server, tool: str) -> ToolEntry:
    info = server.info or {}
    member = server.tools[tool]
    declared = info.get("serverInfo") or {}
    return ToolEntry(
        key=_key(server, tool),
        definition=member.definition,
        digest=member.digest,
        region=server.owner.id.region,
        server_title=str(info.get("title") or declared.get("title") or server.name),
        server_description=str(
            info.get("description") or declared.get("description") or info.get("instructions") or ""
        ),
        service=server.service,
        labels=info.get("labels") or {},
    )


def _key(server: Server, tool: str) -> ToolKey:
    return ToolKey(server.owner.id.name, server.name, tool)
