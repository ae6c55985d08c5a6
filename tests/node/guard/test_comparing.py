"""A dry comparison of what policies in shadow mode would change."""

from __future__ import annotations

import pytest

from node.guard import comparing
from node.guard.comparing import CallChange, ListChange, compare
from node.guard.governed import Governed, PolicyRule, Ungoverned
from node.guard.mesh import MeshGuard
from node.guard.reach import Reaches
from proto.records import Principal
from tests.node.guard.test_mistakes import ANN, House

BOB, ZOE = (Principal(name, "mesh.test", groups=("clerks",), kind="key") for name in ("bob", "zoe"))
STRICTER = PolicyRule("stricter", 'forbid(principal, action, resource == Tool::"files/read");', "shadow", "eu-1")
LOOSER = PolicyRule("looser", 'permit(principal, action, resource in Server::"drop-server");', "shadow", "eu-1")


async def test_calls_and_lists_are_compared_by_class_of_callers() -> None:
    house = House()
    before = house.governance.state
    await house.ask("files", "tools/call", {"name": "read", "arguments": {}})
    await house.ask("files", "tools/call", {"name": "write", "arguments": {}})
    house.governance.lay_down(
        Governed(version=2, policies=(*before.policies, STRICTER, LOOSER)),
    )
    found = await compare(house.guard.terms, [ANN.principal, BOB, ZOE], house.gateway.recent, house.catalog)
    at_ms = house.gateway.recent[0].at_ms
    assert found.calls == [CallChange(at_ms, "ann", "call", "files", "read", True, "no", "policy stricter")]
    assert found.lists == [
        ListChange(["ann", "bob", "zoe"], 7, 8, ["drop-server", "drop-server/drop_too"], ["files/read"])
    ]
    assert found.complete


async def test_without_a_policy_in_shadow_mode_nothing_is_compared() -> None:
    house = House()
    found = await compare(house.guard.terms, [BOB], house.gateway.recent, house.catalog)
    assert found == ([], [], True)


async def test_the_comparison_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "DECISIONS_MAX", 3)
    governance = Ungoverned(Governed(policies=(STRICTER,)))
    guard = MeshGuard("eu-1", Reaches.of("mesh.test", open=True), governance=governance)
    found = await compare(guard.terms, [BOB], (), House().catalog)
    assert not found.complete
