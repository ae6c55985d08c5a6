"""The straight path of one call: route → admit → choose an owner → run → settle.

A call enters here once at the entry node (`call`) and once more at the owner when a peer forwards it (`answer`);
each side applies its own guard. What runs a call, a server here or a peer, is a `Target`. What has no answer to wait
for, or no server (listens, clients' notifications, questions to a node), is routed here and goes by `Relays`.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from node.aiming import aimed_at, heard_uris, resources_of
from node.asking import METHOD_CHARACTERS_MAX, Aim, action_of, aim_of
from node.attempts import CANCELLED, Attempts, Counters
from node.balance import Candidate
from node.catalog import Catalog, Member, Route, Server, unknown_server
from node.choosing import NAMED, Chooser, not_up
from node.ports import Action, Caller, CallRecord, Guard, Resource, Visibility
from node.relaying import LISTEN, LISTEN_MS, TELL_MS, NodeHandler, Relays, stopping, tellable
from node.standing import Standing
from node.task_ids import TaskExchange, heard_of, holder, split
from proto.calls import Answer, Call, Exchange, Target
from proto.errors import Conflict, Forbidden, Unavailable, Unknown
from proto.names import NodeId, qualified
from proto.records import Kind, Principal

BUDGET_MS = 300_000

HOP_METHODS = frozenset(
    {
        "initialize",
        "server/discover",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        LISTEN,
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
    }
)
"""Requests that an edge answers, or says in words that can travel: about the connection that they come on, and lists,
which a server gives whole, with all that is blocked, held or not for this caller."""

STATE = "requestState"
"""The member of params by which a client of 2026-07-28 goes on with a call that has asked it something."""

Place = tuple[str, str]
"""(node, server there)"""


def _nowhere(_: Any) -> Place | None:
    return None


Denied = Callable[[Principal, Action, str, Aim | None], None]
"""Told of a name (of a server, or of what is aimed at there) that a caller was told not to exist."""


def _untold(*_: Any) -> None:
    return


class Gateway:
    """Where every call of this node passes. `draw(n)` gives an integer in [0, n); `clock` is monotonic, in seconds.

    `local(server)` and `remote(node)` give what runs a call here and there. `state_at` says where the call is that a
    `requestState` continues, None if the state names no place; `denied` is told what was named in vain. `draining`:
    peers are asked to choose others, and whoever comes is served. `refusing`: nothing new is taken. `loading`: not all
    own servers are known yet. Of the calls `in_flight` some run `for_peers`.
    """

    def __init__(
        self,
        catalog: Catalog,
        guard: Guard,
        *,
        local: Callable[[str], Target],
        remote: Callable[[str], Target],
        state_at: Callable[[Any], Place | None] = _nowhere,
        denied: Denied = _untold,
        draw: Callable[[int], int] = secrets.randbelow,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._guard = guard
        self._local = local
        self._remote = remote
        self._state_at = state_at
        self._denied = denied
        self._chooser = Chooser(catalog, draw, clock)
        self._attempts = Attempts(catalog.me.name, guard, self._chooser, self._target, clock)
        self._relays = Relays(catalog.me.name, guard, self._target, remote, self._seen)
        self.draining = False
        self.loading = False
        self.for_peers = 0
        # An owner knows a call by its entry node and its caller as well: the id is to be new, and need be no secret.
        self._life = secrets.token_hex(8)
        self._calls = itertools.count(1)

    def __repr__(self) -> str:
        return f"Gateway({self.in_flight} in flight, {self.calls_total} done, {self._relays!r})"

    @property
    def me(self) -> str:
        return self._catalog.me.name

    @property
    def counters(self) -> Counters:
        return self._attempts.counters

    @property
    def recent(self) -> deque[CallRecord]:
        """The newest last; bounded."""
        return self._attempts.recent

    @property
    def in_flight(self) -> int:
        """What a node that drains waits for. Listens, which its stop ends, are not counted."""
        return self._attempts.in_flight + self._relays.carried

    @property
    def calls_total(self) -> int:
        return sum(self.counters.outcomes.values())

    @property
    def calls_failed(self) -> int:
        """What neither succeeded nor was given up by its caller."""
        return sum(n for outcome, n in self.counters.outcomes.items() if outcome not in ("ok", CANCELLED))

    @property
    def standings(self) -> dict[str, Standing]:
        """How each server that was called has fared, by qualified name."""
        return self._chooser.standings.known

    @property
    def refusing(self) -> bool:
        return self._relays.stopping

    @refusing.setter
    def refusing(self, refusing: bool) -> None:
        """There is no way back: what lasts (listens, carried streams) ends with it."""
        if refusing:
            self._relays.stop()

    def candidates(self, route: Route, asked: str) -> list[tuple[Server, Candidate]]:
        """The members that a call of the tool `asked` could go to, as `balance.choose` would see them now.

        Those with another definition than most members share are not among them; without a tool, all members are.
        """
        member = route.member(Kind.TOOL, asked) if asked else None
        servers = route.servers
        if member is not None:
            servers = tuple(s for s in servers if (m := s.members[Kind.TOOL].get(asked)) and m.digest == member.digest)
        return self._chooser.candidates(servers)

    async def drained(self) -> None:
        """Until no call runs; at once where none does."""
        while self.in_flight:
            await self._attempts.drained()
            await self._relays.drained()

    # ---- at the entry node ----------------------------------------------------------------------

    async def call(
        self,
        name: str,
        method: str,
        params: dict[str, Any],
        caller: Caller,
        exchange: Exchange,
        *,
        budget_ms: int = BUDGET_MS,
    ) -> Answer:
        """Run an agent's request where it belongs. Raises any `MeshError`."""
        if self.refusing:
            raise stopping()
        _refuse_hop_method(method)
        action, aim = action_of(method), aim_of(method, params)
        visibility = self._guard.visible(caller.principal, action)
        try:
            route, member = self._aimed(self._catalog.route(name, visibility), aim, method, visibility)
        except Unknown:
            self._denied(caller.principal, action, name, aim)
            raise
        asked = aim.name if aim is not None and method in NAMED else ""
        if route.service and method.startswith("tasks/"):
            route, params = _of_task(route, params)
        if STATE in params and (place := self._state_at(params[STATE])) is not None:
            route = _continued(route, place)
        call = self._call_of(route, method, params, caller, budget_ms, member.digest if member else b"")
        resources = resources_of(route.servers, method, aim, self._catalog, visibility)
        try:
            return await self._attempts.run(call, route, asked, exchange, resources)
        except (Forbidden, Unknown) as e:
            if "method" in e.data:
                raise
            # Told in the very words of what does not exist, whichever node refused; `settle` and the record of calls
            # keep the truth.
            raise (_unknown(route, aim) if aim is not None else unknown_server(name)) from None

    async def listen(self, name: str, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        """Hear what a server says outside calls, until it ends that, a node stops, or the caller is cancelled.

        `params` are those of `subscriptions/listen` in its one form (`Endpoint.listen`); the first event tells what is
        honoured. Raises any `MeshError`: `Unavailable` with `data["stopping"]` where a node on the way stops.
        """
        visibility = self._guard.visible(caller.principal, Action.READ)
        route = self._catalog.route(name, visibility)
        asked = params.get("notifications")
        if isinstance(asked, dict):
            asked = heard_uris(route, asked, visibility)
            params = {**params, "notifications": asked}
        if route.service and isinstance(asked, dict) and "taskIds" in asked:
            owner, asked = heard_of(asked, _qualified(route))
            if owner:
                route, params = _alone(route, owner), {**params, "notifications": asked}
                exchange = TaskExchange(owner, exchange)
        call = self._call_of(route, LISTEN, params, caller, LISTEN_MS)
        try:
            server = self._chooser.heard(route, call)
            # Of a service each member may let others read of what it has.
            call = self._heard(Route(server.name, (server,)), call, visibility)
            return await self._relays.listen(server, call, exchange)
        except (Forbidden, Unknown) as e:
            if "method" in e.data:
                raise
            raise unknown_server(name) from None

    async def tell(self, name: str, method: str, params: dict[str, Any], caller: Caller) -> None:
        """Pass a client's notification to the sessions that its calls have opened at the server, if there are any.

        Of a service, to the owner that holds the session's state, or else to every owner. Raises `Unknown` for what is
        not relayed, or not to be seen; whether a server has got it is not told.
        """
        if not tellable(method):
            shown = method[:METHOD_CHARACTERS_MAX]
            raise Unknown(f"notification {shown!r} is not relayed", method=shown)
        route = self._catalog.route(name, self._guard.visible(caller.principal, Action.CALL))
        call = self._call_of(route, method, params, caller, TELL_MS)
        await self._relays.tell(self._chooser.told(route, call), call)

    async def carry(
        self,
        node: str,
        method: str,
        params: dict[str, Any],
        caller: Caller,
        exchange: Exchange,
        *,
        budget_ms: int = BUDGET_MS,
    ) -> Answer:
        """Ask a node itself rather than a server of it: `method` is one that it `handle`s.

        Beyond `BUDGET_MS` it counts as lasting: no drain waits for it, and a stop ends it with `Unavailable`
        (`stopping`). Raises any `MeshError`: `Unknown` for a node that this mesh does not have, or has no more.
        """
        if node not in self._catalog.owners:
            raise Unknown(f"there is no node {node!r} in this mesh", node=node)
        call = Call(
            call_id=f"{self._life}{next(self._calls):x}",
            server="",
            method=method,
            params=params,
            principal=caller.principal,
            budget_ms=budget_ms,
            era=caller.era,
            session_key=caller.session_key,
            client_capabilities=caller.client_capabilities,
            via=(self.me,),
            trace=caller.trace,
        )
        return await self._relays.carry(node, call, exchange, self._catalog.me, lasting=budget_ms > BUDGET_MS)

    def handle(self, method: str, handler: NodeHandler) -> None:
        """From now on `handler` answers what a node, this one or a peer, asks by `carry` with `method`."""
        self._relays.handlers[method] = handler

    def _call_of(
        self,
        route: Route,
        method: str,
        params: dict[str, Any],
        caller: Caller,
        budget_ms: int,
        tool_digest: bytes = b"",
    ) -> Call:
        return Call(
            call_id=f"{self._life}{next(self._calls):x}",
            server=route.lead.name,
            method=method,
            params=params,
            principal=caller.principal,
            budget_ms=budget_ms,
            era=caller.era,
            tool_digest=tool_digest,
            session_key=caller.session_key,
            client_capabilities=caller.client_capabilities,
            via=(self._catalog.me.name,),
            trace=caller.trace,
        )

    def _target(self, server: Server) -> Target:
        node = server.owner.id.name
        return self._local(server.name) if node == self._catalog.me.name else self._remote(node)

    def _aimed(self, route: Route, aim: Aim | None, method: str, visibility: Visibility) -> tuple[Route, Member | None]:
        """The members where the caller may use what it names, and the definition of it that they share.

        Raises `Unknown` in the same words for what is not there and what is not for this caller.
        """
        if aim is None:
            # The server words its own complaint about its own parameters.
            return route, None
        servers = tuple(s for s in route.servers if visibility.allows(aimed_at(s, aim)))
        seen = Route(route.name, servers, route.service)
        if aim.kind is Kind.RESOURCE:
            member, there = None, bool(servers)
        else:
            member = seen.member(aim.kind, aim.name) if servers else None
            there = member is not None
        if not there:
            if not any(s.up for s in route.servers):
                # What a server that is not up would offer, nobody knows.
                raise not_up(route)
            raise _unknown(route, aim)
        return seen, member if method in NAMED else None

    def _seen(self, server: Server, call: Call) -> Resource:
        visibility = self._guard.visible(call.principal, action_of(call.method))
        return self._catalog.seen(server, visibility) or server.resource()

    # ---- at the owner ---------------------------------------------------------------------------

    async def answer(self, call: Call, exchange: Exchange, peer: NodeId) -> Answer:
        """Run what a peer forwards, under this node's own guard. Raises any `MeshError`."""
        if self.refusing:
            raise stopping()
        if not call.server:
            return await self._relays.answer(call, exchange, peer, lasting=call.budget_ms > BUDGET_MS)
        if call.method != LISTEN and not tellable(call.method):
            _refuse_hop_method(call.method)
        server = self._catalog.find(self._catalog.me.name, call.server)
        visibility = self._guard.visible(call.principal, action_of(call.method))
        if self.loading and (server is None or server.info is None):
            raise Unavailable(f"node {self._catalog.me.name!r} has only just started and begins its servers")
        if server is None or server.info is None or self._catalog.seen(server, visibility) is None:
            self._denied(call.principal, action_of(call.method), qualified(call.server, self.me), None)
            raise Unknown(f"node {self._catalog.me.name!r} has no server {call.server!r}", server=call.server)
        route = Route(call.server, (server,))
        aim = aim_of(call.method, call.params)
        asked = aim.name if aim is not None and call.method in NAMED else ""
        if aim is not None and asked and call.tool_digest:
            member = server.members[aim.kind].get(asked)
            if member is None or member.digest != call.tool_digest:
                if not server.up:
                    # One that has only just started has not listed yet what its peers remember of its last life.
                    raise not_up(route)
                if visibility.allows(aimed_at(server, aim)):
                    raise Conflict(
                        f"{call.server!r} has changed {asked!r} since {peer.name!r} listed it; list or search again",
                        listed_anew=True,
                    )
        try:
            self._aimed(route, aim, call.method, visibility)
        except Unknown:
            self._denied(call.principal, action_of(call.method), server.qualified, aim)
            raise
        if call.method == LISTEN:
            return await self._relays.listen(server, self._heard(route, call, visibility), exchange)
        if tellable(call.method):
            return await self._relays.told(server, call, exchange)
        self.for_peers += 1
        try:
            resources = resources_of(route.servers, call.method, aim, self._catalog, visibility)
            return await self._attempts.run(call, route, asked, exchange, resources)
        finally:
            self.for_peers -= 1

    def recheck(self) -> None:
        """What may be seen has changed: listens that hear of what their callers may not read any more end."""

        def still(server: Server, call: Call) -> bool:
            visibility = self._guard.visible(call.principal, Action.READ)
            route = Route(server.name, (server,))
            heard = self._heard(route, call, visibility)
            return self._catalog.seen(server, visibility) is not None and heard.params == call.params

        self._relays.recheck(still)

    def _heard(self, route: Route, call: Call, visibility: Visibility) -> Call:
        asked = call.params.get("notifications")
        if not isinstance(asked, dict):
            return call
        return replace(call, params={**call.params, "notifications": heard_uris(route, asked, visibility)})


def _continued(route: Route, place: Place) -> Route:
    """The one member where a call that has asked its client something goes on. Raises `Unavailable` if it is away."""
    node, name = place
    server = next((s for s in route.servers if s.owner.id.name == node and s.name == name), None)
    if server is None or not server.up:
        raise Unavailable(
            f"the node that waits for this answer, {node!r}, cannot be reached or no longer offers {route.name!r}: "
            "call again without inputResponses and requestState"
        )
    return Route(route.name, (server,), route.service and server.stateless)


def _of_task(route: Route, params: dict[str, Any]) -> tuple[Route, dict[str, Any]]:
    """Where a task runs whose id says so, and the params as they are known there; else both as they are."""
    owner = holder(params.get("taskId"), _qualified(route))
    return (_alone(route, owner), split(params)[1]) if owner else (route, params)


def _qualified(route: Route) -> set[str]:
    return {s.qualified for s in route.servers}


def _alone(route: Route, owner: str) -> Route:
    """One member of a service; that has no sessions, or else what it answers is passed as it is."""
    (server,) = (s for s in route.servers if s.qualified == owner)
    return Route(route.name, (server,), server.stateless)


def _unknown(route: Route, aim: Aim) -> Unknown:
    return Unknown(f"server {route.name!r} has no {aim.kind} {aim.name!r}", server=route.name)


def _refuse_hop_method(method: str) -> None:
    """What belongs to one connection would, on the one that all callers share, reach into other callers' calls."""
    if method.startswith("notifications/") or method in HOP_METHODS or len(method) > METHOD_CHARACTERS_MAX:
        shown = method[:METHOD_CHARACTERS_MAX]
        raise Unknown(f"method {shown!r} is not relayed", method=shown)
