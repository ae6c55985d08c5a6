"""Desks of several nodes that carry to each other without a network, and what an operator sees of one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from node.audit.port import NoAudit
from node.governance.changes import Changes
from node.governance.desk import Arrived, Desk
from node.governance.governance import MeshGovernance
from node.governance.office import Office
from node.governance.store import MemoryGovernanceStore
from node.ports import Caller
from proto.calls import Answer, Call, Exchange
from proto.errors import Invalid, ScopeRequired, Unavailable
from proto.names import NodeId
from proto.records import Principal

OPERATOR = Principal("op", "m", scopes=("operator",), kind="key")
READER = Principal("reader", "m", kind="key")
NOW_S = 1_700_000_000


def administering(principal: Principal) -> None:
    if "operator" not in principal.scopes:
        raise ScopeRequired("this needs a key with scope 'operator'", scopes=["operator"])


def check_policy(name: str, text: str) -> None:
    if "permit" not in text:
        raise Invalid(f"policy {name!r} permits nothing")


class Acts(NoAudit):
    """Operators' acts: (subject, verb, what, outcome); `before` what is said to have been there, of each."""

    def __init__(self) -> None:
        self.before: list[Any] = []
        self.acts: list[tuple[str, str, str, str]] = []

    def admin(self, principal: Principal, verb: str, what: str, outcome: str = "ok", **more: Any) -> None:
        self.acts.append((principal.subject, verb, what, outcome))
        self.before.append(more.get("before"))


@dataclass
class Mesh:
    """Nodes by name; those in `away` cannot be carried to."""

    members: dict[str, Member] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)

    def add(self, name: str, *, authority: bool = False) -> Member:
        member = self.members[name] = Member(name, self, authority)
        return member

    def close(self) -> None:
        for member in self.members.values():
            member.governance.close()


class Member:
    """One node: the `Carrier` and the `Mesh` of its own desk. What it publishes is at the others at once."""

    def __init__(self, name: str, mesh: Mesh, authority: bool) -> None:
        self.me = name
        self.id = NodeId.of("mesh.test", "eu", name)
        self.carried: list[tuple[str, Principal]] = []
        self.handler: Callable[[Call, Exchange, NodeId], Awaitable[Answer]] | None = None
        self.audit = Acts()
        self.last_used: dict[str, int] = {}
        self._mesh = mesh
        self.governance = MeshGovernance(self.id, MemoryGovernanceStore(), writes=authority)
        self.governance.publish = self._publish
        self.governance.open()
        changes = Changes(self.governance, check_policy, lambda: float(NOW_S))
        self.desk = Desk(self.governance, changes, self, self, administering, self.audit)
        self.office = Office(
            self.governance, self.desk, check_policy, administering, self.audit, lambda: self.last_used
        )

    def handle(self, method: str, handler: Callable[[Call, Exchange, NodeId], Awaitable[Answer]]) -> None:
        self.handler = handler

    async def carry(
        self,
        node: str,
        method: str,
        params: dict[str, Any],
        caller: Caller,
        exchange: Exchange,
        *,
        budget_ms: int = 0,
    ) -> Answer:
        self.carried.append((node, caller.principal))
        if node in self._mesh.away:
            raise Unavailable(f"node {node!r} is down")
        handler = self._mesh.members[node].handler
        assert handler is not None
        return await handler(Call("c1", "", method, params, caller.principal), exchange, self.id)

    def authorities(self) -> Sequence[tuple[str, bool]]:
        return [
            (name, name not in self._mesh.away)
            for name, member in sorted(self._mesh.members.items())
            if member.governance.writes and name != self.me
        ]

    async def arrived(self, within_s: float) -> Arrived:
        others = [name for name in sorted(self._mesh.members) if name != self.me]
        return Arrived(tuple(n for n in others if n not in self._mesh.away), (), tuple(self._mesh.away & {*others}))

    def _publish(self, puts: Any, deletes: Any) -> None:
        from proto.records import Kind, Record

        node = Record.of(Kind.NODE, self.me, self.governance.node_field)
        for name, member in self._mesh.members.items():
            if name != self.me and name not in self._mesh.away:
                member.governance.governs(self.id, [node, *self.governance.own().values()], {}, whole=True)
