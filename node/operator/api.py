"""The operator's HTTP API: `/healthz`, `/readyz`, `/metrics` and `/api/v1/…`, beside `/mcp`.

JSON, and read-only but for `/api/v1/drain`, `/api/v1/leave` and `/api/v1/feedback/reset`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from node.audit.port import Audit, NoAudit
from node.ingress.incoming import credentials_of
from node.operator.edge import answer, body_of, edge
from node.operator.ports import DrainStatus, LeaveStatus, Operator
from node.ports import Authenticator
from proto import jsons
from proto.errors import Invalid, MeshError, ScopeRequired, Unknown
from proto.records import Principal
from router.arguments import KINDS, Search

OPERATOR_SCOPE = "operator"
QUERY_CHARACTERS_MAX = 2_000
HITS_MAX = 50
CALLS_MAX = 1_000
NAME_CHARACTERS_MAX = 512
DRAIN_WAIT_S_MAX = 3_600
BODY_BYTES_MAX = 64 * 1024


def operator_routes(operator: Operator, authenticator: Authenticator, *, hits: int = 5) -> list[web.RouteDef]:
    """The routes of `OperatorApi`, to be added to the node's one application."""
    return OperatorApi(operator, authenticator, hits=hits).routes()


class OperatorApi:
    """Routes over an `Operator`. Everything under `/api` is authenticated like agents are.

    What shows every server, peer and caller, and what changes anything, takes the right to administer the node:
    `may_operate` raises where a caller has none (without it, the scope `operator` is that right). `search` and
    `servers` show what the caller may see. `hits` is how many a search returns unless `k` says otherwise.
    """

    def __init__(
        self,
        operator: Operator,
        authenticator: Authenticator,
        *,
        hits: int = 5,
        audit: Audit | None = None,
        may_operate: Callable[[Principal], None] | None = None,
    ) -> None:
        self._hits = hits
        self._audit = audit or NoAudit()
        self._may_operate = may_operate or _by_scope
        self._operator = operator
        self._authenticator = authenticator

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/healthz", self._healthz),
            web.get("/readyz", self._readyz),
            web.get("/metrics", edge(self._metrics)),
            web.get("/api/v1/status", edge(self._status)),
            web.get("/api/v1/peers", edge(self._peers)),
            web.get("/api/v1/peers/{name}", edge(self._peer)),
            web.get("/api/v1/explain", edge(self._explain)),
            web.post("/api/v1/drain", edge(self._drain)),
            web.post("/api/v1/leave", edge(self._leave)),
            web.post("/api/v1/feedback/reset", edge(self._reset_feedback)),
            web.get("/api/v1/search", edge(self._search)),
            web.get("/api/v1/servers", edge(self._servers)),
            web.get("/api/v1/calls", edge(self._calls)),
            web.route("*", "/api/{tail:.*}", edge(_nothing_here)),
        ]

    async def _healthz(self, request: web.Request) -> web.Response:
        return answer({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        reason = self._operator.ready()
        return answer({"status": "not ready", "reason": reason}, 503) if reason else answer({"status": "ready"})

    async def _status(self, request: web.Request) -> web.Response:
        await self._operating(request)
        return answer(self._operator.status())

    async def _calls(self, request: web.Request) -> web.Response:
        await self._operating(request)
        return answer({"calls": self._operator.calls(_count(request, "limit", 100, CALLS_MAX))})

    async def _search(self, request: web.Request) -> web.Response:
        principal = await self._caller(request)
        query = request.query.get("q", "").strip()
        if not query:
            raise Invalid("parameter 'q' is missing: say in a few words what the tool should do")
        if len(query) > QUERY_CHARACTERS_MAX:
            raise Invalid(f"parameter 'q' is longer than {QUERY_CHARACTERS_MAX} characters; shorten it")
        asked = Search(query, region=_text(request, "region"), server=_text(request, "server"), kind=_kind(request))
        most = _count(request, "k", self._hits, HITS_MAX)
        explain = request.query.get("explain", "") not in ("", "0", "false")
        return answer(await self._operator.search(asked, most, principal, explain=explain))

    async def _servers(self, request: web.Request) -> web.Response:
        return answer({"servers": self._operator.servers(await self._caller(request))})

    async def _metrics(self, request: web.Request) -> web.Response:
        await self._operating(request)
        body, kind = await self._operator.metrics()
        return web.Response(body=body, headers={"Content-Type": kind})

    async def _peers(self, request: web.Request) -> web.Response:
        await self._operating(request)
        return answer({"software": self._operator.software(), "peers": self._operator.peers()})

    async def _peer(self, request: web.Request) -> web.Response:
        await self._operating(request)
        return answer(self._operator.peer(request.match_info["name"]))

    async def _explain(self, request: web.Request) -> web.Response:
        asker = await self._operating(request)
        server, tool, principal = (_text(request, name) for name in ("server", "tool", "as"))
        if not server and not tool:
            raise Invalid("parameter 'tool' is missing: name a tool as SERVER/TOOL, or a server in 'server'")
        return answer(self._operator.explain(server, tool, principal, asker))

    async def _drain(self, request: web.Request) -> web.Response:
        async def drain(body: dict[str, Any]) -> DrainStatus:
            on = _flag(body, "on", True, "true (send new work elsewhere) or false (take it again)")
            return await self._operator.drain(on, _wait_s(body))

        return await self._acts(request, "drain", drain)

    async def _leave(self, request: web.Request) -> web.Response:
        async def leave(body: dict[str, Any]) -> LeaveStatus:
            cut = _flag(body, "cut", False, "true (calls that still run are cut) or false (they keep the node)")
            return await self._operator.leave(_wait_s(body), cut)

        return await self._acts(request, "leave", leave)

    async def _reset_feedback(self, request: web.Request) -> web.Response:
        return await self._acts(request, "feedback reset", lambda _: self._operator.reset_feedback())

    async def _acts(
        self, request: web.Request, verb: str, act: Callable[[dict[str, Any]], Awaitable[Any]]
    ) -> web.Response:
        """Do what changes something, and put it on record, also where it is refused or fails."""
        principal, asked = await self._caller(request), ""
        try:
            self._may_operate(principal)
            # Asked for its type at least; see there.
            body = await body_of(request, BODY_BYTES_MAX)
            asked = jsons.dumps(body).decode() if body else ""
            done = await act(body)
        except MeshError as e:
            self._audit.admin(principal, verb, asked, e.kind, reason=e.message)
            raise
        self._audit.admin(principal, verb, asked)
        return answer(done)

    async def _operating(self, request: web.Request) -> Principal:
        principal = await self._caller(request)
        self._may_operate(principal)
        return principal

    async def _caller(self, request: web.Request) -> Principal:
        return await self._authenticator.authenticate(credentials_of(request))


def _by_scope(principal: Principal) -> None:
    if principal.kind != "anonymous" and OPERATOR_SCOPE not in principal.scopes:
        raise ScopeRequired(f"this needs a key with scope {OPERATOR_SCOPE!r}", scopes=[OPERATOR_SCOPE])


async def _nothing_here(request: web.Request) -> web.Response:
    raise Unknown(f"no route {request.path!r}")


def _count(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not 1 <= int(text) <= most:
        raise Invalid(f"parameter {name!r} must be a whole number from 1 to {most}")
    return int(text)


def _text(request: web.Request, name: str) -> str:
    text = request.query.get(name, "").strip()
    if len(text) > NAME_CHARACTERS_MAX:
        raise Invalid(f"parameter {name!r} is longer than {NAME_CHARACTERS_MAX} characters; shorten it")
    return text


def _kind(request: web.Request) -> str:
    kind = _text(request, "kind") or KINDS[0]
    if kind not in KINDS:
        raise Invalid(f"parameter 'kind' is {kind!r}; give one of {', '.join(KINDS)}")
    return kind


def _flag(body: dict[str, Any], name: str, default: bool, meaning: str) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise Invalid(f"{name!r} must be {meaning}")
    return value


def _wait_s(body: dict[str, Any]) -> float:
    wait_s = body.get("wait_s", 0)
    if isinstance(wait_s, bool) or not isinstance(wait_s, int | float) or not 0 <= wait_s <= DRAIN_WAIT_S_MAX:
        raise Invalid(f"'wait_s' must be a number of seconds from 0 to {DRAIN_WAIT_S_MAX}")
    return float(wait_s)
