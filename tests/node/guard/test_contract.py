"""What every guard must keep, whatever it decides."""

from __future__ import annotations

from itertools import product

import pytest

from node.guard.keys import ApiKey
from node.guard.open import OpenGuard
from node.ports import Action, CallRecord, Ended, Guard, Resource
from proto.calls import Call
from proto.errors import ERRORS, Forbidden
from proto.records import ANONYMOUS, Principal
from tests.node.guards import KeyGuard

MESH = "test.mesh"
PRINCIPALS = [
    ANONYMOUS,
    Principal("all", MESH, "acme", kind="key"),
    Principal("all", MESH, "other", kind="key"),
    Principal("some", MESH, kind="key"),
    Principal("none", MESH, kind="key"),
    Principal("some", MESH, kind="user"),
    Principal("stranger", MESH, kind="key"),
    Principal("all", "other.mesh", "acme", kind="key"),
]
RESOURCES = [
    Resource("time", "eu-1", "eu"),
    Resource("time", "us-1", "us", "now", kind="tool"),
    Resource("git", "eu-1", "eu", "log", kind="tool"),
    Resource("git", "us-1", "us", "log", {"team": "x"}, "tool"),
]


@pytest.fixture(params=["open", "keys", "keys, closed to peers"])
def guard(request: pytest.FixtureRequest, keys: list[ApiKey]) -> Guard:
    match request.param:
        case "open":
            return OpenGuard()
        case "keys":
            return KeyGuard(keys, MESH)
    return KeyGuard(keys, MESH, peers=())


def call(principal: Principal, resource: Resource) -> Call:
    return Call("c-1", resource.server, "tools/call", {"name": resource.tool}, principal)


@pytest.mark.parametrize(("principal", "resource"), list(product(PRINCIPALS, RESOURCES)))
async def test_admission_agrees_with_visibility(guard: Guard, principal: Principal, resource: Resource) -> None:
    if guard.visible(principal, Action.CALL).allows(resource):
        asked = call(principal, resource)
        admission = await guard.admit(asked, resource)
        assert admission.decision.allowed
        assert admission.decision.rule
        assert admission.call is asked
        assert admission.allowed == (resource,)
    else:
        with pytest.raises(Forbidden) as e:
            await guard.admit(call(principal, resource), resource)
        assert e.value.rule


@pytest.mark.parametrize(("principal", "resource"), list(product(PRINCIPALS, RESOURCES)))
def test_what_is_explained_is_what_is_decided(guard: Guard, principal: Principal, resource: Resource) -> None:
    for action in Action:
        decision = guard.explain(principal, action, resource)
        assert decision.allowed == guard.visible(principal, action).allows(resource)
        assert decision.rule
        assert bool(decision.reason) is not decision.allowed


@pytest.mark.parametrize("action", list(Action))
def test_equal_keys_let_the_same_things_through(guard: Guard, action: Action) -> None:
    seen: dict[object, list[bool]] = {}
    for principal in PRINCIPALS:
        visibility = guard.visible(principal, action)
        allowed = [visibility.allows(r) for r in RESOURCES]
        assert seen.setdefault(visibility.key, allowed) == allowed


def test_one_principal_gets_an_equal_key_each_time(guard: Guard) -> None:
    for principal in PRINCIPALS:
        assert guard.visible(principal, Action.LIST).key == guard.visible(principal, Action.LIST).key


async def test_an_answer_that_nothing_masks_is_the_same_object(guard: Guard) -> None:
    answer = {"result": {"content": [], "vendor": None}}
    assert await guard.result(call(ANONYMOUS, RESOURCES[0]), answer) is answer


def test_settling_never_raises(guard: Guard) -> None:
    for outcome in ("ok", "tool_error", *ERRORS, "nonsense"):
        record = CallRecord(0, "c-1", "anonymous", "time", "tools/call", "", "", "", "", outcome, 0.0, 0)
        guard.settle(call(ANONYMOUS, RESOURCES[0]), Ended(record))
