"""The operator's HTTP API: `/healthz`, `/readyz` and `/api/v1/…`, read-only JSON beside `/mcp`."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from node.ingress.incoming import credentials_of
from node.operator.errors import problem
from node.operator.ports import Operator
from node.ports import Authenticator
from node.settings.values import is_loopback
from proto import jsons
from proto.errors import Fault, Invalid, MeshError, ScopeRequired, Unknown
from proto.records import Principal

log = logging.getLogger("toolmesh.operator")

OPERATOR_SCOPE = "operator"
QUERY_CHARACTERS_MAX = 2_000
HITS_MAX = 50
CALLS_MAX = 1_000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def operator_routes(operator: Operator, authenticator: Authenticator, *, hits: int = 5) -> list[web.RouteDef]:
    """The routes of `OperatorApi`, to be added to the node's one application."""
    return OperatorApi(operator, authenticator, hits=hits).routes()


class OperatorApi:
    """Routes over an `Operator`. Everything under `/api` is authenticated like agents are.

    `status` and `calls` show every server, peer and caller, so a key needs the scope `operator` for them; the other
    routes show what the caller may see. `hits` is how many a search returns unless `k` says otherwise.
    """

    def __init__(self, operator: Operator, authenticator: Authenticator, *, hits: int = 5) -> None:
        self._hits = hits
        self._operator = operator
        self._authenticator = authenticator

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/healthz", self._healthz),
            web.get("/readyz", self._readyz),
            web.get("/api/v1/status", _edge(self._status)),
            web.get("/api/v1/search", _edge(self._search)),
            web.get("/api/v1/servers", _edge(self._servers)),
            web.get("/api/v1/calls", _edge(self._calls)),
            web.route("*", "/api/{tail:.*}", _edge(_nothing_here)),
        ]

    async def _healthz(self, request: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        reason = self._operator.ready()
        return _json({"status": "not ready", "reason": reason}, 503) if reason else _json({"status": "ready"})

    async def _status(self, request: web.Request) -> web.Response:
        await self._operating(request)
        return _json(self._operator.status())

    async def _calls(self, request: web.Request) -> web.Response:
        await self._operating(request)
        return _json({"calls": self._operator.calls(_count(request, "limit", 100, CALLS_MAX))})

    async def _search(self, request: web.Request) -> web.Response:
        principal = await self._caller(request)
        query = request.query.get("q", "").strip()
        if not query:
            raise Invalid("parameter 'q' is missing: say in a few words what the tool should do")
        if len(query) > QUERY_CHARACTERS_MAX:
            raise Invalid(f"parameter 'q' is longer than {QUERY_CHARACTERS_MAX} characters; shorten it")
        return _json(await self._operator.search(query, _count(request, "k", self._hits, HITS_MAX), principal))

    async def _servers(self, request: web.Request) -> web.Response:
        return _json({"servers": self._operator.servers(await self._caller(request))})

    async def _operating(self, request: web.Request) -> None:
        principal = await self._caller(request)
        if principal.kind != "anonymous" and OPERATOR_SCOPE not in principal.scopes:
            raise ScopeRequired(f"this needs a key with scope {OPERATOR_SCOPE!r}", scopes=[OPERATOR_SCOPE])

    async def _caller(self, request: web.Request) -> Principal:
        principal = await self._authenticator.authenticate(credentials_of(request))
        if principal.kind == "anonymous":
            _refuse_rebound_name(request)
        return principal


async def _nothing_here(request: web.Request) -> web.Response:
    raise Unknown(f"no route {request.path!r}")


def _count(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not 1 <= int(text) <= most:
        raise Invalid(f"parameter {name!r} must be a whole number from 1 to {most}")
    return int(text)


def _refuse_rebound_name(request: web.Request) -> None:
    """A web page whose name resolves to 127.0.0.1 reads a local service as its own origin, and sends no `Origin`."""
    transport = request.transport
    bound = transport.get_extra_info("sockname") if transport is not None else None
    if not bound or not ipaddress.ip_address(str(bound[0]).partition("%")[0]).is_loopback:
        return
    host = request.url.host or ""
    if not is_loopback(host):
        raise Invalid(f"host {host!r} is not a name of this machine; dial 127.0.0.1, or configure auth.keys")


def _edge(handler: Handler) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except MeshError as e:
            return problem(e)
        except web.HTTPException:
            raise
        except Exception:
            fault = Fault()
            log.exception("fault %s in %s %s", fault.data["fault_id"], request.method, request.path)
            return problem(fault)

    return handle


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        body=jsons.dumps(value),
        content_type="application/json",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
    )
