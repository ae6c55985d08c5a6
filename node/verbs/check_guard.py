"""What `toolmesh check` finds in policies and roles: those that a node would not start with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.guard.choose import policy_text
from node.guard.policy import read_policy
from node.settings.guard import GuardSection
from proto.errors import Invalid

if TYPE_CHECKING:
    from node.verbs.checks import Report


def guard(section: GuardSection, report: Report) -> None:
    """Without policies and roles there is nothing to say."""
    statements = 0
    for entry in section.policies:
        try:
            statements += len(read_policy(entry.file.stem, policy_text(entry.file)))
        except Invalid as e:
            report.problems.append(f"guard.policies: {entry.file}: {e.message}")
    enforced = [entry for entry in section.policies if entry.mode == "enforce"]
    if section.policies or section.roles:
        files, roles = len(section.policies), len(section.roles)
        shadow = f", {files - len(enforced)} in shadow mode" if len(enforced) < files else ""
        report.facts.append(("policies", f"{files} files with {statements} statements{shadow}; {roles} roles"))
    for name, role in section.roles.items():
        if not role.groups and not role.subjects:
            report.warnings.append(f"guard.roles.{name}: nobody has it; give groups or subjects")
