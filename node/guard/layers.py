"""The layers of a decision that need no policy language, in the order in which they are asked. Pure.

Each looks at one thing and says no, or nothing. What passes them all is for the scopes and the policies.
"""

from __future__ import annotations

from typing import NamedTuple

from node.guard.governed import Governed
from node.guard.reach import Reach
from node.ports import Action, Resource
from proto.records import Decision

GOVERNANCE, TENANT, HELD = "governance", "tenant", "held"
"""Rules of the layers here; that of the reach says where it is written."""


class Standing(NamedTuple):
    """What the layers know of a caller: the same for all callers of one class."""

    tenant: str
    groups: frozenset[str]
    reach: Reach


def refused(standing: Standing, action: Action, resource: Resource, governed: Governed) -> Decision | None:
    """Why this is out of the question, by the first layer that says so.

    To administer takes neither an open server nor one in reach: whoever governs must be able to mend. It stays within
    a tenant.
    """
    administers = action is Action.ADMINISTER
    if governed.closed and not administers:
        return Decision(False, governed.closed, GOVERNANCE)
    if denied := _tenancy(standing, resource, governed):
        return denied
    if administers:
        return None
    return _held(resource, governed) or standing.reach.refuses(resource)


def _tenancy(standing: Standing, resource: Resource, governed: Governed) -> Decision | None:
    mine, owner = standing.tenant, resource.tenant
    if governed.tenants_governed:
        if mine and mine not in governed.tenants:
            return Decision(False, f"there is no tenant {mine!r}", TENANT)
        if owner and owner not in governed.tenants:
            return Decision(False, f"{resource.server!r} is of tenant {owner!r}, which there is not", TENANT)
    if owner and owner != mine:
        whose = f"the caller of {mine!r}" if mine else "the caller of none"
        return Decision(False, f"{resource.server!r} is of tenant {owner!r}, {whose}", TENANT)
    if resource.teams and standing.groups.isdisjoint(resource.teams):
        return Decision(False, f"{resource.server!r} is for {', '.join(resource.teams)} only", TENANT)
    return None


def _held(resource: Resource, governed: Governed) -> Decision | None:
    if not governed.held:
        return None
    tool = resource.tool if resource.kind == "tool" else ""
    held = governed.hold(resource.server, resource.owner, tool)
    if held is None:
        return None
    # In the words that enable it again: 'toolmesh enable' takes no others.
    what = f"{held.server}--{held.owner}" if held.owner else held.server
    what = f"{what}/{held.tool}" if held.tool else what
    by = f" by {held.by}" if held.by else ""
    return Decision(False, f"{what} is disabled{by}{f': {held.reason}' if held.reason else ''}", HELD)
