"""The operators' routes to servers of the catalogue that wait for an approver: `/api/v1/approvals`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypedDict

from aiohttp import web

from node.adding import Adding
from node.approvals import Approval
from node.audit.port import Audit
from node.ingress.incoming import credentials_of
from node.operator.edge import answer, body_of, edge
from node.ports import Authenticator
from node.settings.servers import ServerConfig
from proto.errors import Invalid, MeshError
from proto.records import Principal

BODY_BYTES_MAX = 4 * 1024


class AskerShown(TypedDict):
    subject: str
    issuer: str
    tenant: str
    at: str


class ApprovalShown(TypedDict):
    """`state` is unasked, waiting, approved or denied; `reached_by` the command or the address. `askers` in the order
    in which they came, and `more` if there were others. `by` decided, `at` (RFC 3339 in UTC; null: nobody has)."""

    server: str
    state: str
    title: str
    reached_by: str
    askers: list[AskerShown]
    more: bool
    by: str
    at: str | None
    reason: str


class ApprovalsApi:
    """`may_operate` raises where a principal may not administer this node."""

    def __init__(
        self,
        adding: Adding,
        authenticator: Authenticator,
        audit: Audit,
        may_operate: Callable[[Principal], None],
    ) -> None:
        self._adding = adding
        self._authenticator = authenticator
        self._audit = audit
        self._may_operate = may_operate

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/approvals", edge(self._list)),
            web.put("/api/v1/approvals/{name}", edge(self._decide)),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        self._may_operate(await self._authenticator.authenticate(credentials_of(request)))
        return answer({"approvals": [_shown(*found) for found in self._adding.approvals()]})

    async def _decide(self, request: web.Request) -> web.Response:
        principal = await self._authenticator.authenticate(credentials_of(request))
        name = request.match_info["name"]
        try:
            self._may_operate(principal)
            body = await body_of(request, BODY_BYTES_MAX, ("approved", "reason"))
            approved, reason = body.get("approved"), body.get("reason", "")
            if not isinstance(approved, bool):
                raise Invalid("field 'approved' must be true or false")
            if not isinstance(reason, str):
                raise Invalid("field 'reason' must be a text")
            before, after = await self._adding.decide(name, approved, principal, reason)
        except MeshError as e:
            self._audit.admin(principal, "approve", name, e.kind, reason=e.message)
            raise
        verb = "approve" if approved else "approve --deny"
        self._audit.admin(principal, verb, name, reason=reason, before=before.state, after=after.state)
        return answer({"server": name, "state": after.state, "changed": before.state != after.state})


def _shown(approval: Approval, config: ServerConfig) -> ApprovalShown:
    return {
        "server": approval.server,
        "state": approval.state,
        "title": config.title,
        "reached_by": config.url or " ".join(config.argv()),
        "askers": [
            {"subject": a.subject, "issuer": a.issuer, "tenant": a.tenant, "at": _time(a.at_ms)}
            for a in approval.askers
        ],
        "more": approval.more,
        "by": approval.by,
        "at": _time(approval.at_ms) if approval.at_ms else None,
        "reason": approval.reason,
    }


def _time(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
