"""Who may operate a node, for the routes that ask."""

from __future__ import annotations

from node.guard.mesh import OPERATOR_SCOPE
from node.ports import Action, Guard, Resource
from proto.errors import Forbidden, ScopeRequired
from proto.names import NodeId
from proto.records import Principal


def node_resource(me: NodeId) -> Resource:
    """The node itself, as something to administer."""
    return Resource(server="", owner=me.name, region=me.region, kind="node")


def may_operate(guard: Guard, node: Resource, principal: Principal) -> None:
    """Raises `ScopeRequired`, or `Forbidden` where a policy or a revocation stands against it."""
    decision = guard.may(principal, Action.ADMINISTER, node)
    if decision.allowed:
        return
    refusal: Forbidden | ScopeRequired = Forbidden(decision.reason)
    if decision.rule == "scopes":
        words = f"this needs the scope {OPERATOR_SCOPE!r}, or a policy that permits to administer this node"
        refusal = ScopeRequired(words, scopes=[OPERATOR_SCOPE])
    refusal.rule = decision.rule
    raise refusal
