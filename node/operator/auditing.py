"""The operators' routes to the audit: `/api/v1/audit` and `/api/v1/audit/status`.

Records are given as the lines that they are, byte for byte: what is fetched can be checked like the log itself.
"""

from __future__ import annotations

import time

from aiohttp import web

from node.audit.mesh import MeshAudit
from node.audit.query import query_of
from node.audit.reading import FOLLOW_S_MAX, AuditReader
from node.ingress.incoming import credentials_of
from node.operator.edge import answer, edge
from node.ports import Authenticator
from proto import jsons
from proto.errors import Invalid
from proto.records import Principal

_FLAGS = {"": False, "0": False, "false": False, "1": True, "true": True}
_KNOWN = frozenset(
    {"who", "server", "tool", "outcome", "kind", "call_id", "tenant", "since", "until", "before", "after", "order",
     "limit", "wait_s", "mesh"}
)  # fmt: skip


class AuditApi:
    """Needs the right to administer this node. A principal of a tenant finds what that tenant's principals did."""

    def __init__(self, reader: AuditReader, mesh: MeshAudit, authenticator: Authenticator) -> None:
        self._reader = reader
        self._mesh = mesh
        self._authenticator = authenticator

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/v1/audit", edge(self._find)), web.get("/api/v1/audit/status", edge(self._status))]

    async def _status(self, request: web.Request) -> web.Response:
        return answer(self._reader.status(await self._caller(request)))

    async def _find(self, request: web.Request) -> web.Response:
        principal = await self._caller(request)
        asked = request.query
        if unknown := asked.keys() - _KNOWN:
            raise Invalid(f"parameter {min(unknown)[:80]!r} is not known here; leave it out")
        query = query_of(asked, time.time_ns() // 1_000_000)
        mesh = _FLAGS.get(asked.get("mesh", "").lower())
        if mesh is None:
            raise Invalid("parameter 'mesh' must be 0 or 1")
        wait_s = _wait_s(asked.get("wait_s", "0"))
        if mesh and (wait_s or query.before or query.after):
            raise Invalid("parameters 'wait_s', 'before' and 'after' are of one node's log: leave them or 'mesh' out")
        query = self._reader.allowed(principal, query, "audit query --mesh" if mesh else "audit query")
        if mesh:
            lines, missing = await self._mesh.find(principal, query)
            return _lines(lines, {"next": None, "unanswered": [m._asdict() for m in missing]})
        rows = await self._reader.find(query, wait_s)
        more = rows[-1].seq if len(rows) == query.limit else None
        # How far the whole log has come is nothing for an operator of one tenant.
        head = "" if principal.tenant else self._reader.head
        return _lines([row.line for row in rows], {"next": more, "head": head})

    async def _caller(self, request: web.Request) -> Principal:
        return await self._authenticator.authenticate(credentials_of(request))


def _wait_s(text: str) -> float:
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = -1
    if not 0 <= wait_s <= FOLLOW_S_MAX:
        raise Invalid(f"parameter 'wait_s' must be a number of seconds from 0 to {FOLLOW_S_MAX:g}")
    return wait_s


def _lines(lines: list[bytes], more: dict[str, object]) -> web.Response:
    """`{"records": [the lines], …more}`: they are JSON already, and must not change on the way."""
    tail = jsons.dumps(more)[1:]
    return web.Response(
        body=b'{"records":[' + b",".join(lines) + b"]," + tail,
        content_type="application/json",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
    )
