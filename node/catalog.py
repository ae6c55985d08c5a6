"""The registry as this node sees it: its own servers and every peer's, by name, one dict lookup from a call.

An owner's facts enter through `apply`, record by record; its liveness through `set_liveness`. Nothing here asks
anybody anything: what is listed, searched and routed comes from what is held.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from federation.events import Liveness
from node.balance import Place
from node.facts import Change, Offered, member_body, server_body, speaks_anew
from node.ports import Resource, Visibility
from node.resources import Resources, Sight
from proto.errors import Conflict, MeshError, Unknown
from proto.names import NodeId, qualified, split_member, split_qualified
from proto.records import MEMBERS, Kind, Record, RecordKey

log = logging.getLogger("toolmesh.catalog")

LEFT_OUT_MAX = 100
ROUTES_MAX = 10_000
"""Routes kept from one change of the catalogue to the next; at the bound all are forgotten and found again."""

_IN_ORDER = (Kind.TOOL, Kind.PROMPT, Kind.RESOURCE, Kind.TEMPLATE)

SERVING = frozenset({Liveness.ALIVE, Liveness.DRAINING})
"""States in which an owner answers calls; one that drains is asked only where nobody else can."""


@dataclass(frozen=True, slots=True)
class Member:
    """Something a server offers: its raw MCP definition, and the digest of it.

    `header_params`: its schema mirrors parameters into HTTP headers (`x-mcp-header`, MCP 2026-07-28).
    """

    definition: dict[str, Any]
    digest: bytes
    header_params: bool = False


@dataclass(slots=True)
class Server:
    """One MCP server of one owner. `info` is None until its server record has arrived.

    `revision` is another one after each change of what it lists or says of itself, its health apart.
    """

    name: str
    owner: Owner
    info: dict[str, Any] | None = None
    revision: int = 0
    members: dict[Kind, dict[str, Member]] = field(default_factory=lambda: {kind: {} for kind in MEMBERS})
    _resources: Resources = field(default_factory=Resources, repr=False)

    @property
    def tools(self) -> dict[str, Member]:
        return self.members[Kind.TOOL]

    @property
    def offered(self) -> tuple[Offered, ...]:
        """Tools first: what is indexed comes in this order."""
        return tuple((kind, name) for kind in _IN_ORDER for name in self.members[kind])

    @property
    def service(self) -> str:
        return (self.info or {}).get("service") or ""

    @property
    def stateless(self) -> bool:
        return bool((self.info or {}).get("stateless"))

    def retry_safe(self, tool: str) -> bool:
        """Its owner's configuration says that running this twice does no harm; annotations count for nothing."""
        safe = (self.info or {}).get("retrySafe")
        return safe is True or (isinstance(safe, list) and tool in safe)

    @property
    def health(self) -> dict[str, Any]:
        return (self.info or {}).get("health") or {}

    @property
    def life(self) -> tuple[int, int]:
        """Another one as soon as the state that it held may be gone: it, or its owner, was away in between."""
        return self.owner.absences, self.health.get("since") or 0

    @property
    def introduced(self) -> bool:
        """It has said who it is and what it can do; one that never came up has not."""
        info = self.info or {}
        return bool(info.get("protocolVersion") or info.get("serverInfo") or info.get("capabilities"))

    @property
    def up(self) -> bool:
        """Its owner answers, and says that the server is up."""
        return self.owner.liveness in SERVING and self.health.get("state") == "up"

    @property
    def qualified(self) -> str:
        return qualified(self.name, self.owner.id.name)

    def resource(self, name: str = "", kind: Kind = Kind.TOOL, template: str = "") -> Resource:
        """What a guard is asked about: something that the server offers, or may offer, or the server as a whole.

        `template` is the one of its templates that makes a URI which is not listed."""
        return self._resources.of(self, kind, name, template)

    def __repr__(self) -> str:
        return f"Server({self.qualified} {len(self.tools)} tools {'up' if self.up else 'not up'})"


@dataclass(slots=True)
class Owner:
    """A node and what it owns. `info` is the body of its node record; `absences` counts how often it went silent.

    `left_out`: records that this node could not work with, and why; `LEFT_OUT_MAX` at most.
    """

    id: NodeId
    liveness: Liveness = Liveness.ALIVE
    listed: bool = True
    absences: int = 0
    info: dict[str, Any] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)
    left_out: dict[RecordKey, str] = field(default_factory=dict)

    @property
    def draining(self) -> bool:
        return self.liveness is Liveness.DRAINING

    @property
    def zone(self) -> str:
        return str(self.info.get("zone") or "")

    @property
    def place(self) -> Place:
        return Place(self.id.name, self.id.region, self.zone)


@dataclass(frozen=True, slots=True)
class Route:
    """What a name means to one caller: the members of a `service` (even if it is one for now), or one server."""

    name: str
    servers: tuple[Server, ...]
    service: bool = False

    @property
    def lead(self) -> Server:
        """The member that speaks for the service where one must: the first that is up, or was, by node name."""
        servers = self.servers
        if len(servers) == 1:
            return servers[0]
        up = next((s for s in servers if s.up), None)
        return up or next((s for s in servers if s.introduced), servers[0])

    def members(self, kind: Kind) -> dict[str, Member]:
        """What the route offers, each under the definition that most members share (ties: smallest digest)."""
        if len(self.servers) == 1:
            return self.servers[0].members[kind]
        names = dict.fromkeys(name for s in (self.lead, *self.servers) for name in s.members[kind])
        return {name: m for name in names if (m := self.member(kind, name)) is not None}

    def member(self, kind: Kind, name: str) -> Member | None:
        if len(self.servers) == 1:
            return self.servers[0].members[kind].get(name)
        votes: dict[bytes, tuple[int, Member]] = {}
        for server in self.servers:
            if (m := server.members[kind].get(name)) is not None:
                votes[m.digest] = (votes.get(m.digest, (0, m))[0] + 1, m)
        if not votes:
            return None
        return min(votes.items(), key=lambda v: (-v[1][0], v[0]))[1][1]

    def shown(self, kind: Kind, name: str, visibility: Visibility) -> Member | None:
        """The definition that is shared by those members where this caller may see it."""
        servers = self.servers
        if len(servers) > 1 or not visibility.allows(servers[0].resource(name, kind)):
            servers = tuple(s for s in servers if visibility.allows(s.resource(name, kind)))
        return Route(self.name, servers, self.service).member(kind, name) if servers else None

    def names(self, kind: Kind) -> Iterable[str]:
        """Of all that any member offers, in the members' own order."""
        return dict.fromkeys(name for s in self.servers for name in s.members[kind])


Listener = Callable[[Server, frozenset[Kind], Sequence[Offered], Sequence[Offered]], None]
"""(server, kinds that changed, what is put, what is deleted): called after each change, on the loop, must not block.

What a server says of itself comes with all that it offers put; one that left the listings with all of it deleted. How
it fares is not told: whoever wants to know looks, and a server that flaps must not cost what all of its tools cost.
"""


class Catalog:
    """Name → route. `version` rises with every change, `revised` becomes it with those that lists can show."""

    def __init__(self, me: NodeId) -> None:
        self.me = me
        self.version = 0
        self.revised = 0
        self._routes: dict[tuple[str, Hashable], Route] = {}
        self.owners: dict[str, Owner] = {me.name: Owner(me)}
        self._by_name: dict[str, dict[str, Server]] = {}
        self._by_service: dict[str, dict[tuple[str, str], Server]] = {}
        self._listeners: list[Listener] = []
        self._sight = Sight()
        self._changing: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"Catalog({len(self.owners)} nodes, {len(self._by_name)} names, v{self.version})"

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    async def change(self) -> None:
        """Until something else is known than now, of whomever; also how a server or an owner fares."""
        if self._changing is None:
            self._changing = asyncio.Event()
        await self._changing.wait()

    # ---- facts in -------------------------------------------------------------------------------

    def apply(self, owner_id: NodeId, puts: Iterable[Record], deletes: Iterable[RecordKey]) -> None:
        """Take an owner's changes. A record whose body is not what its kind needs is logged and left out."""
        owner = self._owner(owner_id)
        self._touch()
        touched: dict[str, Change] = {}
        for record in puts:
            try:
                self._put(owner, record, touched)
            except MeshError as e:
                log.warning("record %s of %s left out: %s", record.id, owner_id.name, e.message)
                if len(owner.left_out) < LEFT_OUT_MAX:
                    owner.left_out[record.key] = e.message
            else:
                if owner.left_out:
                    owner.left_out.pop(record.key, None)
        for key in deletes:
            owner.left_out.pop(key, None)
            self._delete(owner, key, touched)
        self._touch()
        for name, change in touched.items():
            self._tell(owner, name, change)

    def set_liveness(self, owner_id: NodeId, liveness: Liveness, *, listed: bool = True) -> None:
        """How the owner fares; not `listed`: its servers leave lists and search, but are kept for its return."""
        owner = self._owner(owner_id)
        owner.absences += owner.liveness in SERVING and liveness not in SERVING
        owner.liveness = liveness
        relisted = listed != owner.listed
        owner.listed = listed
        self._touch()
        if relisted:
            self.revised = self.version
            for server in owner.servers.values():
                offered = server.offered
                self._notify(server, frozenset(MEMBERS), offered if listed else (), () if listed else offered)

    def forget(self, owner_id: NodeId) -> None:
        """The owner left for good: drop what is held of it."""
        owner = self.owners.pop(owner_id.name, None)
        if owner is not None:
            self._touch()
            self.revised = self.version
            for server in owner.servers.values():
                self._unindex(server)
                self._notify(server, frozenset(MEMBERS), (), server.offered)
            self._touch()

    def _touch(self) -> None:
        self.version += 1
        self._routes.clear()
        if self._changing is not None:
            self._changing.set()
            self._changing = None

    def _owner(self, owner_id: NodeId) -> Owner:
        owner = self.owners.get(owner_id.name)
        if owner is None:
            owner = self.owners[owner_id.name] = Owner(owner_id)
        # A node that was issued anew in another region keeps its name.
        owner.id = owner_id
        return owner

    def _put(self, owner: Owner, record: Record, touched: dict[str, Change]) -> None:
        if record.kind is Kind.NODE:
            owner.info = record.data()
        elif record.kind is Kind.SERVER:
            info = server_body(record)
            server = self._server(owner, record.id)
            self._unindex(server)
            if speaks_anew(server.info, info):
                self._revise(server)
                touched.setdefault(server.name, Change()).anew = True
            server.info = info
            self._index(server)
        elif record.kind in MEMBERS:
            name, member, definition = member_body(record)
            server = self._server(owner, name)
            self._revise(server)
            server.members[record.kind][member] = Member(definition, record.digest, b'"x-mcp-header"' in record.body)
            touched.setdefault(name, Change()).put(record.kind, member)

    def _delete(self, owner: Owner, key: RecordKey, touched: dict[str, Change]) -> None:
        if key.kind is Kind.SERVER:
            server = owner.servers.pop(key.id, None)
            if server is not None:
                self._revise(server)
                self._unindex(server)
                touched.pop(key.id, None)
                self._notify(server, frozenset(MEMBERS), (), server.offered)
        elif key.kind in MEMBERS:
            name, member = split_member(key.id)
            known = owner.servers.get(name)
            if known is not None and known.members[key.kind].pop(member, None) is not None:
                self._revise(known)
                touched.setdefault(name, Change()).delete(key.kind, member)

    def _revise(self, server: Server) -> None:
        server.revision = self.revised = self.version

    def _server(self, owner: Owner, name: str) -> Server:
        server = owner.servers.get(name)
        if server is None:
            server = owner.servers[name] = Server(name, owner)
        return server

    def _index(self, server: Server) -> None:
        self._by_name.setdefault(server.name, {})[server.owner.id.name] = server
        if server.service:
            self._by_service.setdefault(server.service, {})[server.owner.id.name, server.name] = server

    def _unindex(self, server: Server) -> None:
        _discard(self._by_name, server.name, server.owner.id.name)
        if server.service:
            _discard(self._by_service, server.service, (server.owner.id.name, server.name))

    def _tell(self, owner: Owner, name: str, change: Change) -> None:
        server = owner.servers.get(name)
        if server is None or server.info is None or not owner.listed:
            return
        put = server.offered if change.anew else change.offered
        self._notify(server, frozenset(change.kinds), put, change.withdrawn)

    def _notify(
        self, server: Server, kinds: frozenset[Kind], put: Sequence[Offered], deleted: Sequence[Offered]
    ) -> None:
        for listener in self._listeners:
            try:
                listener(server, kinds, put, deleted)
            except Exception:
                # The catalogue is changed already: the others must hear of it, and so must the mesh.
                log.exception("a listener failed to take a change of %r", server)

    # ---- questions ------------------------------------------------------------------------------

    def servers(self, visibility: Visibility) -> Iterator[Server]:
        """Every listed server that the filter lets through, by node and name."""
        for _, owner in sorted(self.owners.items()):
            if owner.listed:
                for _, server in sorted(owner.servers.items()):
                    if server.info is not None and self.seen(server, visibility) is not None:
                        yield server

    def route(self, name: str, visibility: Visibility) -> Route:
        """What `name` (a service, a server's bare name, or NAME--NODE) means to this caller.

        Raises `Unknown`, `Conflict` listing the qualified names, or `Invalid` for what cannot be a name.
        """
        known = self._routes.get((name, visibility.key))
        if known is None:
            known = self._find(name, visibility)
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            self._routes[name, visibility.key] = known
        return known

    def _find(self, name: str, visibility: Visibility) -> Route:
        bare, node = split_qualified(name)
        found: Iterable[Server]
        if node is not None:
            found = [s for s in self._by_name.get(bare, {}).values() if s.owner.id.name == node]
        else:
            found = self._by_service.get(bare, {}).values() or ()
        servers = self._visible(found, visibility)
        service = node is None and bool(servers)
        if node is None and not servers:
            servers = self._visible(self._by_name.get(bare, {}).values(), visibility)
            if len(servers) > 1:
                names = sorted(s.qualified for s in servers)
                raise Conflict(
                    f"{len(servers)} servers are named {bare!r}; say which one: {', '.join(names)}", candidates=names
                )
        if not servers:
            raise unknown_server(name)
        return Route(name, servers, service)

    def shown_name(self, server: Server, visibility: Visibility, tool: str = "", kind: Kind = Kind.TOOL) -> str:
        """The shortest name under which this caller reaches exactly this server's definition of the tool, or of what
        else it offers by that name."""
        short = server.service or server.name
        try:
            route = self.route(short, visibility)
        except MeshError:
            return server.qualified
        if server not in route.servers:
            return server.qualified
        if tool and len(route.servers) > 1:
            agreed, own = route.shown(kind, tool, visibility), server.members[kind].get(tool)
            if agreed is None or own is None or agreed.digest != own.digest:
                return server.qualified
        return short

    def seen(self, server: Server, visibility: Visibility) -> Resource | None:
        """By what this caller sees a server: itself, or the first thing that it offers it; None: it does not."""
        return self._sight.seen(server, visibility)

    def find(self, owner: str, server: str) -> Server | None:
        held = self.owners.get(owner)
        return held.servers.get(server) if held else None

    def _visible(self, servers: Iterable[Server], visibility: Visibility) -> tuple[Server, ...]:
        listed = [s for s in servers if s.owner.listed and self.seen(s, visibility) is not None]
        return tuple(sorted(listed, key=lambda s: (s.owner.id.name, s.name)))


def unknown_server(name: str) -> Unknown:
    """The one sentence for a server that is not there, or not for this caller."""
    return Unknown(f"no server named {name!r}; search_mcp_server finds what there is", server=name)


def _discard(index: dict[Any, dict[Any, Server]], name: Any, key: Any) -> None:
    held = index.get(name)
    if held is not None:
        held.pop(key, None)
        if not held:
            del index[name]
