"""The routes to what people agreed to at servers of this node: all for who administers it, to others their own.

Who administers and is of a tenant sees and removes what people of that tenant agreed to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypedDict

from aiohttp import web

from node.consent.consents import Consents
from node.credentials.consent_grants import Grant, Holder, holder_of
from node.ingress.incoming import credentials_of
from node.operator.edge import answer, body_of, edge
from node.ports import Authenticator
from proto.errors import Invalid, MeshError, Unknown
from proto.records import Principal

BODY_BYTES_MAX = 4 * 1024
GRANTS_SHOWN_MAX = 10_000
TURN_GRANTS = 50


class GrantStatus(TypedDict):
    """`id` names it to `remove`. `by` is the authorization server, `expires_at` the end of its present token (null: it
    did not say), which is refreshed where it is `refreshable`. `lists`: the server's lists are asked for as this
    person. Times are RFC 3339 in UTC."""

    id: str
    server: str
    subject: str
    issuer: str
    tenant: str
    by: str
    scopes: list[str]
    granted_at: str
    expires_at: str | None
    refreshable: bool
    lists: bool


class GrantsApi:
    """`administers(principal)`: may it see and remove what is others'? `told(principal, verb, what, outcome)`."""

    def __init__(
        self,
        consents: Consents,
        authenticator: Authenticator,
        administers: Callable[[Principal], bool],
        told: Callable[[Principal, str, str, str], None] = lambda _principal, _verb, _what, _outcome: None,
    ) -> None:
        self._consents = consents
        self._authenticator = authenticator
        self._administers = administers
        self._told = told

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/grants", edge(self._list)),
            web.post("/api/v1/grants/remove", edge(self._remove)),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        principal = await self._authenticator.authenticate(credentials_of(request))
        administers = self._administers(principal)
        grants = self._consents.grants
        found: list[GrantStatus] = []
        for server, source in sorted(self._consents.sources.items()):
            lists_as = source.lists_as()
            shown = [h for h in grants.holders(server) if _is_for(principal, h, administers=administers)]
            for n, holder in enumerate(shown, 1):
                grant = grants.get(server, holder)
                if grant is not None and len(found) < GRANTS_SHOWN_MAX:
                    found.append(_shown(grant, lists=holder == lists_as))
                if n % TURN_GRANTS == 0:
                    # Each is read and decrypted: calls go on meanwhile.
                    await asyncio.sleep(0)
        return answer({"grants": found})

    async def _remove(self, request: web.Request) -> web.Response:
        principal = await self._authenticator.authenticate(credentials_of(request))
        grant_id = (await body_of(request, BODY_BYTES_MAX, ("id",))).get("id")
        if not isinstance(grant_id, str) or not grant_id:
            raise Invalid("field 'id' is missing: 'toolmesh grants list' shows each grant's")
        try:
            server, holder = self._find(grant_id, principal)
            await self._consents.remove(server, holder)
        except MeshError as e:
            self._told(principal, "grants remove", grant_id[:200], e.kind)
            raise
        self._told(principal, "grants remove", grant_id, "ok")
        return answer({"removed": grant_id})

    def _find(self, grant_id: str, principal: Principal) -> tuple[str, Holder]:
        """Raises `Unknown` for none, and for one that this principal may not remove."""
        found = None
        if grant_id.partition("/")[0] in self._consents.sources:
            found = self._consents.grants.holder_named(grant_id)
        if found is None or not _is_for(principal, found[1], administers=self._administers(principal)):
            raise Unknown("there is no such grant")
        return found


def _is_for(principal: Principal, holder: Holder, *, administers: bool) -> bool:
    """May this principal see and remove what `holder` agreed to?"""
    _, tenant, _ = holder
    return holder == holder_of(principal) or (administers and principal.tenant in ("", tenant))


def _shown(grant: Grant, *, lists: bool) -> GrantStatus:
    issuer, tenant, subject = grant.holder
    token = grant.token
    return {
        "id": grant.id,
        "server": grant.server,
        "subject": subject,
        "issuer": issuer,
        "tenant": tenant,
        "by": token.issuer,
        "scopes": list(token.scopes),
        "granted_at": _time(grant.granted_s),
        "expires_at": _time(token.expires_s) if token.expires_s else None,
        "refreshable": bool(token.refresh_token),
        "lists": lists,
    }


def _time(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
