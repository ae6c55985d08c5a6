"""Catalogue changes → the search index: the router hears of what servers offer, and of nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from node.catalog import Catalog, Server
from node.facts import Offered
from proto.records import Kind
from router.ports import ToolEntry, ToolKey
from router.router import Router


class Indexing:
    """Keeps a router's entries equal to the tools, prompts, resources and templates that the catalogue lists."""

    def __init__(self, catalog: Catalog, router: Router) -> None:
        self._router = router
        catalog.listen(self._changed)

    def _changed(
        self, server: Server, kinds: frozenset[Kind], put: Sequence[Offered], deleted: Sequence[Offered]
    ) -> None:
        if put or deleted:
            puts = [entry(server, name, kind) for kind, name in put if name in server.members[kind]]
            self._router.apply(puts, [_key(server, name, kind) for kind, name in deleted])


def entry(server: Server, name: str, kind: Kind = Kind.TOOL) -> ToolEntry:
    info = server.info or {}
    member = server.members[kind][name]
    declared = info.get("serverInfo") or {}
    return ToolEntry(
        key=_key(server, name, kind),
        definition=member.definition,
        digest=member.digest,
        region=server.owner.id.region,
        server_title=str(info.get("title") or declared.get("title") or server.name),
        server_description=about(server),
        service=server.service,
        labels=info.get("labels") or {},
    )


def about(server: Server) -> str:
    """What the server is for, in its operator's words or its own; empty if nobody has said."""
    info = server.info or {}
    declared = info.get("serverInfo") or {}
    return str(info.get("description") or declared.get("description") or info.get("instructions") or "")


def _key(server: Server, name: str, kind: Kind) -> ToolKey:
    return ToolKey(server.owner.id.name, server.name, name, str(kind))
