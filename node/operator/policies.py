"""The operators' route to what policies in shadow mode would change: `/api/v1/policy/diff`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from itertools import islice

from aiohttp import web

from node.catalog import Catalog
from node.gateway import Gateway
from node.guard.comparing import compare
from node.guard.mesh import MeshGuard
from node.ingress.incoming import credentials_of
from node.operator.edge import answer, edge
from node.ports import Authenticator
from proto.records import Principal

CALLS_MAX = 1_000


class PolicyApi:
    """`may_operate` raises where a principal may not administer this node."""

    def __init__(
        self,
        guard: MeshGuard,
        authenticator: Authenticator,
        catalog: Catalog,
        gateway: Gateway,
        may_operate: Callable[[Principal], None],
    ) -> None:
        self._guard = guard
        self._authenticator = authenticator
        self._catalog = catalog
        self._gateway = gateway
        self._may_operate = may_operate

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/v1/policy/diff", edge(self._diff))]

    async def _diff(self, request: web.Request) -> web.Response:
        """`counted` were called, `calls` and `lists` are worked out now; `shadow`: there is a policy in that mode."""
        principal = await self._authenticator.authenticate(credentials_of(request))
        self._may_operate(principal)
        terms, differences = self._guard.terms, self._guard.differences
        known = [*terms.principals, *self._authenticator.principals().values()]
        recent = islice(reversed(self._gateway.recent), CALLS_MAX)
        dry = await compare(terms, known, recent, self._catalog)
        return answer(
            {
                "shadow": terms.shadow is not None,
                "counted": [row._asdict() for row in differences.latest()],
                "dropped": differences.dropped,
                "calls": [change._asdict() for change in dry.calls],
                "lists": [asdict(change) for change in dry.lists],
                "complete": dry.complete,
            }
        )
