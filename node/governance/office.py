"""A node's governance as its operators see it: `node.operator.governed.Governing` over the running parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from node.audit.port import Audit
from node.governance.asked import Asked
from node.governance.bodies import Broken
from node.governance.changes import CheckPolicy
from node.governance.copies import Copy
from node.governance.desk import Desk
from node.governance.governance import MeshGovernance
from node.guard.governed import Held, KeyRecord, PolicyRule, Revoked, Tenant
from node.operator.governed import (
    AuthorityStatus,
    GovernanceStatus,
    HeldShown,
    KeyShown,
    Laid,
    PolicyShown,
    RevokedShown,
    TenantShown,
)
from proto.errors import Forbidden, MeshError
from proto.records import Kind, Principal, RecordKey

DIGITS_SHOWN = 8
UNREADABLE_SHOWN = 20


class Office:
    """`last_used` gives unix ms by credential; `administering` raises unless the principal may administer."""

    def __init__(
        self,
        governance: MeshGovernance,
        desk: Desk,
        check_policy: CheckPolicy,
        administering: Callable[[Principal], None],
        audit: Audit,
        last_used: Callable[[], Mapping[str, int]],
    ) -> None:
        self._governance = governance
        self._desk = desk
        self._check_policy = check_policy
        self._administering = administering
        self._audit = audit
        self._last_used = last_used

    # ---- doing ----------------------------------------------------------------------------------

    async def change(self, asked: Asked, principal: Principal) -> dict[str, Any]:
        return await self._desk.change(asked, principal)

    def forget(self, authority: str, principal: Principal) -> None:
        try:
            self.look(principal)
            self._governance.forget(authority)
        except MeshError as e:
            self._audit.admin(principal, "governance forget", authority, e.kind, reason=e.message)
            raise
        self._audit.admin(principal, "governance forget", authority)

    def check_policy(self, name: str, text: str) -> None:
        self._check_policy(name, text)

    def look(self, principal: Principal, *, at_keys: bool = False) -> None:
        self._administering(principal)
        if principal.tenant and not at_keys:
            raise Forbidden(f"{principal.subject!r} is of tenant {principal.tenant!r}, and this is of the whole mesh")

    # ---- showing --------------------------------------------------------------------------------

    def status(self) -> GovernanceStatus:
        governance, state = self._governance, self._governance.state
        disk = [governance.disk_problem] if governance.disk_problem else []
        return {
            "node": governance.me.name,
            "writes": governance.writes,
            "version": state.version,
            "age_s": governance.age_s,
            "closed": state.closed,
            "stale": sorted(state.stale),
            "authorities": [self._authority(copy) for copy in governance.copies()],
            "problems": [*governance.problems, *disk],
        }

    def keys(self, tenant: str = "") -> list[KeyShown]:
        state, used = self._governance.state, self._last_used()
        return [
            {
                "name": key.name,
                "digest": key.sha256.hex()[:DIGITS_SHOWN],
                "tenant": key.tenant,
                "groups": list(key.groups),
                "scopes": list(key.scopes),
                "servers": list(key.servers),
                "addresses": list(key.addresses),
                "expires_at": _at(key.expires_s),
                "counts": key.sha256 in state.keys,
                "last_used_at": _at(used.get(key.credential, 0) // 1000),
                **laid,
            }
            for key, laid in self._all(Kind.KEY)
            if isinstance(key, KeyRecord) and tenant in ("", key.tenant)
        ]

    def policies(self) -> list[PolicyShown]:
        grants = {(rule.name, rule.authority): rule.grants for rule in self._governance.state.policies}
        return [
            {
                "name": rule.name,
                "mode": rule.mode,
                "text": rule.text,
                "grants": grants.get((rule.name, rule.authority), False),
                **laid,
            }
            for rule, laid in self._all(Kind.POLICY)
            if isinstance(rule, PolicyRule)
        ]

    def tenants(self) -> list[TenantShown]:
        known = self._governance.state.tenants
        return [
            {"name": t.name, "title": t.title, "addresses": list(t.addresses), "counts": t.name in known, **laid}
            for t, laid in self._all(Kind.TENANT)
            if isinstance(t, Tenant)
        ]

    def held(self) -> list[HeldShown]:
        return [
            {
                "server": h.server,
                "tool": h.tool,
                "owner": h.owner,
                "reason": h.reason,
                "authority": laid["authority"],
                "by": h.by,
                "at": _at(h.at),
            }
            for item, laid in self._all(Kind.QUARANTINE)
            if isinstance(item, tuple)
            for h in item
            if isinstance(h, Held)
        ]

    def revoked(self) -> list[RevokedShown]:
        return [
            {"credential": r.credential, "reason": r.reason, **laid}
            for r, laid in self._all(Kind.REVOCATION)
            if isinstance(r, Revoked)
        ]

    # ---- within ---------------------------------------------------------------------------------

    def _all(self, kind: Kind) -> Iterator[tuple[object, Laid]]:
        found = [
            (key, item, copy)
            for copy in self._governance.copies()
            for key, item in copy.items.items()
            if key.kind is kind and not isinstance(item, Broken)
        ]
        for key, item, copy in sorted(found, key=lambda f: (f[0].id, f[2].authority.name)):
            yield item, _laid(copy, key)

    def _authority(self, copy: Copy) -> AuthorityStatus:
        state = self._governance.state
        counts = {kind: sum(key.kind is kind for key in copy.items) for kind in Kind}
        broken = [f"{key.kind} {key.id}: {reason}" for key, reason in copy.broken.items()]
        return {
            "name": copy.authority.name,
            "role": copy.role,
            "heard_s": round(self._governance.age_ms(copy) / 1000, 1),
            "counts": copy.authority.name not in state.stale,
            "keys": counts[Kind.KEY],
            "policies": counts[Kind.POLICY],
            "tenants": counts[Kind.TENANT],
            "held": sum(len(item) for item in copy.items.values() if isinstance(item, tuple)),
            "revoked": counts[Kind.REVOCATION],
            "unreadable": broken[:UNREADABLE_SHOWN],
        }


def _laid(copy: Copy, key: RecordKey) -> Laid:
    body = copy.records[key].data()
    return {"authority": copy.authority.name, "by": str(body.get("by", "")), "at": _at(int(body.get("at", 0)))}


def _at(unix_s: int) -> str | None:
    """RFC 3339 in UTC; None of 0."""
    if not 0 < unix_s < 1 << 37:
        return None
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
