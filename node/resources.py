"""What a server offers, as a guard is asked about it: made once for each definition, not once for each call."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from node.facts import hints
from node.ownership import Ownership, ownership_of
from node.ports import Resource
from proto.records import Kind

if TYPE_CHECKING:
    from node.catalog import Server


class Resources:
    """Of one server, until it lists something else or says something else of itself."""

    __slots__ = ("_known", "_owned", "_state")

    def __init__(self) -> None:
        self._state: Hashable = None
        self._owned = Ownership()
        self._known: dict[tuple[Kind, str], Resource] = {}

    def of(self, server: Server, kind: Kind, name: str) -> Resource:
        """`name` is empty for the server as a whole."""
        # A node that was issued anew in another region keeps its name.
        state = server.revision, server.owner.id
        if self._state != state:
            self._state, self._owned, self._known = state, ownership_of(server.info or {}), {}
        known = self._known.get((kind, name))
        if known is None:
            known = self._make(server, kind, name)
            # Names that callers make up are not kept.
            if not name or name in server.members[kind]:
                self._known[kind, name] = known
        return known

    def _make(self, server: Server, kind: Kind, name: str) -> Resource:
        info, owned = server.info or {}, self._owned
        offered = server.members[kind].get(name) if kind is Kind.TOOL else None
        return Resource(
            server=server.name,
            owner=server.owner.id.name,
            region=server.owner.id.region,
            tool=name,
            labels=info.get("labels") or {},
            kind=kind.value if name else "server",
            tenant=owned.tenant,
            teams=owned.teams,
            service=info.get("service") or "",
            annotations=hints(offered.definition) if offered is not None else {},
            scopes=owned.scopes_of(name),
        )
