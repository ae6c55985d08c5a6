"""The guard's pipeline: what each layer refuses, in which order, and what a caller is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from node.audit.port import NoAudit
from node.guard.governed import EMPTY, Governed, Held, KeyRecord, PolicyRule, Tenant, Ungoverned
from node.guard.keys import ApiKey
from node.guard.mesh import MeshGuard
from node.guard.reach import Reaches
from node.ports import Action, CallRecord, Ended, Lease, Resource
from node.settings.guard import RoleConfig
from proto.calls import Call
from proto.errors import Exhausted, Forbidden, Invalid, ScopeRequired, Unavailable
from proto.records import ANONYMOUS, Decision, Principal

MESH = "test.mesh"
ANN = Principal("ann", MESH, "acme", ("ops",), ("read",), "key")
BOB = Principal("bob", MESH, "other", (), (), "key")
LOG = Resource("git", "eu-1", "eu", "log", kind="tool")
PUSH = Resource("git", "eu-1", "eu", "push", kind="tool")
GIT = Resource("git", "eu-1", "eu")
NODE = Resource("", "eu-1", "eu", kind="node")
PERMIT = "permit(principal, action, resource);"


def enforced(*texts: str) -> tuple[PolicyRule, ...]:
    return tuple(PolicyRule(f"p{n}", text, "enforce", "eu-1") for n, text in enumerate(texts))


def guard_with(*texts: str, governed: Governed = EMPTY, **more: Any) -> MeshGuard:
    governance = Ungoverned(replace(governed, policies=(*governed.policies, *enforced(*texts))))
    return MeshGuard("eu-1", Reaches.of(MESH, open=True), governance=governance, **more)


def call(principal: Principal, resource: Resource = LOG, arguments: Any = None, method: str = "tools/call") -> Call:
    return Call("c", resource.server, method, {"name": resource.tool, "arguments": arguments or {}}, principal)


def sees(guard: MeshGuard, principal: Principal, resource: Resource, action: Action = Action.LIST) -> bool:
    return guard.visible(principal, action).allows(resource)


# ---- layers ----------------------------------------------------------------------------------------


def test_a_server_of_a_tenant_is_there_for_that_tenant_alone_and_for_its_teams() -> None:
    guard = guard_with()
    mine = replace(LOG, tenant="acme")
    assert sees(guard, ANN, mine)
    assert not sees(guard, BOB, mine)
    assert not sees(guard, ANONYMOUS, mine)
    assert sees(guard, ANN, replace(mine, teams=("dev", "ops")))
    assert not sees(guard, ANN, replace(mine, teams=("dev",)))
    assert sees(guard, BOB, LOG)


def test_where_tenants_are_governed_one_that_does_not_exist_has_nothing() -> None:
    guard = guard_with(governed=Governed(tenants={"acme": Tenant("acme")}, tenants_governed=True))
    assert sees(guard, ANN, LOG)
    assert not sees(guard, BOB, LOG)
    assert not sees(guard, replace(BOB, tenant=""), replace(LOG, tenant="other"))


def test_what_is_disabled_is_there_for_nobody() -> None:
    governed = Governed(held={"git": (Held("git", "push", reason="leaks", by="zoe"), Held("git", owner="us-1"))})
    guard = guard_with(governed=governed)
    assert sees(guard, ANN, LOG)
    assert sees(guard, ANN, GIT)
    assert not sees(guard, ANN, PUSH, Action.CALL)
    assert not sees(guard, ANN, replace(GIT, owner="us-1"))
    assert guard.explain(ANN, Action.CALL, PUSH) == Decision(False, "git/push is disabled by zoe: leaks", "held")
    elsewhere = replace(GIT, owner="us-1")
    assert guard.explain(ANN, Action.LIST, elsewhere) == Decision(False, "git--us-1 is disabled", "held")


def test_governance_that_cannot_be_honoured_closes_everything_but_mending_it() -> None:
    guard = guard_with(governed=Governed(closed="authority eu-1 has not been heard for 2 days"))
    assert not sees(guard, ANN, LOG)
    assert guard.explain(ANN, Action.CALL, LOG).rule == "governance"
    assert guard.may(replace(ANN, scopes=("operator",)), Action.ADMINISTER, NODE).allowed


def test_a_policy_of_governance_that_does_not_compile_here_closes_what_policies_decide() -> None:
    guard = guard_with("permit(principal, action, nonsense);")
    assert not sees(guard, ANN, LOG)
    assert "cannot be honoured here" in guard.explain(ANN, Action.CALL, LOG).reason


def test_a_policy_of_the_configuration_that_does_not_compile_keeps_the_node_from_starting() -> None:
    with pytest.raises(Invalid, match="night"):
        MeshGuard("eu-1", Reaches.of(MESH), own=[PolicyRule("night", "permit(", "enforce", "")])


async def test_a_revoked_or_expired_principal_sees_and_runs_nothing() -> None:
    counting = {ANN}
    guard = guard_with(valid=lambda p: p in counting)
    assert sees(guard, ANN, LOG)
    await guard.admit(call(ANN), LOG)
    counting.clear()
    assert not sees(guard, ANN, LOG)
    with pytest.raises(Forbidden) as e:
        await guard.admit(call(ANN), LOG)
    assert e.value.rule == "credential"
    assert not guard.may(replace(ANN, scopes=("operator",)), Action.ADMINISTER, NODE).allowed


def test_a_governed_key_reaches_the_servers_of_its_record_on_every_node() -> None:
    key = KeyRecord("ci", b"0" * 32, servers=("wiki",))
    ci = Principal("ci", MESH, kind="key", credential="key/ci")
    governance = Ungoverned(Governed(keys={key.sha256: key}))
    for reaches in (Reaches.of(MESH, open=True), Reaches.of(MESH, [ApiKey("other", b"1" * 32)])):
        guard = MeshGuard("eu-1", reaches, governance=governance)
        assert not sees(guard, ci, LOG)
        assert sees(guard, ci, replace(LOG, server="wiki"))
        assert not sees(guard, replace(ci, tenant="acme"), replace(LOG, server="wiki"))
    both = Reaches.of(MESH, [ApiKey("ci", b"1" * 32, servers=("git",))])
    assert not sees(MeshGuard("eu-1", both, governance=governance), ci, LOG), "both must let it through"


def test_a_change_that_decides_nothing_else_keeps_what_was_worked_out() -> None:
    governance = Ungoverned(Governed(version=1))
    guard = MeshGuard("eu-1", Reaches.of(MESH, open=True), governance=governance)
    before = guard.visible(ANN, Action.LIST).key
    governance.lay_down(Governed(version=2, stale=frozenset({"us-1"})))
    assert guard.visible(ANN, Action.LIST).key == before
    governance.lay_down(Governed(version=3, held={"git": (Held("git"),)}))
    assert guard.visible(ANN, Action.LIST).key != before
    assert not sees(guard, ANN, LOG)


# ---- policies, scopes, arguments -------------------------------------------------------------------


def test_once_any_policy_is_enforced_what_none_permits_is_refused() -> None:
    assert sees(guard_with(), ANN, LOG)
    only_list = guard_with('permit(principal, action == Action::"list", resource);')
    assert not sees(only_list, ANN, LOG), "listed for nothing: no call of it is ever permitted"
    assert sees(only_list, ANN, GIT)
    both = guard_with('permit(principal, action in [Action::"list", Action::"call"], resource == Tool::"git/log");')
    assert sees(both, ANN, LOG)
    assert not sees(both, ANN, PUSH)
    assert not sees(both, ANN, LOG, Action.SEARCH)


def test_a_role_alone_brings_default_deny_and_a_shadow_policy_alone_does_not() -> None:
    guard = guard_with(roles={"dev": RoleConfig(groups=("ops",))})
    assert sees(guard, ANN, LOG)
    assert not sees(guard, BOB, LOG)
    shadow = PolicyRule("s", "forbid(principal, action, resource);", "shadow", "eu-1")
    assert sees(guard_with(governed=Governed(policies=(shadow,))), BOB, LOG)


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [({"path": "/srv/x"}, True), ({"path": "/etc/passwd"}, False), ({}, False), ({"path": None}, False)],
)
async def test_arguments_that_a_policy_forbids_are_invalid_on_a_tool_that_is_seen(
    arguments: dict[str, Any], allowed: bool
) -> None:
    guard = guard_with('permit(principal, action, resource) when { context.arguments.path like "/srv/*" };')
    assert sees(guard, ANN, LOG, Action.SEARCH)
    if allowed:
        assert (await guard.admit(call(ANN, arguments=arguments), LOG)).decision.rule == "policy p0"
    else:
        with pytest.raises(Invalid) as e:
            await guard.admit(call(ANN, arguments=arguments), LOG)
        assert "policy" not in e.value.message + repr(e.value.data)
        assert "passwd" not in e.value.message


async def test_a_missing_scope_leaves_a_tool_visible_and_is_named_with_all_others_at_the_call() -> None:
    guard = guard_with(PERMIT)
    needing = replace(LOG, scopes=("read", "git:log", "git:all"))
    assert sees(guard, ANN, needing, Action.SEARCH)
    with pytest.raises(ScopeRequired) as e:
        await guard.admit(call(ANN), needing)
    assert e.value.data["scopes"] == ["git:log", "git:all"]
    assert e.value.rule == "scopes"
    assert not guard.may(ANN, Action.CALL, needing).allowed
    admission = await guard.admit(call(replace(ANN, scopes=needing.scopes)), needing)
    assert admission.allowed == (needing,)


async def test_what_policy_hides_is_forbidden_and_not_asked_for_a_scope() -> None:
    guard = guard_with(PERMIT, "forbid(principal, action, resource is Tool);")
    with pytest.raises(Forbidden) as e:
        await guard.admit(call(ANN), replace(LOG, scopes=("git:log",)))
    assert e.value.rule == "policy p1"


async def test_a_call_may_run_at_those_members_of_a_service_where_it_is_permitted() -> None:
    guard = guard_with('permit(principal, action, resource) when { resource.region == "us" };')
    here, there = LOG, replace(LOG, owner="us-1", region="us")
    assert (await guard.admit(call(ANN), here, there)).allowed == (there,)
    with pytest.raises(Forbidden):
        await guard.admit(call(ANN), here)


async def test_mutators_change_arguments_and_nothing_else_and_what_they_leave_is_decided_on() -> None:
    async def to_etc(_: Call, __: Resource) -> dict[str, Any]:
        return {"path": "/etc", "name": "push"}

    seen: list[Any] = []

    async def look(given: Call, _: Resource) -> dict[str, Any]:
        seen.append(given.params["arguments"])
        return given.params["arguments"]  # type: ignore[no-any-return]

    policy = 'permit(principal, action, resource) when { context.arguments.path like "/srv/*" };'
    guard = guard_with(policy, mutators=[to_etc, look])
    with pytest.raises(Invalid):
        await guard.admit(call(ANN, arguments={"path": "/srv/x"}), LOG)
    assert seen == [{"path": "/etc", "name": "push"}]
    free = guard_with(PERMIT, mutators=[to_etc])
    asked = call(ANN, arguments={"path": "/srv/x"})
    admitted = (await free.admit(asked, LOG)).call
    assert admitted == replace(asked, params={"name": "log", "arguments": {"path": "/etc", "name": "push"}})
    assert asked.params["arguments"] == {"path": "/srv/x"}


# ---- administering ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policies", "principal", "allowed", "rule"),
    [
        ((), replace(ANN, scopes=("operator",)), True, "scope operator"),
        ((), ANN, False, "scopes"),
        (
            ('forbid(principal, action == Action::"administer", resource);',),
            replace(ANN, scopes=("operator",)),
            False,
            "policy p0",
        ),
        (('permit(principal in Group::"ops", action == Action::"administer", resource);',), ANN, True, "policy p0"),
        (('permit(principal in Group::"ops", action == Action::"administer", resource);',), BOB, False, "scopes"),
        ((), ANONYMOUS, True, "open"),
    ],
)
def test_who_administers(policies: Sequence[str], principal: Principal, allowed: bool, rule: str) -> None:
    guard = guard_with(*policies)
    decision = guard.may(principal, Action.ADMINISTER, NODE)
    assert (decision.allowed, decision.rule) == (allowed, rule)
    assert guard.visible(principal, Action.ADMINISTER).allows(NODE) is allowed


def test_an_operator_of_one_tenant_does_not_administer_servers_of_another() -> None:
    guard = guard_with()
    zoe = replace(ANN, scopes=("operator",))
    assert guard.may(zoe, Action.ADMINISTER, replace(GIT, tenant="acme")).allowed
    assert not guard.may(zoe, Action.ADMINISTER, replace(GIT, tenant="other")).allowed


def test_where_callers_must_say_who_they_are_nobody_anonymous_administers() -> None:
    guard = MeshGuard("eu-1", Reaches.of(MESH, [ApiKey("ann", b"0" * 32)]))
    assert not guard.may(ANONYMOUS, Action.ADMINISTER, NODE).allowed


# ---- shadow, limits, audit -------------------------------------------------------------------------


async def test_what_a_policy_in_shadow_would_change_is_counted_and_changes_nothing() -> None:
    shadow = PolicyRule("stricter", 'forbid(principal, action, resource == Tool::"git/push");', "shadow", "eu-1")
    now = iter(range(1, 100))
    guard = guard_with(PERMIT, governed=Governed(policies=(shadow,)), now_ms=lambda: next(now))
    for resource in (LOG, PUSH, PUSH):
        await guard.admit(call(ANN, resource), resource)
    (row,) = guard.differences.latest()
    assert row == ("ann", "call", "git", "eu-1", "push", True, False, "policy stricter", 2, 2)
    assert sees(guard, ANN, PUSH)


class Counted:
    def __init__(self) -> None:
        self.left = 0

    def leave(self) -> None:
        self.left += 1


class Measuring:
    weighs = True

    def __init__(self, full: bool = False) -> None:
        self.full = full
        self.asked: list[tuple[str, str, int, bool, bool]] = []
        self.lease = Counted()

    def enter(
        self, principal: Principal, server: str, size_bytes: int, *, entry: bool = True, owner: bool = True
    ) -> Lease:
        self.asked.append((principal.subject, server, size_bytes, entry, owner))
        if self.full:
            raise Exhausted("too many", retry_after_s=3)
        return self.lease


async def test_limits_are_entered_last_and_left_when_the_call_has_ended() -> None:
    limits = Measuring()
    guard = guard_with(PERMIT, 'forbid(principal, action, resource == Tool::"git/push");', limits=limits)
    with pytest.raises(Forbidden):
        await guard.admit(call(ANN, PUSH), PUSH)
    assert limits.asked == []
    asked = replace(call(ANN), via=("us-1",))
    admission = await guard.admit(asked, LOG)
    assert limits.asked == [("ann", "git", len(b'{"name":"log","arguments":{}}'), False, True)]
    guard.settle(asked, Ended(RECORD, admission.decision, None, admission.lease))
    assert limits.lease.left == 1
    limits.full = True
    with pytest.raises(Exhausted):
        await guard.admit(asked, LOG)


RECORD = CallRecord(0, "c", "ann", "git", "tools/call", "log", "eu-1", "eu-1", "eu", "ok", 1.0, 1)


class Auditing(NoAudit):
    def __init__(self, *, full: bool = False, broken: bool = False) -> None:
        self.full, self.broken = full, broken
        self.told: list[Ended] = []

    def ready(self) -> None:
        if self.full:
            raise Unavailable("this node cannot record calls now")

    def call(self, call: Call, ended: Ended) -> None:
        if self.broken:
            raise RuntimeError("disk")
        self.told.append(ended)


async def test_no_call_begins_that_could_not_be_recorded() -> None:
    with pytest.raises(Unavailable):
        await guard_with(audit=Auditing(full=True)).admit(call(ANN), LOG)


def test_settling_tells_the_audit_and_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    audit = Auditing()
    ended = Ended(RECORD)
    guard_with(audit=audit).settle(call(ANN), ended)
    assert audit.told == [ended]
    guard_with(audit=Auditing(broken=True)).settle(call(ANN), ended)
    assert "was not settled" in caplog.text
