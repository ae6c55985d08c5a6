"""The governance of one node, put together: what is in force, and where operators ask for changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from node.audit.port import Audit
from node.governance.changes import Changes
from node.governance.desk import Desk
from node.governance.governance import MeshGovernance
from node.governance.office import Office
from node.governance.reach import Reach
from node.governance.store import SqliteGovernanceStore
from node.ports import Action, Carrier, Guard, Resource
from proto.errors import Forbidden, ScopeRequired
from proto.records import Principal

if TYPE_CHECKING:
    from federation.status import PeerStatus
    from federation.tls import MeshTls
    from node.config import NodeConfig
    from node.ports import CallRecord

AUTHORITY = "authority"
OPERATOR_SCOPE = "operator"


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
    guard: Guard,
    nodes: Carrier,
    audit: Audit,
    peers: Callable[[], Sequence[PeerStatus]],
    recent: Callable[[], Sequence[CallRecord]],
) -> Office:
    """`peers` of the federation and `recent` calls, as of now."""
    me = governance.me
    node = Resource(server="", owner=me.name, region=me.region, kind="node")

    def administering(principal: Principal) -> None:
        decision = guard.may(principal, Action.ADMINISTER, node)
        if decision.allowed:
            return
        if OPERATOR_SCOPE not in principal.scopes:
            raise ScopeRequired(f"this needs a key with scope {OPERATOR_SCOPE!r}", scopes=[OPERATOR_SCOPE])
        raise Forbidden(f"{principal.subject!r} may not administer {me.name}: {decision.reason}")

    def last_used() -> Mapping[str, int]:
        return {record.credential: record.at_ms for record in recent()}

    desk = Desk(governance, Changes(governance, check_policy), nodes, Reach(peers), administering, audit)
    return Office(governance, desk, check_policy, administering, audit, last_used)


def check_policy(name: str, text: str) -> None:
    """Raises `Invalid` for what does not compile."""
    # Cedar is loaded where a policy is.
    from node.guard.policy import check_policy as compiled

    compiled(name, text)
