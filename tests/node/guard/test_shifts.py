from __future__ import annotations

from dataclasses import replace

import pytest

from node.guard.governed import Governed, Held, KeyRecord, PolicyRule, Revoked, Tenant
from node.guard.policy import read_policy
from node.guard.shifts import Shift, shift
from node.ingress.changes import ChangeFeed
from node.ports import EVERYTHING, Action
from proto.errors import Unknown
from proto.records import Principal
from tests.node.guard.test_mistakes import ANN, House

KEY = KeyRecord("bob", b"d" * 32)
BEFORE = Governed(version=1, held={"files": (Held("files", "rm"),)}, keys={KEY.sha256: KEY})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, Shift()),
        ({"version": 2, "stale": frozenset({"x"}), "revoked": {"jti/1": Revoked("jti/1")}}, Shift()),
        ({"held": {}}, Shift(frozenset({"files"}))),
        ({"held": {**BEFORE.held, "git": (Held("git"),)}}, Shift(frozenset({"git"}))),
        ({"keys": {}}, Shift(frozenset(), frozenset({"bob"}))),
        ({"keys": {KEY.sha256: replace(KEY, servers=("git",))}}, Shift(frozenset(), frozenset({"bob"}))),
        ({"policies": (PolicyRule("p", "permit", "shadow", "a"),)}, Shift()),
        ({"policies": (PolicyRule("p", "permit", "enforce", "a"),)}, Shift(None)),
        ({"tenants": {"acme": Tenant("acme")}, "tenants_governed": True}, Shift(None)),
        ({"closed": "too old"}, Shift(None)),
    ],
)
def test_who_must_look_again(change: dict[str, object], expected: Shift) -> None:
    assert shift(BEFORE, replace(BEFORE, **change)) == expected  # type: ignore[arg-type]


async def test_agents_hear_of_lists_that_governance_has_changed_and_of_no_others() -> None:
    """At a server's address, at that of everything, and by whose key it is."""
    house, feed = House(), ChangeFeed()
    house.endpoints.subscribe_changes(feed)
    house.governance.subscribe(house.endpoints.govern)
    house.endpoints.govern(house.governance.state)
    heard: list[str] = []
    for name, subject in (("files", "ann"), ("drop-server", "ann"), (EVERYTHING, "bob")):
        principal = Principal(subject, "mesh.test", kind="key")
        feed.subscribe(name, frozenset({"tools"}), lambda kind, name=name: heard.append(f"{kind} {name}"), principal)  # type: ignore[misc]

    def lay_down(**change: object) -> list[str]:
        heard.clear()
        house.governance.lay_down(replace(house.governance.state, **change))  # type: ignore[arg-type]
        return sorted(heard)

    assert lay_down(held={"files": (Held("files", "write"),)}) == ["tools *", "tools files"]
    assert lay_down(held={"nowhere": (Held("nowhere"),), **house.governance.state.held}) == []
    policy = PolicyRule("more", "permit(principal, action, resource);", "enforce", "a")
    # At the address of everything a further change is told a little later.
    assert lay_down(policies=(policy,)) == ["tools drop-server", "tools files"]
    assert lay_down(revoked={"key/x": Revoked("key/x")}) == []
    ann = KeyRecord("ann", b"a" * 32)
    assert lay_down(keys={ann.sha256: ann}) == ["tools drop-server", "tools files"]


async def test_what_was_worked_out_by_former_policies_is_let_go() -> None:
    """Lists made by them are kept for a while; with them would be kept all that was decided, at each change anew."""
    house = House()
    await house.ask("files", "tools/list", {})
    former = house.guard.terms
    party = former.party(Principal("ann", "mesh.test", groups=("clerks",), kind="key"))
    seen = house.guard.visible(ANN.principal, Action.LIST)
    assert party.rulings
    key = KeyRecord("bob", b"b" * 32)
    house.governance.lay_down(replace(house.governance.state, keys={key.sha256: key}))
    assert not party.rulings
    assert former.principals == []
    assert former.book is not None
    assert "0 classes, 0 verdicts" in repr(former.book)
    # Whoever still holds a filter of theirs is answered by what was in force when it was given.
    server = house.catalog.find("eu-1", "files")
    assert server is not None
    assert [seen.allows(server.resource(tool)) for tool in ("read", "drop_all")] == [True, False]


async def test_a_policy_that_fails_to_be_read_in_any_way_closes_what_policies_decide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Were it to raise, the former policies would stay in force, and nobody would know."""
    house = House()
    assert isinstance(await house.ask("files", "tools/call", {"name": "read"}), dict)

    def read(name: str, text: str) -> object:
        if name == "odd":
            raise RuntimeError(text)
        return read_policy(name, text)

    monkeypatch.setattr("node.guard.policy.read_policy", read)
    odd = PolicyRule("odd", "forbid(principal, action, resource);", "enforce", "a")
    state = house.governance.state
    house.governance.lay_down(replace(state, policies=(*state.policies, odd)))
    assert "cannot be read (RuntimeError)" in house.guard.terms.broken
    assert (await house.ask("files", "tools/call", {"name": "read"}))[0] is Unknown
