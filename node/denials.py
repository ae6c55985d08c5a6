"""Denials that never become a call: what was named is not there, or is there and not for who named it.

Callers are told both in the same words, and the guard is asked nothing further. The record keeps the truth: who named
what, and which rule hid it, or that nobody has it. So whoever tries names leaves a trace of each. What is another
tenant's is on record for its caller's tenant as what nobody has, and apart from it, for the node's operators, as it is:
operators of a tenant read what their callers did, and must not learn from it what others have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from node.aiming import aimed_at
from node.asking import Aim
from node.audit.port import Audit
from node.catalog import Catalog, Server
from node.guard.layers import TENANT
from node.ports import Action, Guard, Resource
from proto.errors import MeshError
from proto.records import Decision, Principal


class _Everything:
    key: Hashable = "everything"

    def allows(self, resource: Resource) -> bool:
        return True


_EVERYTHING = _Everything()
_NOTHING = Decision(False, "there is no such server, or nothing of that name there", "unknown")


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
            servers: tuple[Server, ...] = ()
        else:
            servers = route.servers
        for server in servers:
            resource = aimed_at(server, aim) if aim is not None else server.resource()
            decision = self._guard.explain(principal, action, resource)
            if not decision.allowed:
                # The others of a service are told by their owners' own records, where they decide otherwise.
                if is_anothers(principal, resource, decision):
                    tell_operators(self._audit, principal, action, resource, decision)
                    break
                self._audit.decision(principal, action.value, resource, decision)
                return
        named = Resource(server=name, owner="", tool=aim.name if aim is not None else "")
        self._audit.decision(principal, action.value, named, _NOTHING)


def is_anothers(principal: Principal, resource: Resource, decision: Decision) -> bool:
    """Was it denied because it is of another tenant than the caller's?"""
    return decision.rule == TENANT and bool(principal.tenant) and resource.tenant not in ("", principal.tenant)


def tell_operators(audit: Audit, principal: Principal, action: Action, resource: Resource, decision: Decision) -> None:
    """The truth about what is another tenant's, on record as no tenant's."""
    what = {name: said for name in ("server", "owner", "tool") if (said := getattr(resource, name))}
    who = {"subject": principal.subject, "issuer": principal.issuer, "of": principal.tenant}
    audit.system("hidden", reason=decision.reason, action=action.value, asked=what, by=who)
