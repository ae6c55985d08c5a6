from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from node.config import parse
from node.guard.choose import guard_of
from node.guard.keys import ApiKey, ServerGlobs
from node.guard.mesh import MeshGuard
from node.guard.reach import Reaches
from node.ports import Action, Credentials, Resource
from proto.calls import Call
from proto.errors import Forbidden, Unauthenticated
from proto.records import ANONYMOUS, Principal
from tests.node.guards import KeyGuard
from tests.node.keyed import keyed

MESH = "test.mesh"
GIT_EU = Resource("git", "eu-1")
GIT_US = Resource("git", "us-1")
TIME_US = Resource("time", "us-1")


def seen(guard: MeshGuard, principal: Principal) -> list[Resource]:
    visibility = guard.visible(principal, Action.SEARCH)
    return [r for r in (GIT_EU, GIT_US, TIME_US) if visibility.allows(r)]


@pytest.mark.parametrize(
    "credentials",
    [Credentials(bearer="key-of-all"), Credentials(api_key="key-of-all"), Credentials("key-of-all", "", "key-of-all")],
)
async def test_a_key_says_who_the_caller_is(keys: list[ApiKey], credentials: Credentials) -> None:
    principal = await keyed(keys, MESH).authenticate(credentials)
    assert principal == Principal("all", MESH, "acme", ("ops",), ("operator",), "key", credential="key/all")


async def test_every_refusal_reads_the_same(keys: list[ApiKey]) -> None:
    authenticator = keyed(keys, MESH)
    shown = set()
    for credentials in (
        Credentials(),
        Credentials(bearer="wrong"),
        Credentials(bearer="all"),
        Credentials(api_key="key-of-al"),
        Credentials(basic="YWxsOmtleS1vZi1hbGw="),
        Credentials(bearer="\ud800"),
        Credentials(certificate=b"x"),
        Credentials(bearer=keys[0].digest.hex()),
    ):
        with pytest.raises(Unauthenticated) as e:
            await authenticator.authenticate(credentials)
        shown.add(e.value.message)
    assert len(shown) == 1


async def test_two_different_keys_are_refused_even_if_both_are_good(keys: list[ApiKey]) -> None:
    with pytest.raises(Unauthenticated):
        await keyed(keys, MESH).authenticate(Credentials(bearer="key-of-all", api_key="key-of-some"))


def test_globs_match_bare_and_qualified_names(keys: list[ApiKey]) -> None:
    guard = KeyGuard(keys, MESH)
    assert seen(guard, keys[0].principal(MESH)) == [GIT_EU, GIT_US, TIME_US]
    assert seen(guard, keys[1].principal(MESH)) == [GIT_EU, TIME_US]
    assert seen(guard, keys[2].principal(MESH)) == []


def test_a_glob_matches_the_whole_name_only() -> None:
    globs = ServerGlobs.of(("time",))
    assert globs.allows(Resource("time", "eu-1"))
    assert not globs.allows(Resource("time-zones", "eu-1"))
    assert not globs.allows(Resource("my-time", "eu-1"))
    assert not ServerGlobs.of(("",)).allows(Resource("time", "eu-1"))


def test_no_globs_match_nothing() -> None:
    assert not ServerGlobs.of(()).allows(GIT_EU)


def test_the_owners_entry_of_that_name_decides_for_a_caller_from_a_peer(keys: list[ApiKey]) -> None:
    from_peer = Principal("some", MESH, scopes=("operator",), groups=("ops",), kind="key")
    assert seen(KeyGuard(keys, MESH, peers=("*",)), from_peer) == [GIT_EU, TIME_US]
    assert seen(KeyGuard(keys, MESH, peers=()), from_peer) == [GIT_EU, TIME_US]


@pytest.mark.parametrize(
    "principal", [Principal("stranger", MESH, kind="key"), Principal("some", MESH, kind="user"), ANONYMOUS]
)
def test_other_callers_that_peers_vouch_for_see_what_peers_may(keys: list[ApiKey], principal: Principal) -> None:
    assert seen(KeyGuard(keys, MESH, peers=("git",)), principal) == [GIT_EU, GIT_US]
    assert seen(KeyGuard(keys, MESH, peers=()), principal) == []


@pytest.mark.parametrize(
    "principal",
    [
        Principal("some", MESH, "other-tenant", kind="key"),
        Principal("some", "other.mesh", kind="key"),
        Principal("stranger", "other.mesh", kind="key"),
        Principal("stranger", "", kind="user"),
    ],
)
def test_a_foreign_issuer_or_tenant_sees_nothing(keys: list[ApiKey], principal: Principal) -> None:
    assert seen(KeyGuard(keys, MESH, peers=("*",)), principal) == []


async def test_the_rule_behind_a_refusal_is_kept_for_the_audit(keys: list[ApiKey]) -> None:
    with pytest.raises(Forbidden) as e:
        await KeyGuard(keys, MESH).admit(Call("c", "git", "tools/call", {}, keys[2].principal(MESH)), GIT_EU)
    assert e.value.rule == "auth.keys 'none'"


def guard_for(settings: dict[str, object], tmp_path: Path) -> MeshGuard:
    return guard_of(parse(settings, tmp_path))


def test_where_nobody_is_asked_who_he_is_everybody_sees_everything(tmp_path: Path) -> None:
    assert seen(guard_for({}, tmp_path), ANONYMOUS) == [GIT_EU, GIT_US, TIME_US]


def test_with_keys_the_configuration_decides(keys: list[ApiKey], tmp_path: Path) -> None:
    auth = {"keys": [{"name": "some", "sha256": keys[1].digest.hex(), "servers": ["git"]}], "peers": {"servers": []}}
    guard = guard_for({"auth": auth, "node": {"mesh": MESH}}, tmp_path)
    assert seen(guard, Principal("some", MESH, kind="key")) == [GIT_EU, GIT_US]
    assert seen(guard, ANONYMOUS) == []


@pytest.mark.parametrize(
    ("principal", "reached"),
    [
        (Principal("alice", "https://login.example", kind="user"), [GIT_EU, GIT_US, TIME_US]),
        (Principal("alice", "https://login.example.evil", kind="user"), []),
        (Principal("alice", "other.mesh", kind="user"), []),
    ],
)
def test_holders_of_tokens_of_an_issuer_of_this_node_reach_what_policies_let_them(
    principal: Principal, reached: list[Resource]
) -> None:
    guard = MeshGuard("eu-1", Reaches.of(MESH, (), (), issuers=["https://login.example"]))
    assert seen(guard, principal) == reached


def test_a_refusal_is_explained_by_the_rule_and_what_it_lets_through(keys: list[ApiKey]) -> None:
    guard = KeyGuard(keys, MESH)
    some = keyed(keys, MESH).principals()["some"]
    decision = guard.explain(some, Action.CALL, Resource("git", "us-1"))
    assert (decision.allowed, decision.reason) == (False, "auth.keys 'some' lets through *--eu-1, time")


async def test_what_is_not_for_peers_is_not_for_them_at_a_node_that_asks_nobody_who_he_is() -> None:
    guard = MeshGuard("eu-1", Reaches.of(MESH, peers=("public-*",), open=True))
    private, public = Resource("private", "eu-1"), Resource("public-time", "eu-1")
    for principal in (ANONYMOUS, Principal("bob", MESH, kind="key"), Principal("zoe", "https://idp", kind="user")):
        call = Call("c", "s", "tools/call", {"name": "t"}, principal, via=("us-1",))
        with pytest.raises(Forbidden) as refused:
            await guard.admit(call, private)
        assert refused.value.rule == "auth.peers"
        assert (await guard.admit(call, private, public)).allowed == (public,)
        assert (await guard.admit(replace(call, via=("eu-1",)), private)).allowed == (private,)
