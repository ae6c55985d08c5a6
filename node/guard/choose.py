"""The guard that a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from node.audit.port import Audit
from node.config import NodeConfig
from node.guard.governed import Governance, PolicyRule
from node.guard.keys import ApiKey
from node.guard.limits import Limits
from node.guard.mesh import MeshGuard
from node.guard.policy import POLICY_BYTES_MAX
from node.guard.reach import Reaches
from node.settings.auth import AuthSection
from node.settings.guard import GuardSection
from proto.errors import Invalid
from proto.records import Principal


def guard_of(
    config: NodeConfig,
    *,
    governance: Governance | None = None,
    valid: Callable[[Principal], bool] = lambda _: True,
    limits: Limits | None = None,
    audit: Audit | None = None,
) -> MeshGuard:
    """Raises `Invalid` for a policy of the configuration that cannot be read: the node is not to start."""
    return MeshGuard(
        config.node.name,
        reaches_of(config.auth, config.node.mesh),
        governance=governance,
        own=policies_of(config.guard),
        roles=config.guard.roles,
        valid=valid,
        limits=limits,
        audit=audit,
    )


def reaches_of(auth: AuthSection, mesh: str) -> Reaches:
    """Where nobody has to say who he is, everybody reaches everything: the listener is on loopback then."""
    return Reaches.of(
        mesh,
        [ApiKey(k.name, k.digest, k.tenant, k.groups, k.scopes, k.servers) for k in auth.keys],
        auth.peers.servers,
        issuers=[issuer.issuer for issuer in auth.issuers],
        users=[user.name for user in auth.users],
        open=not auth.demanded,
    )


def policies_of(section: GuardSection) -> list[PolicyRule]:
    """The files' texts, each under its file's name. Raises `Invalid` for a file that cannot be read."""
    return [PolicyRule(entry.file.stem, policy_text(entry.file), entry.mode, "") for entry in section.policies]


def policy_text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(POLICY_BYTES_MAX + 1)
        return data.decode()
    except (OSError, UnicodeDecodeError) as e:
        why = "it is not UTF-8" if isinstance(e, UnicodeDecodeError) else e.strerror or str(e)
        raise Invalid(f"guard.policies: {file} cannot be read: {why}") from None
