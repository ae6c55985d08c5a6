"""What a server offers, as a guard is asked about it: made once for each definition, not once for each call."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from node.facts import hints
from node.ownership import Ownership, ownership_of
from node.ports import Resource, Visibility
from proto.records import Kind

if TYPE_CHECKING:
    from node.catalog import Server


SEEN_MAX = 20_000
"""Servers and classes of callers; at the bound all are forgotten and looked at again."""

_OFFERED = (Kind.TOOL, Kind.PROMPT, Kind.RESOURCE, Kind.TEMPLATE)


class Resources:
    """Of one server, until it lists something else or says something else of itself."""

    __slots__ = ("_known", "_owned", "_state")

    def __init__(self) -> None:
        self._state: Hashable = None
        self._owned = Ownership()
        self._known: dict[tuple[Kind, str], Resource] = {}

    def of(self, server: Server, kind: Kind, name: str, template: str = "") -> Resource:
        """`name` is empty for the server as a whole; `template` is the one that makes a URI which is not listed."""
        # A node that was issued anew in another region keeps its name.
        state = server.revision, server.owner.id
        if self._state != state:
            self._state, self._owned, self._known = state, ownership_of(server.info or {}), {}
        known = self._known.get((kind, name))
        if known is None:
            made_by = self.of(server, Kind.TEMPLATE, template) if template else None
            known = self._make(server, kind, name, made_by)
            # Names that callers make up are not kept.
            if known.listed:
                self._known[kind, name] = known
        return known

    def _make(self, server: Server, kind: Kind, name: str, template: Resource | None) -> Resource:
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
            scopes=tuple(dict.fromkeys((*owned.scopes_of(name), *(template.scopes if template is not None else ())))),
            template=template,
            listed=not name or name in server.members[kind],
        )


class Sight:
    """By which of its parts a server is seen: a caller who may use one tool of it sees the server, and that tool."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[Hashable, Resource | None]] = {}

    def seen(self, server: Server, visibility: Visibility) -> Resource | None:
        """The server itself, or the first thing that it offers to such a caller; None: it is not seen."""
        whole = server.resource()
        if visibility.allows(whole):
            return whole
        key, mark = (server.owner.id.name, server.name, visibility.key), (server.revision, server.owner.id)
        known = self._known.get(key)
        if known is None or known[0] != mark:
            if len(self._known) >= SEEN_MAX:
                self._known.clear()
            known = self._known[key] = mark, _first(server, visibility)
        return known[1]


def _first(server: Server, visibility: Visibility) -> Resource | None:
    offered = (server.resource(name, kind) for kind in _OFFERED for name in server.members[kind])
    return next((resource for resource in offered if visibility.allows(resource)), None)
