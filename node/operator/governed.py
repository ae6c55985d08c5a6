"""What is laid down, as operators are shown it, and what they ask of a node about it."""

from __future__ import annotations

from typing import Any, NotRequired, Protocol, TypedDict

from node.governance.asked import Asked
from proto.records import Principal


class AuthorityStatus(TypedDict):
    """One authority as this node knows it. `heard_s`: so long ago; `counts`: what it grants is in force. `unreadable`:
    records of it that cannot be honoured, 20 at most, with the reasons."""

    name: str
    role: bool
    heard_s: float
    counts: bool
    keys: int
    policies: int
    tenants: int
    held: int
    revoked: int
    unreadable: list[str]


class GovernanceStatus(TypedDict):
    """`writes`: this node may lay down rules. `version` counts changes in this process. `closed`: why everything is
    refused (empty: it is not). `problems`: what operators have to mend."""

    node: str
    writes: bool
    version: int
    age_s: float
    closed: str
    stale: list[str]
    authorities: list[AuthorityStatus]
    problems: list[str]


class Laid(TypedDict):
    """Of every record: which authority laid it down, who asked for it, and when (null: not known)."""

    authority: str
    by: str
    at: str | None


class KeyShown(Laid):
    """`digest`: the first eight hex digits of the key's SHA-256. `counts`: the key is good now. `last_used_at`: at this
    node, among the latest calls that it remembers."""

    name: str
    digest: str
    tenant: str
    groups: list[str]
    scopes: list[str]
    servers: list[str]
    addresses: list[str]
    expires_at: str | None
    counts: bool
    last_used_at: str | None


class PolicyShown(Laid):
    name: str
    mode: str
    text: str
    grants: bool


class TenantShown(Laid):
    name: str
    title: str
    addresses: list[str]
    counts: bool


class HeldShown(Laid):
    server: str
    tool: str
    owner: str
    reason: str


class RevokedShown(Laid):
    credential: str
    reason: str


class ChangeAnswer(TypedDict):
    """`changed`: false if it was so already. `authorities` laid it down; it is `in_force` at these nodes, `waiting`
    have not confirmed it in time, `away` cannot be reached and have it when they are back. `key` is shown this once."""

    changed: bool
    authorities: list[str]
    in_force: list[str]
    waiting: list[str]
    away: list[str]
    key: NotRequired[str]


class Governing(Protocol):
    """A node's governance as its operators see it. Raises `MeshError`s."""

    def status(self) -> GovernanceStatus: ...

    def keys(self, tenant: str = "") -> list[KeyShown]:
        """Those of one tenant, or all."""

    def policies(self) -> list[PolicyShown]: ...

    def tenants(self) -> list[TenantShown]: ...

    def held(self) -> list[HeldShown]: ...

    def revoked(self) -> list[RevokedShown]: ...

    async def change(self, asked: Asked, principal: Principal) -> dict[str, Any]:
        """A `ChangeAnswer` without `key`. Raises `Forbidden` unless the principal may administer."""

    def forget(self, authority: str, principal: Principal) -> None:
        """At this node alone."""

    def check_policy(self, name: str, text: str) -> None:
        """Raises `Invalid` for what does not compile."""

    def look(self, principal: Principal, *, at_keys: bool = False) -> None:
        """Raises `Forbidden` unless the principal may administer: one of a tenant may look at its keys alone."""
