"""What a caller may see, under the names by which it is reached: kept from one request to the next.

A row is one name (a service, a server's bare name, or NAME--NODE) and what stands behind it of one kind. Rows are
found again when the catalogue has changed in a way that lists can show, each is worked out when somebody looks at it,
and one that nothing has happened to is kept: a page costs what it holds, whatever the mesh holds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from functools import cached_property
from heapq import merge
from operator import attrgetter
from typing import Any, NamedTuple

from node.catalog import Catalog, Member, Route, Server
from node.choosing import NAMED
from node.endpoints.templates import origin_of
from node.ports import Visibility
from proto.names import listed_tool
from proto.records import Kind

ROWS_KEPT = 256
"""Sets of rows, one for each kind and class of visibility; beyond it the one not asked for longest is forgotten."""

ROWS_ALONE_KEPT = 4_096
"""Rows of servers that were asked for by name; bounded alike."""

NAMED_KINDS = frozenset(kind for _, kind in NAMED.values())
"""Kinds that are called by name: beside others they are listed as `SERVER__NAME`."""

_name = attrgetter("name")


class Row:
    """Of one kind, what one name offers to one class of callers. `apart`: only what that service's owners do not share.

    Members of a service that differ from what most say of the same name are reached under their qualified names.
    """

    def __init__(
        self, name: str, route: Route, kind: Kind, visibility: Visibility, apart: Route | None, mark: Hashable
    ) -> None:
        self.name = name
        self.route = route
        self.kind = kind
        self.mark = mark
        self._visibility = visibility
        self._apart = apart

    def __repr__(self) -> str:
        return f"Row({self.name} {self.kind})"

    @cached_property
    def members(self) -> dict[str, Member]:
        """By name, in the servers' own order: the same at every time and on every node that knows the same."""
        visibility = self._visibility
        found = ((name, self.route.shown(self.kind, name, visibility)) for name in self.route.names(self.kind))
        members = {name: member for name, member in found if member is not None}
        if (service := self._apart) is None:
            return members
        agreed = {name: service.shown(self.kind, name, visibility) for name in members}
        return {n: m for n, m in members.items() if (other := agreed[n]) is None or other.digest != m.digest}

    @cached_property
    def definitions(self) -> list[dict[str, Any]]:
        """Of the members, in their order: one list for all who ask."""
        return [member.definition for member in self.members.values()]

    @cached_property
    def ordered(self) -> Sequence[str]:
        return sorted(self.members)

    @cached_property
    def labels(self) -> dict[str, str]:
        """Name as listed beside others (`SERVER__NAME`) → name. Of two that would be listed alike the one that needed
        no rewriting counts, else the first."""
        written = [(listed_tool(self.name, name), name) for name in self.ordered]
        labels = {label: name for label, name in written if label == f"{self.name}__{name}"}
        for label, name in written:
            labels.setdefault(label, name)
        return labels

    @cached_property
    def label_of(self) -> dict[str, str]:
        """Name → as listed; without those whose label another has."""
        return {name: label for label, name in self.labels.items()}

    @cached_property
    def origins(self) -> frozenset[str]:
        """Of the URIs and templates."""
        return frozenset(map(origin_of, self.members))


class Named(NamedTuple):
    """What `name` means; of a member of a service that is reached `apart` from it, that service."""

    name: str
    route: Route
    apart: Route | None


class Place(NamedTuple):
    """One thing in a list of everything: `name` as its server has it, found in `row`."""

    row: Row
    name: str


class Rows:
    """All rows of one kind for one class of callers, by name."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.by_name = {row.name: row for row in rows}

    def after(self, row: str, name: str) -> Iterator[Place]:
        """What follows a thing, row by row, each in order; the beginning follows ("", "")."""
        first = bisect_left(self.rows, row, key=_name)
        for found in self.rows[first:]:
            ordered = found.ordered
            start = bisect_right(ordered, name) if found.name == row else 0
            for i in range(start, len(ordered)):
                yield Place(found, ordered[i])

    def merged_after(self, name: str | None = None) -> Iterator[Place]:
        """All names in one order, each once: of two rows with the same name the first counts."""

        def rest(at: int, row: Row) -> Iterator[tuple[str, int]]:
            ordered = row.ordered
            for i in range(0 if name is None else bisect_right(ordered, name), len(ordered)):
                yield ordered[i], at

        last = None
        for found, at in merge(*(rest(at, row) for at, row in enumerate(self.rows))):
            if found != last:
                last = found
                yield Place(self.rows[at], found)


class Directory:
    """One for all callers of a node."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._alone: OrderedDict[tuple[str, Kind, Hashable], Row] = OrderedDict()
        self._kept: OrderedDict[tuple[Kind, Hashable], tuple[int, Rows]] = OrderedDict()
        self._routes: OrderedDict[Hashable, tuple[int, list[Named]]] = OrderedDict()

    def __repr__(self) -> str:
        return f"Directory({len(self._kept)} of {ROWS_KEPT} sets of rows)"

    def rows(self, kind: Kind, visibility: Visibility) -> Rows:
        """What callers of this visibility find under each name that offers something of this kind."""
        key = (kind, visibility.key)
        kept = self._kept.get(key)
        if kept is not None and kept[0] == self._catalog.revised:
            self._kept.move_to_end(key)
            return kept[1]
        rows = self._found(kind, visibility, kept[1].by_name if kept is not None else {})
        self._kept[key] = self._catalog.revised, rows
        self._kept.move_to_end(key)
        if len(self._kept) > ROWS_KEPT:
            self._kept.popitem(last=False)
        return rows

    def row(self, name: str, kind: Kind, visibility: Visibility) -> Row:
        """What of one kind stands behind one name. Raises what `Catalog.route` raises."""
        route = self._catalog.route(name, visibility)
        key, mark = (name, kind, visibility.key), _mark(route.servers)
        row = self._alone.get(key)
        if row is None or row.mark != mark:
            row = self._alone[key] = Row(name, route, kind, visibility, None, mark)
            if len(self._alone) > ROWS_ALONE_KEPT:
                self._alone.popitem(last=False)
        self._alone.move_to_end(key)
        return row

    def _named(self, visibility: Visibility) -> list[Named]:
        """Every name by which something is reached, each once."""
        kept = self._routes.get(visibility.key)
        if kept is None or kept[0] != self._catalog.revised:
            kept = self._routes[visibility.key] = self._catalog.revised, list(self._names(visibility))
            if len(self._routes) > ROWS_KEPT:
                self._routes.popitem(last=False)
        return kept[1]

    def _names(self, visibility: Visibility) -> Iterator[Named]:
        seen = set()
        for server in self._catalog.servers(visibility):
            name = self._catalog.shown_name(server, visibility)
            route = self._catalog.route(name, visibility)
            if name not in seen:
                seen.add(name)
                yield Named(name, route, None)
            if len(route.servers) > 1:
                yield Named(server.qualified, Route(server.qualified, (server,)), route)

    def _found(self, kind: Kind, visibility: Visibility, before: dict[str, Row]) -> Rows:
        rows = []
        for name, route, apart in self._named(visibility):
            if not any(s.members[kind] for s in route.servers):
                continue
            mark = _mark(route.servers), _mark(apart.servers) if apart is not None else None
            row = before.get(name)
            if row is None or row.mark != mark:
                row = Row(name, route, kind, visibility, apart, mark)
            rows.append(row)
        return Rows(sorted(rows, key=_name))


def _mark(servers: Sequence[Server]) -> Hashable:
    """Another one as soon as any of the servers lists something else, or others stand here."""
    return tuple((s.owner.id.name, s.name, s.revision) for s in servers)
