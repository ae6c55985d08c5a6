"""Which member of a route runs a call now: what is known of each, put before `balance.choose`.

Calls of one session stay with one owner of a service unless every member says that it is stateless.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from node.balance import Candidate, choose
from node.bonds import Bonds
from node.catalog import SERVING, Catalog, Route, Server
from node.standing import Standings, left_alone
from proto.calls import Call
from proto.errors import Conflict, Unavailable
from proto.records import Kind

NAMED: dict[str, tuple[str, Kind]] = {
    "tools/call": ("name", Kind.TOOL),
    "prompts/get": ("name", Kind.PROMPT),
}
"""Method → (member of params that names what is asked for, its kind). Resource URIs may come from a template."""


class Chooser:
    """`draw(n)` gives an integer in [0, n); `clock` is monotonic, in seconds."""

    def __init__(
        self, catalog: Catalog, draw: Callable[[int], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._catalog = catalog
        self._draw = draw
        self._clock = clock
        self.standings = Standings()
        self.bonds = Bonds()

    def session(self, route: Route, call: Call) -> str:
        """The session that ties this call to one owner; empty where any owner will do.

        Also while a service has one owner only: another may join, or the one of before may have left the lists.
        """
        if route.service and call.session_key and not all(s.stateless for s in route.servers):
            return call.session_key
        return ""

    def choose(
        self, route: Route, call: Call, asked: str, session: str, tried: Sequence[str] = (), *, again: bool = False
    ) -> Server:
        """The member to ask. Those `tried` are left out; `again`: it may have run, so only where that does no harm.

        Raises `Unavailable` where nobody can take it (`state_lost` in its data: told once, the next call starts
        afresh), or `Conflict` where nobody offers what was listed.
        """
        if not session and len(route.servers) == 1 and not tried and route.lead.up:
            return route.lead
        servers = _offering(route, call, asked)
        if session and (held := self._held(route, session)) is not None:
            servers = [s for s in servers if s is held]
        if not servers and not tried:
            raise _changed(route, asked)
        left = [s for s in servers if s.qualified not in tried]
        if again:
            left = [s for s in left if s.retry_safe(asked)] or _once_more(servers, tried)
        chosen = self._best(left)
        if chosen is None:
            raise Unavailable(f"no owner of {route.name!r} can take the call now: {_states(route)}")
        if session and self.bonds.find(session, route.name) is None:
            self.bonds.tie(session, route.name, chosen.qualified, chosen.life)
        return chosen

    def heard(self, route: Route, call: Call) -> Server:
        """The member to listen to: where the session's calls run, or will. Raises `Unavailable` where nobody is up.

        That a session's state was lost is for its next call to be told.
        """
        session = self.session(route, call)
        bond = self.bonds.find(session, route.name) if session else None
        if bond is not None and not any(
            s.qualified == bond.server and s.up and s.life == bond.life for s in route.servers
        ):
            session = ""
        return self.choose(route, call, "", session)

    def told(self, route: Route, call: Call) -> tuple[Server, ...]:
        """The members that may have sessions of the caller's, of those that are up."""
        session = self.session(route, call)
        bond = self.bonds.find(session, route.name) if session else None
        up = tuple(s for s in route.servers if s.up)
        return up if bond is None else tuple(s for s in up if s.qualified == bond.server)

    def candidates(self, servers: Sequence[Server]) -> list[tuple[Server, Candidate]]:
        """What is known of each now. One node may own several members: a candidate stands for a server."""
        now_s = self._clock()
        group = []
        for server in servers:
            up = server.up
            standing = self.standings.of(server.qualified)
            standing.seen(server.life if up else None, now_s)
            group.append((server, up, server.owner.draining, standing))
        # Of those that would be asked: half of a group that is mostly away may be all that is left of it.
        out = left_alone([standing for _, up, draining, standing in group if up and not draining], now_s)
        return [
            (
                server,
                Candidate(
                    server.owner.place,
                    up,
                    draining,
                    standing.in_flight,
                    standing.average_ms,
                    standing in out,
                    max(0.0, standing.ejected_until_s - now_s),
                    standing.warmth(now_s),
                ),
            )
            for server, up, draining, standing in group
        ]

    def _best(self, servers: Sequence[Server]) -> Server | None:
        here = self._catalog.owners[self._catalog.me.name].place
        found = self.candidates(servers)
        picked = choose(here, [candidate for _, candidate in found], self._draw)
        return next((server for server, candidate in found if candidate is picked), None)

    def _held(self, route: Route, session: str) -> Server | None:
        bond = self.bonds.find(session, route.name)
        if bond is None:
            return None
        server = next((s for s in route.servers if s.qualified == bond.server), None)
        if server is not None and server.up and server.life == bond.life:
            return server
        if not bond.proven and not bond.running:
            self.bonds.untie(session, route.name)
            return None
        what = "was away" if server is not None and server.up else "is gone"
        raise self.state_lost(session, route.name, bond.server, what)

    def state_lost(self, session: str, service: str, server: str, what: str) -> Unavailable:
        """What the session is told, once: it is tied to nobody from now on."""
        self.bonds.untie(session, service)
        return Unavailable(
            f"{service!r} keeps state, and the owner that held this session's, {server!r}, {what}; "
            "its state is lost. Call again to start afresh",
            state_lost=True,
        )


def _offering(route: Route, call: Call, asked: str) -> list[Server]:
    """The members that offer what is asked under the definition that the caller saw."""
    if not call.tool_digest or (named := NAMED.get(call.method)) is None:
        return list(route.servers)
    kind = named[1]
    return [s for s in route.servers if (m := s.members[kind].get(asked)) and m.digest == call.tool_digest]


def _once_more(servers: Sequence[Server], tried: Sequence[str]) -> list[Server]:
    """Where nobody else is left: the one that was asked last, one time more."""
    last = tried[-1] if tried else ""
    return [s for s in servers if s.qualified == last and tried.count(last) < 2]


def _changed(route: Route, asked: str) -> Conflict:
    return Conflict(f"no owner of {route.name!r} offers {asked!r} as it was listed; list or search again")


def not_up(route: Route) -> Unavailable:
    """Why nothing can be asked of these servers now; only of servers that the caller may see."""
    return Unavailable(f"{route.name!r} cannot be called now: {_states(route)}")


def _states(route: Route) -> str:
    return "; ".join(
        f"{s.owner.id.name} is {s.owner.liveness}"
        if s.owner.liveness not in SERVING
        else f"{s.name} on {s.owner.id.name} is {s.health.get('state') or 'not started'}"
        + (f" ({s.health['cause']})" if s.health.get("cause") else "")
        for s in route.servers
    )
