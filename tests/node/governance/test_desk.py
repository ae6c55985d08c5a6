"""Where a change is made, who decides on it, and what is refused, with nodes that carry to each other in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from node.audit.port import NoAudit
from node.governance import changes
from node.governance.asked import Asked
from node.governance.governance import MeshGovernance
from node.governance.setup import office_of
from node.governance.store import MemoryGovernanceStore
from node.guard.mesh import MeshGuard
from node.guard.reach import Reaches
from proto.errors import Conflict, Exhausted, Forbidden, Invalid, MeshError, ScopeRequired, Unavailable
from proto.names import NodeId
from proto.records import Kind, Principal, Record
from tests.node.governance.offices import NOW_S, OPERATOR, READER, Member, Mesh

DIGEST, OTHER = "ab" * 32, "cd" * 32
POLICY = {"text": "permit(principal, action, resource);"}


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    made = Mesh()
    yield made
    made.close()


@pytest.fixture
async def lord(mesh: Mesh) -> Member:
    return mesh.add("lord", authority=True)


@pytest.fixture
async def east(mesh: Mesh, lord: Member) -> Member:
    return mesh.add("east")


async def ask(
    member: Member,
    do: Literal["set", "remove"],
    kind: Kind,
    name: str,
    data: dict[str, Any] | None = None,
    principal: Any = OPERATOR,
) -> dict[str, Any]:
    return await member.desk.change(Asked(do, kind, name, data or {}), principal)


# ---- where -----------------------------------------------------------------------------------------


async def test_a_node_that_is_no_authority_carries_a_change_for_the_same_principal(east: Member, lord: Member) -> None:
    done = await ask(east, "set", Kind.POLICY, "p", POLICY)
    assert done == {"changed": True, "authorities": ["lord"], "in_force": ["east", "lord"], "waiting": [], "away": []}
    assert east.carried == [("lord", OPERATOR)]
    assert [rule.name for rule in east.governance.state.policies] == ["p"]
    assert (east.audit.acts, lord.audit.acts) == ([("op", "policy set", "p", "ok")], [("op", "policy set", "p", "ok")])


async def test_a_change_is_on_record_with_what_was_there_before_it(east: Member, lord: Member) -> None:
    await ask(east, "set", Kind.POLICY, "p", POLICY)
    await ask(east, "set", Kind.POLICY, "p", {**POLICY, "mode": "shadow"})
    await ask(east, "remove", Kind.POLICY, "p")
    for member in (east, lord):
        nothing, first, second = member.audit.before
        assert nothing is None
        assert (first["lord"]["text"], first["lord"].get("mode")) == (POLICY["text"], None)
        assert second["lord"]["mode"] == "shadow"


async def test_the_authority_decides_again(east: Member, lord: Member) -> None:
    with pytest.raises(ScopeRequired):
        await ask(east, "set", Kind.POLICY, "p", POLICY, READER)
    assert east.carried == []
    with pytest.raises(ScopeRequired):
        await east.carry("lord", "m", Asked("set", Kind.POLICY, "p", POLICY).params, _caller(READER), None)  # type: ignore[arg-type]
    assert lord.governance.state.policies == ()
    assert lord.audit.acts == [("reader", "policy set", "p", "scope_required")]


def _caller(principal: Any) -> Any:
    from node.ports import Caller

    return Caller(principal=principal)


async def test_a_node_without_the_role_makes_nothing_that_is_carried_to_it(east: Member, lord: Member) -> None:
    with pytest.raises(Unavailable, match="no authority any longer"):
        await lord.carry("east", "m", Asked("set", Kind.POLICY, "p", POLICY).params, _caller(OPERATOR), None)  # type: ignore[arg-type]


async def test_without_an_authority_the_mend_is_told_and_one_that_is_away_is_named(mesh: Mesh) -> None:
    alone = mesh.add("east")
    with pytest.raises(Conflict, match="--role authority"):
        await ask(alone, "set", Kind.POLICY, "p", POLICY)
    mesh.add("lord", authority=True)
    mesh.away = {"lord"}
    with pytest.raises(Unavailable, match="lord"):
        await ask(alone, "set", Kind.POLICY, "p", POLICY)
    assert [outcome for *_, outcome in alone.audit.acts] == ["conflict", "unavailable"]


async def test_a_change_goes_to_the_authority_that_has_the_record_already(mesh: Mesh, east: Member) -> None:
    twin = mesh.add("twin", authority=True)
    await ask(twin, "set", Kind.TENANT, "acme", {"title": "Acme"})
    assert (await ask(east, "set", Kind.TENANT, "acme", {"title": "ACME"}))["authorities"] == ["twin"]
    assert (await ask(east, "set", Kind.TENANT, "other"))["authorities"] == ["lord"]


async def test_what_several_have_laid_down_is_removed_at_each(mesh: Mesh, east: Member, lord: Member) -> None:
    twin = mesh.add("twin", authority=True)
    for member in (lord, twin):
        await ask(member, "set", Kind.QUARANTINE, "files", {"tool": "rm"})
    await ask(twin, "set", Kind.QUARANTINE, "files", {})
    done = await ask(east, "remove", Kind.QUARANTINE, "files", {"tool": "rm"})
    assert (done["changed"], done["authorities"]) == (True, ["lord", "twin"])
    assert [(h.tool, h.authority) for h in east.governance.state.held["files"]] == [("", "twin")]
    assert not (await ask(east, "remove", Kind.QUARANTINE, "files", {"tool": "rm"}))["changed"]


async def test_what_could_not_be_removed_everywhere_is_said_and_removed_where_it_could_be(
    mesh: Mesh, east: Member, lord: Member
) -> None:
    twin = mesh.add("twin", authority=True)
    for member in (lord, twin):
        await ask(member, "set", Kind.TENANT, "acme")
    mesh.away = {"twin"}
    with pytest.raises(Unavailable, match=r"done at 1 of 2 .* not at twin .* ask again"):
        await ask(east, "remove", Kind.TENANT, "acme")
    assert (lord.governance.own(), east.governance.state.tenants["acme"].authority) == ({}, "twin")


# ---- what ------------------------------------------------------------------------------------------


async def test_the_same_again_changes_nothing_and_keeps_who_laid_it_down(lord: Member) -> None:
    for kind, name, data in (
        (Kind.KEY, "k", {"sha256": DIGEST}),
        (Kind.POLICY, "p", POLICY),
        (Kind.TENANT, "t", {}),
        (Kind.QUARANTINE, "files", {"reason": "broken"}),
        (Kind.REVOCATION, "jti/1", {"reason": "leaked"}),
    ):
        assert (await ask(lord, "set", kind, name, data))["changed"], kind
        version = lord.governance.state.version
        assert not (await ask(lord, "set", kind, name, data))["changed"], kind
        assert (await ask(lord, "remove", kind, name))["changed"], kind
        assert not (await ask(lord, "remove", kind, name))["changed"], kind
        assert lord.governance.state.version > version


async def test_a_tool_that_is_disabled_again_keeps_its_reason_unless_another_is_given(lord: Member) -> None:
    await ask(lord, "set", Kind.QUARANTINE, "files", {"tool": "rm", "reason": "broken"})
    assert not (await ask(lord, "set", Kind.QUARANTINE, "files", {"tool": "rm"}))["changed"]
    assert (await ask(lord, "set", Kind.QUARANTINE, "files", {"tool": "rm", "reason": "leaks"}))["changed"]
    (held,) = lord.office.held()
    assert (held["reason"], held["by"], held["at"]) == ("leaks", "op", "2023-11-14T22:13:20Z")


async def test_a_revoked_key_is_gone_and_its_name_is_not_given_again(lord: Member) -> None:
    await ask(lord, "set", Kind.KEY, "k", {"sha256": DIGEST})
    await ask(lord, "remove", Kind.KEY, "k", {"reason": "left"})
    assert (lord.governance.state.keys, lord.office.keys()) == ({}, [])
    assert lord.office.revoked()[0]["reason"] == "left"
    with pytest.raises(Conflict, match="--lift key/k"):
        await ask(lord, "set", Kind.KEY, "k", {"sha256": OTHER})
    await ask(lord, "remove", Kind.REVOCATION, "key/k")
    assert (await ask(lord, "set", Kind.KEY, "k", {"sha256": OTHER}))["changed"]


OWN = Principal("op", "m", scopes=("operator",), kind="key", credential="key/op")


@pytest.mark.parametrize(
    ("do", "kind", "name"),
    [
        ("remove", Kind.KEY, "op"),
        ("set", Kind.REVOCATION, "key/op"),
        ("set", Kind.REVOCATION, "subject/m|op"),
    ],
)
async def test_nobody_revokes_what_he_calls_with_and_another_may(
    east: Member, lord: Member, do: Literal["set", "remove"], kind: Kind, name: str
) -> None:
    with pytest.raises(Conflict, match="let another operator revoke it"):
        await ask(east, do, kind, name, principal=OWN)
    assert lord.office.revoked() == []
    other = Principal("op-2", "m", scopes=("operator",), kind="key", credential="key/op-2")
    assert (await ask(east, do, kind, name, principal=other))["changed"]
    # To lift one's own is no way to lock oneself out.
    await ask(east, "remove", Kind.REVOCATION, lord.office.revoked()[0]["credential"], principal=OWN)


BAD: list[tuple[Kind, str, dict[str, Any], type[MeshError], str]] = [
    (Kind.KEY, "k", {}, Invalid, "'sha256' is missing"),
    (Kind.KEY, "k", {"sha256": DIGEST, "color": 1}, Invalid, "'color' is not known"),
    (Kind.KEY, "k", {"sha256": DIGEST, "by": "me"}, Invalid, "'by' is not yours"),
    (Kind.KEY, "k", {"sha256": DIGEST, "expires_s": NOW_S}, Invalid, "has passed"),
    (Kind.KEY, "k", {"sha256": DIGEST, "expires_s": "soon"}, Invalid, "'expires_s'"),
    (Kind.KEY, "k", {"sha256": DIGEST, "addresses": ["10.0.0.0/33"]}, Invalid, "no address or network"),
    (Kind.KEY, "k", {"sha256": DIGEST, "scopes": ["a b"]}, Invalid, "scopes"),
    (Kind.KEY, "k", {"sha256": DIGEST, "tenant": "nobody"}, Invalid, "no tenant 'nobody'"),
    (Kind.KEY, "a b", {"sha256": DIGEST}, Invalid, "key name 'a b'"),
    (Kind.KEY, "other", {"sha256": OTHER}, Conflict, "under another name"),
    (Kind.KEY, "taken", {"sha256": DIGEST}, Conflict, "there already"),
    (Kind.POLICY, "p", {"text": "forbid"}, Invalid, "permits nothing"),
    (Kind.POLICY, "p", {"text": "permit" * 12_000}, Invalid, "larger than 65536 bytes"),
    (Kind.POLICY, "p", {**POLICY, "mode": "maybe"}, Invalid, "mode"),
    (Kind.TENANT, "x" * 65, {}, Invalid, "tenant name"),
    (Kind.QUARANTINE, "No Server", {}, Invalid, "server name"),
    (Kind.QUARANTINE, "files", {"owner": "Nobody"}, Invalid, "owner"),
    (Kind.QUARANTINE, "files", {"tool": 7}, Invalid, "tool"),
    (Kind.QUARANTINE, "files", {"at": 7}, Invalid, "'at' is not yours"),
    (Kind.REVOCATION, "bob", {}, Invalid, "key/NAME"),
    (Kind.REVOCATION, "key/\n", {}, Invalid, "key/NAME"),
]


@pytest.mark.parametrize(("kind", "name", "data", "error", "told"), BAD, ids=lambda v: v if isinstance(v, str) else "")
async def test_what_is_wrong_is_refused_by_name_and_changes_nothing(
    lord: Member, kind: Kind, name: str, data: dict[str, Any], error: type[MeshError], told: str
) -> None:
    await ask(lord, "set", Kind.TENANT, "acme")
    await ask(lord, "set", Kind.KEY, "taken", {"sha256": OTHER})
    version = lord.governance.state.version
    with pytest.raises(error) as refused:
        await ask(lord, "set", kind, name, data)
    assert told in refused.value.message
    assert lord.governance.state.version == version


WHOLE: dict[str, Any] = {"do": "set", "kind": "key", "id": "k", "data": {}}


@pytest.mark.parametrize(
    "wrong", [{"do": "burn"}, {"kind": "pin"}, {"kind": 7}, {"id": 7}, {"data": []}, {"data": None}]
)
def test_what_is_no_change_is_refused(wrong: dict[str, Any]) -> None:
    assert Asked.parse(WHOLE).params == WHOLE
    with pytest.raises(Invalid):
        Asked.parse({**WHOLE, **wrong})


async def test_at_a_bound_a_change_is_refused_and_others_go_on(lord: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST", dict.fromkeys(changes.MOST, 1))
    for kind, first, second, data in (
        (Kind.POLICY, "p", "q", POLICY),
        (Kind.TENANT, "t", "u", {}),
        (Kind.QUARANTINE, "files", "mail", {}),
        (Kind.REVOCATION, "jti/1", "jti/2", {}),
    ):
        await ask(lord, "set", kind, first, data)
        with pytest.raises(Exhausted, match="which is the most"):
            await ask(lord, "set", kind, second, data)
    await ask(lord, "set", Kind.QUARANTINE, "files", {"tool": "rm"})
    monkeypatch.setattr(changes, "HELD_MAX", 2)
    with pytest.raises(Exhausted, match="enable some"):
        await ask(lord, "set", Kind.QUARANTINE, "files", {"tool": "mv"})


async def test_a_key_is_shown_without_its_digest_and_with_its_last_use(lord: Member) -> None:
    lord.last_used = {"key/k": NOW_S * 1000}
    await ask(lord, "set", Kind.KEY, "k", {"sha256": DIGEST, "expires_s": NOW_S + 60, "addresses": ["10.1.2.3/8"]})
    (shown,) = lord.office.keys()
    assert DIGEST not in str(shown)
    assert (shown["digest"], shown["expires_at"], shown["addresses"], shown["last_used_at"]) == (
        "abababab",
        "2023-11-14T22:14:20Z",
        ["10.0.0.0/8"],
        "2023-11-14T22:13:20Z",
    )


async def test_what_cannot_be_read_is_named_in_the_status_and_keeps_nothing_else_from_being_shown(
    lord: Member, east: Member
) -> None:
    await ask(lord, "set", Kind.KEY, "k", {"sha256": DIGEST})
    node = Record.of(Kind.NODE, "lord", lord.governance.node_field)
    odd = [Record.of(kind, "odd", {"color": 1}) for kind in changes.MOST]
    east.governance.governs(lord.id, [node, *lord.governance.own().values(), *odd], {}, whole=True)
    office = east.office
    (shown,) = office.keys()
    assert shown["name"] == "k"
    assert [*office.policies(), *office.tenants(), *office.held(), *office.revoked()] == []
    (authority,) = office.status()["authorities"]
    assert len(authority["unreadable"]) == 5
    assert all("'color' is not known here" in why or "credential 'odd'" in why for why in authority["unreadable"])


async def test_what_an_authority_said_is_forgotten_by_who_may_administer_alone(lord: Member, east: Member) -> None:
    await ask(lord, "set", Kind.POLICY, "p", POLICY)
    east.governance.role(lord.id, authority=False)
    with pytest.raises(ScopeRequired):
        east.office.forget("lord", READER)
    east.office.forget("lord", OPERATOR)
    assert east.governance.state.policies == ()
    assert [(verb, outcome) for _, verb, _, outcome in east.audit.acts] == [
        ("governance forget", "scope_required"),
        ("governance forget", "ok"),
    ]


# ---- not to be locked out ---------------------------------------------------------------------------

PERMIT = 'permit(principal, action, resource) unless { action == Action::"administer" };'
LOCKS = {"text": "permit(principal, action, resource); forbid(principal, action, resource);"}
BY_POLICY = Principal("zoe", "m", groups=("keepers",), kind="user")
KEEPERS = {"text": 'permit(principal in Group::"keepers", action, resource);'}


@pytest.fixture
async def guarded() -> AsyncIterator[Any]:
    """An office over a real guard, on a node that runs alone."""
    governance = MeshGovernance(NodeId.of("m", "eu", "lord"), MemoryGovernanceStore(), writes=True)
    guard = MeshGuard("lord", Reaches("m"), governance=governance)
    governance.open()
    twin = Mesh().add("lord", authority=True)
    office = office_of(governance, guard, twin, NoAudit(), lambda: (), lambda: ())

    async def change(do: Literal["set", "remove"], data: dict[str, Any], who: Principal, name: str = "p") -> Any:
        return (await office.change(Asked(do, Kind.POLICY, name, data), who))["changed"]

    yield change
    governance.close()


async def test_a_policy_by_which_its_author_could_take_nothing_back_needs_to_be_forced(guarded: Any) -> None:
    with pytest.raises(Conflict, match="--force"):
        await guarded("set", LOCKS, OPERATOR)
    assert await guarded("set", {**LOCKS, "mode": "shadow"}, OPERATOR)
    with pytest.raises(Invalid, match="policy 'p'"):
        await guarded("set", {"text": "forbid("}, OPERATOR)
    assert await guarded("set", {**LOCKS, "force": True}, OPERATOR)
    with pytest.raises(Forbidden):
        await guarded("remove", {}, OPERATOR)


async def test_who_administers_by_a_policy_does_not_take_it_away_by_mistake(guarded: Any) -> None:
    assert await guarded("set", KEEPERS, OPERATOR)
    for do, data in (("remove", {}), ("set", {**KEEPERS, "mode": "shadow"}), ("set", {"text": PERMIT})):
        with pytest.raises(Conflict, match="--force"):
            await guarded(do, data, BY_POLICY)
    assert await guarded("set", KEEPERS, BY_POLICY, "other")
    assert await guarded("remove", {}, BY_POLICY)
    assert await guarded("remove", {"force": True}, BY_POLICY, "other")


# ---- operators of a tenant -------------------------------------------------------------------------

ACME = Principal("boss", "m", "acme", ("staff",), ("operator", "files:read"), "key")


async def test_an_operator_of_a_tenant_makes_and_revokes_keys_of_that_tenant_alone(east: Member, lord: Member) -> None:
    await ask(lord, "set", Kind.KEY, "theirs", {"sha256": OTHER, "tenant": "other"})
    done = await ask(east, "set", Kind.KEY, "acme.ours", {"sha256": DIGEST, "scopes": ["files:read"]}, ACME)
    assert done["authorities"] == ["lord"]
    assert [(key["name"], key["tenant"]) for key in east.office.keys("acme")] == [("acme.ours", "acme")]
    assert len(east.office.keys()) == 2
    for name in ("theirs", "nobodys"):
        with pytest.raises(Forbidden):
            await ask(east, "remove", Kind.KEY, name, {}, ACME)
    assert (await ask(east, "remove", Kind.KEY, "acme.ours", {}, ACME))["changed"]


@pytest.mark.parametrize(
    "more", [{"tenant": "other"}, {"tenant": ""}, {"scopes": ["files:write"]}, {"groups": ["staff", "admins"]}]
)
async def test_an_operator_of_a_tenant_gives_nobody_more_than_it_holds(lord: Member, more: dict[str, Any]) -> None:
    with pytest.raises(Forbidden if "tenant" in more else Invalid):
        await ask(lord, "set", Kind.KEY, "acme.ours", {"sha256": DIGEST, **more}, ACME)
    assert not lord.governance.state.keys


@pytest.mark.parametrize("name", ["op", "acme", "acme-op", "other.op", "Acme.op"])
async def test_an_operator_of_a_tenant_takes_no_name_by_which_another_may_be_known(lord: Member, name: str) -> None:
    """A role or a policy that names `op` means the key `op`; so would a revocation of it."""
    with pytest.raises(Invalid, match=r"named 'acme\."):
        await ask(lord, "set", Kind.KEY, name, {"sha256": DIGEST}, ACME)
    assert not lord.governance.state.keys
    await ask(lord, "set", Kind.KEY, name, {"sha256": DIGEST, "tenant": "acme"})
    assert (await ask(lord, "set", Kind.KEY, name, {"sha256": DIGEST, "scopes": ["files:read"]}, ACME))["changed"]


@pytest.mark.parametrize("kind", [kind for kind in changes.MOST if kind is not Kind.KEY])
async def test_what_is_of_the_whole_mesh_is_not_for_operators_of_a_tenant(lord: Member, kind: Kind) -> None:
    for do in ("set", "remove"):
        with pytest.raises(Forbidden, match="whole mesh"):
            await lord.desk.change(Asked(do, kind, "key-x", POLICY), ACME)  # type: ignore[arg-type]
    with pytest.raises(Forbidden):
        lord.office.look(ACME)
    with pytest.raises(Forbidden):
        lord.office.forget("lord", ACME)
    lord.office.look(ACME, at_keys=True)
