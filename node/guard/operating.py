"""Who may operate a node, for the routes that ask."""

from __future__ import annotations

from node.guard.layers import TENANT
from node.guard.mesh import OPERATOR_SCOPE
from node.ports import Action, Guard, Resource
from proto.errors import Forbidden, ScopeRequired
from proto.names import NodeId
from proto.records import Decision, Principal


def node_resource(me: NodeId) -> Resource:
    """The node itself, as something to administer."""
    return Resource(server="", owner=me.name, region=me.region, kind="node")


def may_operate(guard: Guard, node: Resource, principal: Principal, *, in_tenant: bool = False) -> None:
    """Raises `ScopeRequired`, or `Forbidden` where a policy, a revocation or the principal's tenant stands against it.

    A node serves all tenants: to drain it, or to look at all that it does, is not for an operator of one of them.
    `in_tenant`: what is asked for stays within the principal's own tenant, and whoever asks sees to that.
    """
    decision = guard.may(principal, Action.ADMINISTER, node)
    if decision.allowed and principal.tenant and not in_tenant:
        decision = Decision(
            False, f"{principal.subject!r} is of tenant {principal.tenant!r}, and this is of the whole mesh", TENANT
        )
    if decision.allowed:
        return
    refusal: Forbidden | ScopeRequired = Forbidden(decision.reason)
    if decision.rule == "scopes":
        words = f"this needs the scope {OPERATOR_SCOPE!r}, or a policy that permits to administer this node"
        refusal = ScopeRequired(words, scopes=[OPERATOR_SCOPE])
    refusal.rule = decision.rule
    raise refusal
