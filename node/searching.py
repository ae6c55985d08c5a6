"""A search on behalf of one caller: among what it may see, what it can use first, and where each hit lives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from node.balance import tier
from node.catalog import SERVING, Catalog, Server
from node.endpoints.near import did_you_mean, near
from node.hints import Hints
from node.ports import Action, Caller, Guard, Resource, Visibility
from node.preferring import preference
from node.standing import Standing
from proto.errors import Invalid, Unknown
from proto.records import Kind
from router.arguments import Search
from router.findings import Findings, Place, Placed
from router.ports import At, Filter, Hit, Narrowing, Prefer, SearchResult, ToolEntry, ToolKey
from router.router import Router

KINDS: Mapping[str, tuple[str, ...]] = {
    "tool": ("tool",),
    "prompt": ("prompt",),
    "resource": ("resource", "template"),
}
_NOT_TOOLS = (*KINDS["prompt"], *KINDS["resource"])
_SURE = ("high", "medium")


class Searching:
    """One for all callers of a node. `standings`: how the servers called from here have fared, by qualified name."""

    def __init__(
        self,
        catalog: Catalog,
        guard: Guard,
        router: Router,
        standings: Callable[[], Mapping[str, Standing]],
        hints: Hints,
    ) -> None:
        self._catalog = catalog
        self._guard = guard
        self._router = router
        self._standings = standings
        self._hints = hints
        self._away: tuple[int, frozenset[At]] = (-1, frozenset())

    async def find(self, asked: Search, limit: int, caller: Caller, *, explain: bool = False) -> Findings:
        """The best `limit` that the caller can use now, and what would be among them if it could be used.

        Raises `Unknown` for a server that is not there, or not for this caller, and `Invalid` for such a region.
        """
        visibility = self._guard.visible(caller.principal, Action.SEARCH)
        among = self._among(asked, visibility)
        kinds = KINDS[asked.kind]

        async def search(only: Filter, most: int, kinds: Sequence[str] = kinds) -> SearchResult:
            return await self._router.search(
                asked.task,
                asked.key_words,
                k=most,
                only=only,
                kinds=kinds,
                prefer=self._prefer(),
                principal=who(caller),
                explain=explain,
            )

        result = await search(self._filter(visibility, among), limit)
        usable = self._placed(result, visibility)
        unusable = [p for p in usable if p.place.why_not]
        if unusable:
            # What cannot be used takes no place, lends its label to nothing, and stands for nothing that is like it.
            result = await search(self._filter(visibility, among, self._all_away()), limit)
            usable = [p for p in self._placed(result, visibility) if not p.place.why_not]
        instead = None
        if asked.kind == "tool" and (result.confidence == "none" or not usable):
            other = await search(self._filter(visibility, among, self._all_away()), 1, _NOT_TOOLS)
            if other.hits and other.confidence in _SURE:
                instead = self._placed(other, visibility)[0]
        return Findings(result, usable, unusable, instead)

    def _placed(self, result: SearchResult, visibility: Visibility) -> list[Placed]:
        return [Placed(hit, self.place(hit, visibility)) for hit in result.hits]

    def place(self, hit: Hit, visibility: Visibility) -> Place:
        """Where a hit lives, under the name by which this caller reaches it: of the owners that are up, the nearest."""
        key = hit.entry.key
        servers = [s for k in (key, *hit.replicas) if (s := self._catalog.find(k.owner, k.server)) is not None]
        if not servers:
            gone = f"{key.server} has left {key.owner}"
            return Place(server=key.server, region=hit.entry.region, node=key.owner, health="unknown", why_not=gone)
        here = self._catalog.owners[self._catalog.me.name].place
        server = min(servers, key=lambda s: (not s.up, s.owner.draining, tier(here, s.owner.place)))
        kind = Kind(key.kind)
        return Place(
            server=self._catalog.shown_name(server, visibility, key.tool, kind),
            region=server.owner.id.region,
            node=server.owner.id.name,
            health=_health(server),
            replicas=len(servers),
            also=tuple(self._names(hit.alike, visibility)),
            why_not="" if server.up else why_not(server),
            read_only=kind is Kind.TOOL and self._hints.reads_only(servers, hit.entry.definition),
        )

    # ---- what a search is among -----------------------------------------------------------------

    def _among(self, asked: Search, visibility: Visibility) -> frozenset[At] | None:
        """The servers that the search is narrowed to, of those that the caller may see; None: it is not narrowed."""
        among = None
        if asked.region:
            among = self._in_region(asked.region.lower(), visibility)
            if not among:
                regions = sorted({s.owner.id.region for s in self._catalog.servers(visibility)})
                mend = did_you_mean(near(asked.region, regions)) or "; a search without region shows where tools live"
                raise Invalid(f"no server that you may use is in region {asked.region[:60]!r}{mend}")
        if asked.server:
            named = frozenset((s.owner.id.name, s.name) for s in self._named(asked.server, visibility))
            among = named if among is None else among & named
        return among

    def _in_region(self, region: str, visibility: Visibility) -> frozenset[At]:
        servers = self._catalog.servers(visibility)
        return frozenset((s.owner.id.name, s.name) for s in servers if s.owner.id.region == region)

    def _named(self, name: str, visibility: Visibility) -> Sequence[Server]:
        try:
            return self._catalog.route(name, visibility).servers
        except Unknown as e:
            names = (self._catalog.shown_name(s, visibility) for s in self._catalog.servers(visibility))
            raise Unknown(e.message + did_you_mean(near(name, names)), **e.data) from None

    def _filter(
        self, visibility: Visibility, among: frozenset[At] | None, without: frozenset[At] = frozenset()
    ) -> Filter:
        def allows(entry: ToolEntry) -> bool:
            server = self._catalog.find(entry.key.owner, entry.key.server)
            return server is not None and visibility.allows(_resource(server, entry.key))

        narrowed = Narrowing(among, without) if among is not None or without else None
        return Filter(visibility.key, allows, narrowed)

    def _all_away(self) -> frozenset[At]:
        """The listed servers that cannot be called now; counted anew when the catalogue has changed."""
        version, away = self._away
        if version != self._catalog.version:
            owners = self._catalog.owners.items()
            away = frozenset((o, n) for o, owner in owners for n, s in owner.servers.items() if not s.up)
            self._away = self._catalog.version, away
        return away

    def _prefer(self) -> Prefer:
        here = self._catalog.owners[self._catalog.me.name].place
        standings = self._standings()

        def prefer(entry: ToolEntry) -> float:
            # On the searching thread: looks, each at one dict or attribute, and no more.
            server = self._catalog.find(entry.key.owner, entry.key.server)
            if server is None:
                return 0.0
            owner = server.owner
            known = standings.get(server.qualified)
            return preference(tier(here, owner.place), up=server.up, draining=owner.draining, standing=known)

        return prefer

    def _names(self, keys: Sequence[ToolKey], visibility: Visibility) -> list[str]:
        found = (self._catalog.find(key.owner, key.server) for key in keys)
        return list(dict.fromkeys(self._catalog.shown_name(s, visibility) for s in found if s is not None))


def who(caller: Caller) -> str:
    """The principal as one text, for what is learned from its searches."""
    return "\x1f".join(caller.principal.identity)


def why_not(server: Server) -> str:
    """Why a server cannot be called now; only for those who may see it."""
    if server.owner.liveness not in SERVING:
        return f"node {server.owner.id.name} is {server.owner.liveness}"
    cause = server.health.get("cause")
    return f"it is {server.health.get('state') or 'not started'}{f': {cause}' if cause else ''}"


def _health(server: Server) -> str:
    if server.up:
        return "up"
    return str(server.owner.liveness if server.owner.liveness != "alive" else server.health.get("state"))


def _resource(server: Server, key: ToolKey) -> Resource:
    return server.resource(key.tool, Kind(key.kind))
