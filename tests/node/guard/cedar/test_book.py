"""Policies asked by class are what Cedar says of each case by itself."""

from __future__ import annotations

import json
import re
from typing import Any

import cedarpy
from hypothesis import example, given, settings
from hypothesis import strategies as st

from node.guard.cedar.arguments import arguments_for
from node.guard.cedar.book import Book
from node.guard.cedar.engine import ANSWERS_MAX, Answer, Verdict
from node.guard.cedar.entities import (
    memberships,
    principal_entity,
    principal_uid,
    reference,
    resource_entity,
    resource_uid,
)
from node.guard.cedar.reading import WHOLE
from node.guard.cedar.statements import statements_of
from node.guard.governed import PolicyRule
from node.guard.policy import book_of
from node.ports import Resource
from proto.records import Principal

PRINCIPALS = [
    Principal("ann", "m", "acme", ("ops", "dev"), ("read",), "key"),
    Principal("bob", "m", "", ("dev",), (), "user", ("agent",)),
    Principal("eve", "m", "other", (), ("read", "write"), "key"),
]
RESOURCES = [
    Resource("git", "eu-1", "eu", "log", {"env": "dev"}, "tool", annotations={"readOnly": True}),
    Resource("git", "us-1", "us", "push", {"env": "prod"}, "tool", "acme"),
    Resource("wiki", "eu-1", "eu", "page", {}, "prompt", service="pages"),
    Resource("wiki", "eu-1", "eu", "wiki://a/b", {}, "resource"),
    Resource("git", "eu-1", "eu", "", {"env": "dev"}, "server"),
]
ARGUMENTS: list[Any] = [None, {}, {"path": "/srv/x", "n": 3}, {"path": "/etc", "n": 30}, {"n": "text"}, {"path": None}]

SCOPES = [
    *("principal", 'principal == Principal::"m|ann"', 'principal in Group::"dev"', 'principal in Team::"acme/ops"'),
    *('principal in Tenant::"other"', "principal is Principal", 'principal is Principal in Group::"ops"'),
]
ACTIONS = ["action", 'action == Action::"call"', 'action in [Action::"list", Action::"call"]']
TARGETS = [
    *("resource", 'resource == Tool::"git/push"', 'resource in Server::"git"', 'resource in Node::"eu-1"'),
    *("resource is Tool", 'resource is Prompt in Server::"wiki"', 'resource == Server::"git"'),
]
CONDITIONS = [
    "true",
    'principal.groups.contains("dev")',
    'principal.scopes.containsAll(["read"])',
    'principal.tenant == resource.tenant || resource.service != ""',
    "resource.annotations.readOnly",
    'resource.hasTag("env") && resource.getTag("env") == "prod"',
    'resource.getTag("env") == "prod"',
    'resource.tool like "*o*g*"',
    '["push", "page"].contains(resource.tool)',
    'resource.server != "wiki"',
    'principal in Group::"ops"',
    'resource in Server::"wiki"',
    'context.arguments.path like "/srv*"',
    "context.arguments has n && context.arguments.n > 5",
    'context.arguments.n < 5 || resource.region == "eu"',
    "!(context.arguments has path) && resource.annotations.destructive",
    'if context.arguments has path then context.arguments.path == "/etc" else principal.kind == "key"',
    'if resource.region == "us" then context.arguments.n == 3 else true',
]

conditions = st.lists(
    st.tuples(st.sampled_from(["when", "unless"]), st.sampled_from(CONDITIONS)).map(lambda c: f"{c[0]} {{ {c[1]} }}"),
    max_size=2,
).map(" ".join)
statements = st.tuples(
    st.sampled_from(["permit", "permit", "forbid"]),
    st.sampled_from(SCOPES),
    st.sampled_from(ACTIONS),
    st.sampled_from(TARGETS),
    conditions,
).map(lambda s: f"{s[0]}({s[1]}, {s[2]}, {s[3]}) {s[4]};")


def by_cedar(text: str, principal: Principal, action: str, resource: Resource, arguments: Any) -> bool:
    """The whole set, evaluated at once; what errs holds where it forbids."""
    held = memberships(principal, ())
    request = {
        "principal": reference(principal_uid(principal)),
        "action": reference(("Action", action)),
        "resource": reference(resource_uid(resource)),
        "context": {"arguments": arguments_for(arguments, {WHOLE})},
    }
    entities = [principal_entity(principal, held), resource_entity(resource)]
    result = cedarpy.is_authorized(request, text, json.dumps(entities))
    effects = {n: p["effect"] for n, p in json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].items()}
    erred = [re.search(r"`(policy\d+)`", e) for e in result.diagnostics.errors]
    return result.allowed and not any(m is not None and effects[m[1]] == "forbid" for m in erred)


def book(text: str) -> Book:
    return Book(list(statements_of("p", text, "p")), {})


EITHER = 'permit(principal, action, resource) when { context.arguments.n < 5 || resource.region == "eu" };'
HIDDEN = (
    "permit(principal, action, resource);"
    'forbid(principal, action, resource) when { context.arguments.path like "/srv*" } when { principal.kind == "x" };'
)


@settings(max_examples=25, deadline=None)
@example(text=EITHER, action="call")
@example(text=HIDDEN, action="call")
@given(text=st.lists(statements, min_size=1, max_size=5).map("\n".join), action=st.sampled_from(["list", "call"]))
def test_a_verdict_by_class_is_what_cedar_says_of_the_case(text: str, action: str) -> None:
    policies = book(text)
    for principal in PRINCIPALS:
        who = policies.class_of(principal)
        for resource in RESOURCES:
            cases = [by_cedar(text, principal, action, resource, given_) for given_ in ARGUMENTS]
            match policies.judge(who, action, resource).answer:
                case Answer.YES:
                    assert all(cases)
                case Answer.NO:
                    assert not any(cases)
            calls = [policies.judge_call(who, action, resource, a).answer is Answer.YES for a in ARGUMENTS]
            assert calls == cases


def test_a_forbid_that_fails_to_be_evaluated_holds_and_a_permit_does_not_permit() -> None:
    forbids = book(
        'permit(principal, action, resource);forbid(principal, action, resource) when { resource.getTag("env") == "" };'
    )
    no_tag, tagged = RESOURCES[2], RESOURCES[0]
    who = forbids.class_of(PRINCIPALS[0])
    assert forbids.judge(who, "call", no_tag).answer is Answer.NO
    assert forbids.judge(who, "call", tagged).answer is Answer.YES
    permits = book('permit(principal, action, resource) when { resource.getTag("env") != "x" };')
    who = permits.class_of(PRINCIPALS[0])
    assert permits.judge(who, "call", no_tag).answer is Answer.NO
    assert permits.judge(who, "call", tagged).answer is Answer.YES


def test_cedar_is_asked_once_for_a_class_and_not_at_all_for_scopes_alone() -> None:
    policies = book(
        'permit(principal in Group::"dev", action, resource in Server::"git");'
        "forbid(principal, action, resource) when { resource.annotations.readOnly == false };"
    )
    who = policies.class_of(PRINCIPALS[1])
    tools = [Resource("git", "eu-1", "eu", f"t{n}", kind="tool", annotations={"readOnly": True}) for n in range(1_000)]
    assert {policies.judge(who, "call", tool).answer for tool in tools} == {Answer.YES}
    assert policies.engine.asked == 1
    plain = book('permit(principal in Group::"dev", action, resource in Server::"git");')
    assert plain.judge(plain.class_of(PRINCIPALS[1]), "call", tools[0]).answer is Answer.YES
    assert plain.engine.asked == 0


def test_cedar_is_asked_once_for_arguments_that_no_policy_tells_apart() -> None:
    policies = book(HIDDEN.replace('"x"', '"key"'))
    who, tool = policies.class_of(PRINCIPALS[0]), RESOURCES[0]

    def said(path: str, n: int) -> Answer:
        return policies.judge_call(who, "call", tool, {"path": path, "n": n}).answer

    assert [said("/home", 0), said("/srv/x", 0)] == [Answer.YES, Answer.NO]
    before = policies.engine.asked
    assert {said("/home", n) for n in range(100)} == {Answer.YES}
    assert {said("/srv/x", n) for n in range(100)} == {Answer.NO}
    assert policies.engine.asked == before


def test_what_is_remembered_of_arguments_is_bounded_and_of_made_up_names_nothing() -> None:
    policies = book(HIDDEN.replace('"x"', '"key"'))
    who = policies.class_of(PRINCIPALS[0])
    for n in range(ANSWERS_MAX + 10):
        assert policies.judge_call(who, "call", RESOURCES[0], {"path": f"/home/{n}"}).answer is Answer.YES
    question = policies.engine.known_question(who.who, "call", RESOURCES[0])
    assert question is not None
    assert 0 < len(question.answers) <= ANSWERS_MAX
    made_up = Resource("git", "eu-1", "eu", "made up", {}, "tool", listed=False)
    assert policies.judge_call(who, "call", made_up, {"path": "/srv/x"}).answer is Answer.NO
    assert policies.engine.known_question(who.who, "call", made_up) is None


def test_principals_whom_no_policy_tells_apart_are_one_class() -> None:
    policies = book('permit(principal in Group::"dev", action, resource) when { principal.tenant == "acme" };')
    ann, other = PRINCIPALS[0], Principal("zoe", "elsewhere", "acme", ("dev", "hr"), ("x",), "user")
    assert policies.class_of(ann) is policies.class_of(other)
    assert policies.class_of(ann) is not policies.class_of(PRINCIPALS[1])


def test_policies_of_an_authority_that_lost_its_role_forbid_and_no_longer_permit() -> None:
    text = 'permit(principal, action, resource); forbid(principal, action, resource == Tool::"git/push");'
    policies = book_of([PolicyRule("p", text, "enforce", "a", grants=False)], {})
    who = policies.class_of(PRINCIPALS[0])
    assert policies.judge(who, "call", RESOURCES[0]) == Verdict(Answer.NO)
    assert policies.judge(who, "call", RESOURCES[1]) == Verdict(Answer.NO, "policy p #2")
