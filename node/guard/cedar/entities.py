"""Principals and resources as Cedar sees them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node.guard.cedar.reading import Uid
from node.guard.cedar.schema import PRINCIPAL, TYPE_OF
from node.ports import Resource
from proto.records import Principal

_NOTHING_RUNS = {"readOnly": True, "destructive": False, "idempotent": True, "openWorld": False}
_NOT_SAID_OF_IT = dict.fromkeys(("readOnly", "destructive", "idempotent", "openWorld"), False)


def principal_uid(principal: Principal) -> Uid:
    return PRINCIPAL, f"{principal.issuer}|{principal.subject}"


def memberships(principal: Principal, roles: tuple[str, ...]) -> frozenset[Uid]:
    """The principal itself and all that it is in."""
    found = {principal_uid(principal), *(("Group", group) for group in principal.groups)}
    found.update(("Role", role) for role in roles)
    if principal.tenant:
        found.add(("Tenant", principal.tenant))
        found.update(("Team", f"{principal.tenant}/{group}") for group in principal.groups)
    return frozenset(found)


def principal_entity(principal: Principal, held: frozenset[Uid]) -> dict[str, Any]:
    """`held` are its memberships."""
    me = principal_uid(principal)
    attributes = {
        "subject": principal.subject,
        "issuer": principal.issuer,
        "tenant": principal.tenant,
        "kind": principal.kind,
        "groups": list(principal.groups),
        "scopes": list(principal.scopes),
        "actors": list(principal.actors),
    }
    return {"uid": reference(me), "attrs": attributes, "parents": [reference(uid) for uid in held if uid != me]}


def resource_uid(resource: Resource) -> Uid:
    match resource.kind:
        case "node":
            return "Node", resource.owner
        case "server":
            return "Server", resource.server
    return TYPE_OF[resource.kind], f"{resource.server}/{resource.tool}"


def surroundings(resource: Resource) -> frozenset[Uid]:
    """The resource itself and all that it is in."""
    found = {resource_uid(resource), ("Node", resource.owner)}
    if resource.template is not None:
        found.add(resource_uid(resource.template))
    if resource.server:
        found.add(("Server", resource.server))
    return frozenset(found)


def resource_entity(resource: Resource) -> dict[str, Any]:
    me = resource_uid(resource)
    attributes = {
        "server": resource.server,
        "owner": resource.owner,
        "region": resource.region,
        "tool": resource.tool,
        "kind": resource.kind,
        "tenant": resource.tenant,
        "service": resource.service,
        "annotations": hints_of(resource),
    }
    parents = [reference(uid) for uid in surroundings(resource) if uid != me]
    return {"uid": reference(me), "attrs": attributes, "parents": parents, "tags": dict(resource.labels)}


def hints_of(resource: Resource) -> Mapping[str, bool]:
    """A tool's hints as MCP reads what is not said (2025-11-25, `ToolAnnotations`): it writes, and destroys.

    Prompts and resources are only read. Of a server as a whole nothing is said, and nothing holds.
    """
    match resource.kind:
        case "tool":
            said = resource.annotations
            reads = said.get("readOnly", False)
            return {
                "readOnly": reads,
                "destructive": not reads and said.get("destructive", True),
                "idempotent": said.get("idempotent", reads),
                "openWorld": said.get("openWorld", True),
            }
        case "server" | "node":
            return _NOT_SAID_OF_IT
    return _NOTHING_RUNS


def reference(uid: Uid) -> dict[str, str]:
    return {"type": uid[0], "id": uid[1]}
