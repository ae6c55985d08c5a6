"""Denials that never become a call: what was named is there, and is not for who named it.

Callers are told in the words of what does not exist, and the guard is asked nothing further. The record keeps the
truth: who named what, and which rule hid it. What does not exist at all is no denial.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from node.aiming import aimed_at
from node.asking import Aim
from node.audit.port import Audit
from node.catalog import Catalog
from node.ports import Action, Guard, Resource
from proto.errors import MeshError
from proto.records import Principal


class _Everything:
    key: Hashable = "everything"

    def allows(self, resource: Resource) -> bool:
        return True


_EVERYTHING = _Everything()


class Denials:
    """Tells `audit` why a name was answered like one that does not exist."""

    def __init__(self, catalog: Catalog, guard: Guard, audit: Audit) -> None:
        self._catalog = catalog
        self._guard = guard
        self._audit = audit

    def named(self, principal: Principal, action: Action, name: str, aim: Aim | None) -> None:
        """`name` (of a server or service) or `aim` at it was unknown to the principal."""
        # Later, so that the answer takes as long as that to a name which is not there.
        asyncio.get_running_loop().call_soon(self._look, principal, action, name, aim)

    def _look(self, principal: Principal, action: Action, name: str, aim: Aim | None) -> None:
        try:
            route = self._catalog.route(name, _EVERYTHING)
        except MeshError:
            return
        for server in route.servers:
            resource = aimed_at(server, aim) if aim is not None else server.resource()
            decision = self._guard.explain(principal, action, resource)
            if not decision.allowed:
                # The others of a service are told by their owners' own records, where they decide otherwise.
                self._audit.decision(principal, action.value, resource, decision)
                return
