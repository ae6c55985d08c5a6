"""The node as its operators see it: a `node.operator.ports.Operator` over the running parts."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, cast

import federation.status
from node.catalog import Catalog, Server
from node.operator.ports import (
    CallStatus,
    NodeStatus,
    PeerStatus,
    SearchAnswer,
    SearchHit,
    SearchStatus,
    ServerStatus,
    Status,
)
from node.ports import Action, Caller, Visibility
from proto.records import Principal
from router.metatools import signature
from router.ports import Hit

if TYPE_CHECKING:
    from node.app import App

CALLS_SHOWN_MAX = 1_000


class Operations:
    """Answers from memory; asks no peer."""

    def __init__(self, app: App) -> None:
        self._app = app

    def ready(self) -> str:
        if self._app.gateway.draining:
            return "this node is stopping"
        return "" if self._app.http_port else "the listener is not up yet"

    def status(self) -> Status:
        app = self._app
        # Operators see the whole mesh: this route is for them alone.
        whole = _Whole()
        servers = [_server(app.catalog, s, whole) for s in app.catalog.servers(whole)]
        return {
            "node": self._node(),
            "peers": self._peers(),
            "servers": servers,
            "search": self._search_status(),
            "totals": {
                "servers": len(servers),
                "tools": sum(s["tools"] for s in servers),
                "calls": app.gateway.calls_total,
                "failed": app.gateway.calls_failed,
                "in_flight": app.gateway.in_flight,
            },
        }

    async def search(self, query: str, k: int, principal: Principal) -> SearchAnswer:
        visibility = self._app.guard.visible(principal, Action.SEARCH)
        result = await self._app.meta.search(query, (), Caller(principal=principal), k)
        return {
            "query": query,
            "mode": result.mode,
            "confidence": result.confidence,
            "took_ms": round(result.took_ms, 3),
            "hits": [self._hit(hit, visibility) for hit in result.hits],
        }

    def servers(self, principal: Principal) -> list[ServerStatus]:
        visibility = self._app.guard.visible(principal, Action.LIST)
        catalog = self._app.catalog
        return [_server(catalog, s, visibility) for s in catalog.servers(visibility)]

    def calls(self, most: int) -> list[CallStatus]:
        newest = islice(reversed(self._app.gateway.recent), most)
        return [cast(CallStatus, call._asdict()) for call in newest]

    def _node(self) -> NodeStatus:
        app = self._app
        config, me = app.config.node, app.catalog.me
        started = datetime.fromtimestamp(app.started_ms / 1000, UTC)
        host = app.config.http.host
        expires = app.tls.expires_at.isoformat() if app.tls else None
        return {
            "name": me.name,
            "id": me.uri,
            "region": me.region,
            "zone": config.zone,
            "mesh": config.mesh,
            "version": app.software,
            "started_at": started.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "http": f"{host}:{app.http_port}",
            "grpc": f"{app.config.federation.listen.rpartition(':')[0]}:{app.federation.bound_port}"
            if app.federation
            else "",
            "draining": app.gateway.draining,
            "loaded": app.loaded,
            "certificate_expires_at": expires,
        }

    def _peers(self) -> list[PeerStatus]:
        federation = self._app.federation
        return [] if federation is None else [_peer(p) for p in federation.peers()]

    def _search_status(self) -> SearchStatus:
        s = self._app.router.status()
        return {
            "mode": s.mode,
            "embedder": s.embedder,
            "tools": s.tools,
            "embedded": s.embedded,
            "pending": s.pending,
            "problem": s.problem,
        }

    def _hit(self, hit: Hit, visibility: Visibility) -> SearchHit:
        place = self._app.meta.place(hit, visibility)
        definition = hit.entry.definition
        return {
            "server": place.server,
            "tool": hit.entry.key.tool,
            "title": str(definition.get("title") or ""),
            "description": str(definition.get("description") or ""),
            "signature": signature(definition),
            "score": round(hit.score, 4),
            "owner": place.node,
            "region": place.region,
            "health": place.health,
            "replicas": sorted({key.owner for key in (hit.entry.key, *hit.replicas)}),
        }


class _Whole:
    key = "operator"

    def allows(self, resource: object) -> bool:
        return True


def _server(catalog: Catalog, server: Server, visibility: Visibility) -> ServerStatus:
    """As this caller sees it: also what is counted is only what it may see."""
    mine = server.owner.id == catalog.me or server.up
    state = str(server.health.get("state") or "unknown") if mine else str(server.owner.liveness)
    return {
        "name": catalog.shown_name(server, visibility),
        "qualified": server.qualified,
        "owner": server.owner.id.name,
        "region": server.owner.id.region,
        "state": state,
        "cause": str(server.health.get("cause") or ""),
        "tools": sum(visibility.allows(server.resource(tool)) for tool in server.tools),
        "service": server.service,
        "stateless": server.stateless,
    }


def _peer(p: federation.status.PeerStatus) -> PeerStatus:
    return {
        "name": p.node.name if p.node else "",
        "region": p.node.region if p.node else "",
        "address": p.address,
        "state": str(p.state),
        "cause": p.cause,
        "since_s": round(p.since_ms / 1000, 1),
        "epoch": p.version.epoch,
        "seq": p.version.seq,
        "lag_changes": p.lag_seq if p.node else None,
        "lag_s": round(p.lag_s, 3) if p.node else None,
        "tools": p.tools,
        "rejected": len(p.rejected),
        "last_error": p.last_error,
        "software": p.software,
        "skew_ms": p.skew_ms,
        "rtt_ms": p.rtt_ms,
    }
