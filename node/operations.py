"""The node as its operators see it: a `node.operator.ports.Operator` over the running parts."""

from __future__ import annotations

import asyncio
import time
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, cast

from node.catalog import SERVING, Catalog, Server
from node.explaining.case import Sources
from node.explaining.explain import explain
from node.indexing import about
from node.mesh_status import REFUSALS_SHOWN, alarm_status, at, peer_detail, peer_status, refusal_status, rfc3339
from node.operator.explained import Explanation
from node.operator.peers import PeerDetail, PeerStatus
from node.operator.ports import (
    CallStatus,
    DrainStatus,
    FeedbackReset,
    LeaveStatus,
    NodeStatus,
    SearchAnswer,
    SearchStatus,
    ServerStatus,
    Status,
)
from node.ports import Action, Caller, Visibility
from node.search_status import search_answer
from proto.errors import Invalid, Unknown
from proto.records import ANONYMOUS, Principal
from router.arguments import Search
from router.documents import SERVER_DESCRIPTION_MAX

if TYPE_CHECKING:
    from node.app import App
    from node.telemetry import Telemetry

PRINCIPALS_SHOWN_MAX = 20

STARTING_S = 60.0
"""A server that takes longer to start does not keep its node from being called ready."""

MEETING_S = 10.0
"""The same for peers: by then each has been heard, or been judged."""


class Operations:
    """Answers from memory; asks no peer."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._telemetry: Telemetry | None = None

    def ready(self) -> str:
        if self._app.gateway.draining:
            return "this node drains, or is about to stop: it takes no new work"
        if not self._app.http_port:
            return "the listener is not up yet"
        # What takes this answer for a signal to restart the next node must find this one's servers at work again.
        started_s = time.time() - self._app.started_ms / 1000
        if not self._app.loaded and started_s < STARTING_S:
            return "its own servers are still starting"
        if self._app.federation is not None and not self._app.federation.restored:
            return "what it remembers of its peers is still read from disk"
        if started_s < MEETING_S and (unmet := self._unmet()):
            return f"it has not met {', '.join(unmet)} yet, which it remembers"
        return ""

    def _unmet(self) -> list[str]:
        """Peers of whom it is not known since the start of this process how they fare: calls to them are refused."""
        federation = self._app.federation
        return [p.node.name for p in federation.peers() if p.node and not p.history] if federation else []

    def status(self) -> Status:
        app = self._app
        # Operators see the whole mesh: this route is for them alone.
        whole = _Whole()
        servers = [_server(app.catalog, s, whole) for s in app.catalog.servers(whole)]
        refusals = app.federation.refusals.latest()[:REFUSALS_SHOWN] if app.federation else ()
        alarms = (*app.identity.alarms, *app.audit.alarms, *(app.federation.alarms if app.federation else ()))
        open_now = app.ingress.stats()
        status: Status = {
            "node": self._node(),
            "peers": self.peers(),
            "servers": servers,
            "search": self._search_status(),
            "totals": {
                "servers": len(servers),
                "tools": sum(s["tools"] for s in servers),
                "calls": app.gateway.calls_total,
                "failed": app.gateway.calls_failed,
                "in_flight": app.gateway.in_flight,
                "sessions": open_now["sessions"],
                "streams": open_now["streams"],
                "connections": open_now["connections"],
            },
            "discovery": [{"name": n, "problem": p} for n, p in (app.federation.discoveries if app.federation else ())],
            "refusals": [refusal_status(r) for r in refusals],
            "alarms": [alarm_status(a) for a in alarms],
            "governance": app.office.status(),
        }
        if app.audit.recorder is not None:
            status["audit"] = app.audit.recorder.status()
        return status

    async def search(self, asked: Search, k: int, principal: Principal, *, explain: bool = False) -> SearchAnswer:
        caller = Caller(principal=principal)
        try:
            return search_answer(asked, await self._app.meta.searching.find(asked, k, caller, explain=explain))
        except Unknown as e:
            # A server that is not there, or not for this caller, in the same words: they may be told.
            raise Invalid(f"parameter 'server': {e.message}") from None

    def servers(self, principal: Principal) -> list[ServerStatus]:
        visibility = self._app.guard.visible(principal, Action.LIST)
        catalog = self._app.catalog
        return [
            {**_server(catalog, s, visibility), "description": about(s)[:SERVER_DESCRIPTION_MAX]}
            for s in catalog.servers(visibility)
        ]

    def calls(self, most: int) -> list[CallStatus]:
        newest = islice(reversed(self._app.gateway.recent), most)
        return [cast(CallStatus, call._asdict()) for call in newest]

    def software(self) -> str:
        return self._app.software

    def peer(self, name: str) -> PeerDetail:
        federation = self._app.federation
        for p in federation.peers() if federation else ():
            if name == (p.node.name if p.node else p.address):
                assert federation is not None  # noqa: S101 - whose peer it is
                return peer_detail(p, federation.refusals.latest(), federation.alarms)
        names = ", ".join(p["name"] or p["address"] for p in self.peers()) or "none"
        raise Invalid(f"no peer of this node is named {name!r}; there are: {names}")

    def explain(self, server: str, tool: str, principal: str, asker: Principal) -> Explanation:
        app = self._app
        sources = Sources(
            catalog=app.catalog,
            guard=app.guard,
            gateway=app.gateway,
            router=app.router,
            peers=app.federation.peers() if app.federation else (),
            refusals=app.federation.refusals.latest() if app.federation else (),
            catalogue=frozenset(app.config.catalogue),
            unapproved=frozenset(a.server for a, _ in app.adding.approvals() if a.state != "approved"),
            loaded=app.loaded,
        )
        return explain(sources, server, tool, self._named(principal) if principal else asker)

    async def drain(self, on: bool, wait_s: float) -> DrainStatus:
        state = await self._app.drain(wait_s) if on else self._app.undrain()
        return cast(DrainStatus, state._asdict())

    async def reset_feedback(self) -> FeedbackReset:
        learning = self._app.learning
        if learning is None:
            raise Invalid("feedback from use is off at this node: search.feedback is false, or search.embedder is none")
        return {"forgotten": await learning.reset()}

    async def leave(self, wait_s: float, cut: bool) -> LeaveStatus:
        state = await self._app.leaving.leave(wait_s, cut=cut)
        return cast(LeaveStatus, state._asdict())

    def _named(self, name: str) -> Principal:
        known = self._app.authenticator.principals()
        if name in known:
            return known[name]
        if name == ANONYMOUS.subject:
            return ANONYMOUS
        if known.keys() == {ANONYMOUS.subject}:
            raise Invalid(f"this node has no keys: every caller is {ANONYMOUS.subject!r}, and nobody is named {name!r}")
        shown = ", ".join((*sorted(known)[:PRINCIPALS_SHOWN_MAX], *["…"] * (len(known) > PRINCIPALS_SHOWN_MAX)))
        raise Invalid(
            f"no key of this node is named {name!r}; its keys are {shown}, and {ANONYMOUS.subject!r} stands for agents "
            "without one. Ask the node where the key is configured"
        )

    async def metrics(self) -> tuple[bytes, str]:
        if self._telemetry is None:
            # Some 100 ms, which a node that nobody scrapes need not spend, and calls need not wait for.
            telemetry = await asyncio.to_thread(import_module, "node.telemetry")
            self._telemetry = telemetry.Telemetry(self._app)
        return self._telemetry.exposition(), self._telemetry.content_type

    def _node(self) -> NodeStatus:
        app = self._app
        config, me = app.config.node, app.catalog.me
        host = app.config.http.host
        return {
            "name": me.name,
            "id": me.uri,
            "region": me.region,
            "zone": config.zone,
            "mesh": config.mesh,
            "version": app.software,
            "started_at": at(app.started_ms),
            "http": f"{host}:{app.http_port}",
            "grpc": f"{app.config.federation.listen.rpartition(':')[0]}:{app.federation.bound_port}"
            if app.federation
            else "",
            "advertised": app.config.federation.advertise if app.federation else "",
            "draining": app.gateway.draining,
            "loaded": app.loaded,
            "certificate_expires_at": rfc3339(app.tls.expires_at) if app.tls else None,
        }

    def peers(self) -> list[PeerStatus]:
        federation = self._app.federation
        return [] if federation is None else [peer_status(p) for p in federation.peers()]

    def _search_status(self) -> SearchStatus:
        s = self._app.router.status()
        status: SearchStatus = {
            "mode": s.mode,
            "embedder": s.embedder,
            "tools": s.tools,
            "embedded": s.embedded,
            "pending": s.pending,
            "problem": s.problem,
        }
        if self._app.vectors is not None:
            status["vectors"] = self._app.vectors.status(s)
        if self._app.feedback is not None:
            f = self._app.feedback.status()
            status["feedback"] = {
                "own": f.own,
                "foreign": f.foreign,
                "peers": f.peers,
                "tools": f.tools,
                "learned": f.learned,
            }
        return status


class _Whole:
    key = "operator"

    def allows(self, resource: object) -> bool:
        return True


def _server(catalog: Catalog, server: Server, visibility: Visibility) -> ServerStatus:
    """As this caller sees it: also what is counted is only what it may see."""
    heard = server.owner.liveness in SERVING
    state = str(server.health.get("state") or "unknown") if heard else str(server.owner.liveness)
    return {
        "name": catalog.shown_name(server, visibility),
        "qualified": server.qualified,
        "owner": server.owner.id.name,
        "region": server.owner.id.region,
        "state": state,
        "cause": str(server.health.get("cause") or ""),
        "tools": _visible_tools(server, visibility),
        "service": server.service,
        "stateless": server.stateless,
    }


def _visible_tools(server: Server, visibility: Visibility) -> int:
    if isinstance(visibility, _Whole):
        # A mesh may have 100,000 tools, and this runs on the loop.
        return len(server.tools)
    return sum(visibility.allows(server.resource(tool)) for tool in server.tools)
