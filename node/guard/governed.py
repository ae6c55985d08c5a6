"""What the authorities of the mesh have laid down, as one immutable value that every decision reads.

Deny wins wherever authorities are combined (`node.governance.union`): held if any of them holds, revoked if any of them
revokes. A key counts only where no two of them contradict each other about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol

Mode = Literal["enforce", "shadow"]


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """Cedar policies under one name. Without `grants` only its `forbid`s count: its authority has lost the role."""

    name: str
    text: str
    mode: Mode
    authority: str
    grants: bool = True


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key. `sha256` is the 32 bytes over its UTF-8 text; `servers` are globs over bare or qualified names.

    `addresses` are the networks (CIDR) that it may come from, none: all. It ends at `expires_s` (unix seconds; 0: it
    does not).
    """

    name: str
    sha256: bytes = field(repr=False)
    tenant: str = ""
    groups: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    servers: tuple[str, ...] = ("*",)
    expires_s: int = 0
    addresses: tuple[str, ...] = ()
    authority: str = ""

    @property
    def credential(self) -> str:
        """As in `Principal.credential`."""
        return f"key/{self.name}"


@dataclass(frozen=True, slots=True)
class Tenant:
    """`addresses` are the networks (CIDR) that its principals may come from, none: all."""

    name: str
    title: str = ""
    addresses: tuple[str, ...] = ()
    authority: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """A server that is disabled, or one tool of it; with `owner` (a node's name) only the one that this node owns.

    `at` is unix seconds; `by` the subject that asked for it.
    """

    server: str
    tool: str = ""
    owner: str = ""
    reason: str = ""
    by: str = ""
    at: int = 0
    authority: str = ""

    def covers(self, owner: str, tool: str) -> bool:
        """`tool` is empty where the server as a whole is meant: one held tool does not hold its server."""
        return self.owner in ("", owner) and self.tool in ("", tool)


@dataclass(frozen=True, slots=True)
class Revoked:
    """A credential that counts no longer: as in `Principal.credential`, or `subject/ISSUER|SUBJECT`."""

    credential: str
    at: int = 0
    authority: str = ""
    reason: str = ""
    by: str = ""


def _empty() -> Mapping[Any, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Governed:
    """All of it, at one moment. `version` rises with every change in this process, so that it can key a cache.

    keys            by SHA-256 (32 bytes); only those that may count now, expiry and revocation aside
    tenants         by name; empty while `tenants_governed` means that no tenant exists
    held            by bare server name
    revoked         by credential
    stale           authorities not heard for longer than `guard.governance_age_s`, or whose role is gone
    closed          why everything is to be refused (a policy that cannot be honoured); empty: it is not
    """

    version: int = 0
    keys: Mapping[bytes, KeyRecord] = field(default_factory=_empty)
    policies: tuple[PolicyRule, ...] = ()
    tenants: Mapping[str, Tenant] = field(default_factory=_empty)
    held: Mapping[str, tuple[Held, ...]] = field(default_factory=_empty)
    revoked: Mapping[str, Revoked] = field(default_factory=_empty)
    stale: frozenset[str] = frozenset()
    tenants_governed: bool = False
    closed: str = ""

    def hold(self, server: str, owner: str, tool: str = "") -> Held | None:
        """What disables this tool of this owner's server, if anything does; `tool` is empty for the server itself."""
        for held in self.held.get(server, ()):
            if held.covers(owner, tool):
                return held
        return None

    def revocation(self, credential: str, issuer: str, subject: str) -> Revoked | None:
        """What revokes a principal that was proved so, if anything does."""
        if not self.revoked:
            return None
        return self.revoked.get(credential) or self.revoked.get(f"subject/{issuer}|{subject}")

    def __repr__(self) -> str:
        counts = f"{len(self.keys)} keys, {len(self.policies)} policies, {len(self.tenants)} tenants"
        denials = f"{sum(map(len, self.held.values()))} held, {len(self.revoked)} revoked"
        stale = f", stale {','.join(sorted(self.stale))}" if self.stale else ""
        return f"Governed({self.version}: {counts}, {denials}{stale}{', closed' if self.closed else ''})"


EMPTY = Governed()

Listener = Callable[[Governed], None]


class Governance(Protocol):
    """Who knows what is laid down: read `state` anew at each decision, or subscribe."""

    @property
    def state(self) -> Governed: ...

    def subscribe(self, listener: Listener) -> None:
        """`listener` is called on the loop after each change; it must neither block nor raise."""


class Ungoverned:
    """The twin for nodes without a data_dir and for tests: `lay_down` says what is in force."""

    def __init__(self, state: Governed = EMPTY) -> None:
        self.state = state
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def lay_down(self, state: Governed) -> None:
        self.state = state
        for listener in self._listeners:
            listener(state)

    def __repr__(self) -> str:
        return f"Ungoverned({self.state!r})"
