"""Policies and roles as people write them: what is wrong is named where it is set."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.guard.cedar.engine import Answer
from node.guard.cedar.schema import SCHEMA
from node.guard.policy import POLICY_BYTES_MAX, book_of, check_policy
from node.ports import Resource
from node.settings.guard import RoleConfig
from proto.errors import Invalid
from proto.records import Principal

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no statement"),
        ("// permit(principal, action, resource);", "holds no statement"),
        (
            "permit(principal, action, resource) when { resource.sever == 1 };",
            "no attribute 'sever'; did you mean 'server'",
        ),
        ("permit(principal, action, resource) when { principal.group == 1 };", "did you mean 'groups'"),
        (
            'permit(principal, action, resource) when { resource.labels.env == "x" };',
            "labels are tags: resource.hasTag",
        ),
        ("permit(principal, action, resource) when { context.argument.x == 1 };", "context has no member 'argument'"),
        (
            "permit(principal, action, resource) when { context.arguments.x == 1 && principal.nam == 1 };",
            "no attribute 'nam'",
        ),
        ("permit(principal, action, resource) when { context.arguments.owner == resource.ownr };", "mean 'owner'"),
        ("permit(principal, action, resource) when { resource.annotations.readonly };", "annotations.readonly"),
        ('permit(principal == User::"a", action, resource);', "unrecognized entity type `User`"),
        ('permit(principal, action == Action::"cal", resource);', "unrecognized action"),
        ("permit(principal, action, resource) when { principal.subject > 3 };", "unexpected type"),
        ('permit(principal, action, resource) when { resource.getTag("env") == "x" };', "tag"),
        ("permit(principal, action,", "unexpected end of input"),
        ("permit(principal == ?principal, action, resource);", "template"),
        ("permit(principal, action, resource);" + " " * POLICY_BYTES_MAX, "longer than"),
    ],
)
def test_what_is_wrong_with_a_policy_is_named(text: str, said: str) -> None:
    with pytest.raises(Invalid) as e:
        check_policy("night", text)
    assert said in e.value.message
    assert "night" in e.value.message


def test_a_good_policy_passes() -> None:
    check_policy(
        "night",
        '@id("only reading") permit(principal in Group::"ops", action, resource in Server::"git")'
        ' when { resource.annotations.readOnly && context.arguments.path like "/srv*" }'
        ' unless { resource.hasTag("env") && resource.getTag("env") == "prod" };',
    )


def test_the_published_schema_is_the_one_that_policies_are_checked_against() -> None:
    assert (ROOT / "deploy/examples/toolmesh.cedarschema").read_text() == SCHEMA


@pytest.mark.parametrize("file", sorted((ROOT / "deploy/examples/policies").glob("*.cedar")), ids=lambda f: f.name)
def test_the_examples_can_be_honoured(file: Path) -> None:
    check_policy(file.stem, file.read_text())


@pytest.mark.parametrize(
    ("servers", "allowed"),
    [
        (("git",), ["git@eu-1", "git@us-1"]),
        (("g*",), ["git@eu-1", "git@us-1", "grep@eu-1"]),
        (("git--us-1",), ["git@us-1"]),
        (("*--eu-*",), ["git@eu-1", "grep@eu-1", "wiki@eu-1"]),
        ((), []),
    ],
)
def test_a_role_opens_the_servers_that_it_names(servers: tuple[str, ...], allowed: list[str]) -> None:
    roles = {"dev": RoleConfig(groups=("dev",), servers=servers)}
    book = book_of([], roles)
    known = [("git", "eu-1"), ("git", "us-1"), ("grep", "eu-1"), ("wiki", "eu-1")]

    def seen(principal: Principal) -> list[str]:
        who = book.class_of(principal)
        return [
            f"{server}@{owner}"
            for server, owner in known
            if book.judge(who, "call", Resource(server, owner, "eu", "x", kind="tool")).answer is Answer.YES
        ]

    assert seen(Principal("ann", "m", groups=("dev",))) == allowed
    assert seen(Principal("ann", "m", groups=("hr",))) == []


def test_a_role_is_for_its_actions_and_for_named_subjects() -> None:
    roles = {"keeper": RoleConfig(subjects=("https://idp|zoe",), actions=("administer",))}
    book = book_of([], roles)
    server = Resource("git", "eu-1")
    zoe, other = Principal("zoe", "https://idp"), Principal("zoe", "https://elsewhere")
    assert book.judge(book.class_of(zoe), "administer", server).answer is Answer.YES
    assert book.judge(book.class_of(zoe), "call", server).answer is Answer.NO
    assert book.judge(book.class_of(other), "administer", server).answer is Answer.NO


def test_a_plain_name_of_a_role_is_the_meshs_own_and_no_issuers() -> None:
    """An issuer whose users choose their names could give one any subject, another issuer's qualified one too."""
    book = book_of([], {"keeper": RoleConfig(subjects=("zoe", "https://idp|ann"), actions=("administer",))})
    server = Resource("git", "eu-1")

    def keeps(subject: str, issuer: str) -> bool:
        return book.judge(book.class_of(Principal(subject, issuer)), "administer", server).answer is Answer.YES

    assert keeps("zoe", "mesh.test")
    assert keeps("ann", "https://idp")
    assert not keeps("zoe", "https://idp")
    assert not keeps("https://idp|ann", "https://elsewhere")
