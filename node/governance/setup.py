"""The governance of one node, put together: what is in force, and where operators ask for changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from node.audit.port import Audit
from node.governance.changes import Changes
from node.governance.desk import Desk
from node.governance.governance import MeshGovernance
from node.governance.office import Office
from node.governance.reach import Reach
from node.governance.store import SqliteGovernanceStore
from node.guard.governed import PolicyRule
from node.guard.operating import may_operate, node_resource
from node.ports import Carrier
from proto.errors import Invalid
from proto.records import Principal

if TYPE_CHECKING:
    from federation.status import PeerStatus
    from federation.tls import MeshTls
    from node.config import NodeConfig
    from node.guard.mesh import MeshGuard
    from node.ports import CallRecord

AUTHORITY = "authority"


def governance_of(config: NodeConfig, tls: MeshTls | None) -> MeshGovernance:
    """A node may lay down rules if its certificate carries the role, or if it runs alone (`tls` is None)."""
    return MeshGovernance(
        config.node_id,
        SqliteGovernanceStore(config.node.data_dir),
        writes=tls is None or AUTHORITY in tls.roles,
        age_s=config.guard.governance_age_s,
        expected=config.guard.authorities,
    )


def office_of(
    governance: MeshGovernance,
    guard: MeshGuard,
    nodes: Carrier,
    audit: Audit,
    peers: Callable[[], Sequence[PeerStatus]],
    recent: Callable[[], Sequence[CallRecord]],
) -> Office:
    """`peers` of the federation and `recent` calls, as of now."""
    me = governance.me
    # Operators of a tenant have their part in it: `node.governance.tenancy` says which.
    administering = partial(may_operate, guard, node_resource(me), in_tenant=True)

    def last_used() -> Mapping[str, int]:
        return {record.credential: record.at_ms for record in recent()}

    def keeps(principal: Principal, name: str, policy: PolicyRule | None) -> bool:
        state = governance.state
        others = tuple(rule for rule in state.policies if (rule.name, rule.authority) != (name, me.name))
        if policy is not None:
            try:
                check_policy(name, policy.text)
            except Invalid:
                # Which is said when it is laid down.
                return True
        policies = (*others, policy) if policy is not None else others
        return guard.may_under(replace(state, policies=policies), principal, node_resource(me))

    desk = Desk(governance, Changes(governance, check_policy), nodes, Reach(peers), administering, audit, keeps)
    return Office(governance, desk, check_policy, administering, audit, last_used)


def check_policy(name: str, text: str) -> None:
    """Raises `Invalid` for what does not compile."""
    # Cedar is loaded where a policy is.
    from node.guard.policy import check_policy as compiled

    compiled(name, text)
