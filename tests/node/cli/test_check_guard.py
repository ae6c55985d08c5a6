"""`toolmesh check` looks at policies and roles."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.app import App
from node.config import parse
from node.verbs.checks import inspect
from proto.errors import Invalid


def test_a_policy_that_cannot_be_honoured_is_a_problem_and_keeps_the_node_from_starting(tmp_path: Path) -> None:
    (tmp_path / "night.cedar").write_text("permit(principal, action, resource) when { resource.sever == 1 };")
    (tmp_path / "day.cedar").write_text("permit(principal, action, resource);")
    policies = [{"file": "night.cedar"}, {"file": "day.cedar", "mode": "shadow"}, {"file": "gone.cedar"}]
    config = parse({"guard": {"policies": policies, "roles": {"dev": {}}}}, tmp_path)
    report = inspect(config)
    problems = [problem for problem in report.problems if problem.startswith("guard.policies")]
    assert len(problems) == 2
    assert "did you mean 'server'" in problems[0]
    assert "gone.cedar cannot be read" in problems[1]
    assert ("policies", "3 files with 1 statements, 1 in shadow mode; 1 roles") in report.facts
    assert "guard.roles.dev: nobody has it; give groups or subjects" in report.warnings
    with pytest.raises(Invalid, match="did you mean 'server'"):
        App(parse({"guard": {"policies": policies[:2]}}, tmp_path))
