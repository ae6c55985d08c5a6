"""What several authorities say, as one: deny wins."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.governance.bodies import Broken, item_of
from node.governance.union import NOWHERE, Side, unite
from node.guard.governed import Governed
from proto.records import Kind, Record, RecordKey

DIGEST, OTHER = "ab" * 32, "cd" * 32
PERMIT = {"text": "permit(principal, action, resource);"}


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def side(name: str, *records: Record, grants: bool = True, fresh: bool = True) -> Side:
    return Side(name, {r.key: item_of(r, name) for r in records}, grants, fresh)


def key(name: str = "k", **body: Any) -> Record:
    return Record.of(Kind.KEY, name, {"sha256": DIGEST, **body})


def tenant(name: str = "acme", **body: Any) -> Record:
    return Record.of(Kind.TENANT, name, body)


def held(server: str, *entries: dict[str, str]) -> Record:
    return Record.of(Kind.QUARANTINE, server, {"held": list(entries or ({},))})


def revoked(credential: str) -> Record:
    return Record.of(Kind.REVOCATION, credential, {})


def policy(name: str = "p", **body: Any) -> Record:
    return Record.of(Kind.POLICY, name, {**PERMIT, **body})


def union(*sides: Side, **rest: Any) -> Governed:
    return unite(sides, **rest)[0]


def test_a_key_of_one_authority_counts() -> None:
    state = union(side("a", key(scopes=["operator"], expires_s=7)))
    found = state.keys[bytes.fromhex(DIGEST)]
    assert (found.name, found.scopes, found.expires_s, found.authority) == ("k", ("operator",), 7, "a")


def test_a_key_that_two_authorities_know_alike_counts() -> None:
    assert len(union(side("a", key()), side("b", key())).keys) == 1


@pytest.mark.parametrize("other", [key(sha256=OTHER), key(scopes=["operator"]), key("l")])
def test_a_key_that_two_authorities_disagree_about_counts_nowhere_and_is_told(other: Record) -> None:
    state, problems = unite([side("a", key()), side("b", other)])
    assert state.keys == {}
    assert "nowhere" in problems[0]


def test_a_key_that_any_authority_revokes_counts_nowhere() -> None:
    state = union(side("a", key()), side("b", revoked("key/k")))
    assert state.keys == {}
    assert state.revocation("key/k", "mesh", "k") is not None


@pytest.mark.parametrize(("grants", "fresh"), [(False, True), (True, False)])
def test_an_authority_without_the_role_or_beyond_its_age_grants_nothing_and_denies_as_before(
    grants: bool, fresh: bool
) -> None:
    records = (key(), tenant(), held("files"), revoked("jti/7"))
    state = union(side("a", *records, grants=grants, fresh=fresh))
    assert (state.keys, state.tenants, state.tenants_governed) == ({}, {}, True)
    assert state.hold("files", "n") is not None
    assert state.revoked.keys() == {"jti/7"}
    assert state.stale == {"a"}


def test_what_another_authority_grants_goes_on() -> None:
    state = union(side("a", key(), tenant(), fresh=False), side("b", key(), tenant()))
    assert len(state.keys) == len(state.tenants) == 1


def test_policies_of_an_authority_beyond_its_age_close_everything_unless_they_are_only_tried() -> None:
    assert "a, whose policies" in union(side("a", policy(), fresh=False)).closed
    assert not union(side("a", policy(mode="shadow"), fresh=False)).closed
    assert not union(side("a", policy())).closed


def test_policies_of_an_authority_without_the_role_keep_their_forbids_only() -> None:
    (rule,) = union(side("a", policy(), grants=False)).policies
    assert (rule.grants, rule.mode) == (False, "enforce")


def test_policies_of_one_name_both_count() -> None:
    state = union(side("b", policy(mode="shadow")), side("a", policy()))
    assert [(r.authority, r.mode) for r in state.policies] == [("a", "enforce"), ("b", "shadow")]


def test_an_authority_that_must_be_heard_and_never_was_closes_everything() -> None:
    state = union(unheard=["a"])
    assert (state.stale, "a has never been heard" in state.closed) == ({"a"}, True)


def test_a_tenant_may_come_from_what_all_authorities_allow() -> None:
    one, other = tenant(addresses=["10.0.0.0/8", "192.168.0.0/16"]), tenant(addresses=["10.1.0.0/16"])
    assert union(side("a", one), side("b", other), side("c", tenant())).tenants["acme"].addresses == ("10.1.0.0/16",)
    none = tenant(addresses=["172.16.0.0/12"])
    assert union(side("a", one), side("b", none)).tenants["acme"].addresses == NOWHERE


def test_what_is_held_by_any_is_held() -> None:
    state = union(side("a", held("files", {"tool": "rm"})), side("b", held("files", {"owner": "n1"})))
    assert state.hold("files", "n2") is None
    assert state.hold("files", "n1") is not None
    assert state.hold("files", "n2", "rm") is not None
    assert state.hold("files", "n2", "ls") is None
    assert state.hold("other", "n1", "rm") is None


BAD = {
    Kind.KEY: {"sha256": DIGEST, "color": 1},
    Kind.POLICY: {},
    Kind.TENANT: {"addresses": ["here"]},
    Kind.QUARANTINE: {"held": [{"tool": 7}]},
    Kind.REVOCATION: {"at": "noon"},
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_honoured_counts_for_all_that_it_could_deny(kind: Kind) -> None:
    name = {Kind.QUARANTINE: "files", Kind.REVOCATION: "key/k"}.get(kind, "k")
    state, problems = unite([side("a", Record.of(kind, name, BAD[kind])), side("b", key(), tenant("k"))])
    assert len(state.keys) == (kind not in (Kind.KEY, Kind.REVOCATION))
    assert len(state.tenants) == (kind is not Kind.TENANT)
    assert bool(state.closed) == (kind is Kind.POLICY)
    assert (state.hold("files", "n") is not None) == (kind is Kind.QUARANTINE)
    assert (state.revocation("key/k", "", "") is not None) == (kind is Kind.REVOCATION)
    assert "cannot be honoured" in problems[0]


def test_a_hold_of_nobody_knows_what_closes_everything() -> None:
    assert union(side("a", held("No Server"))).closed


def test_a_record_that_the_federation_rejected_cannot_be_honoured() -> None:
    rejected = Side("a", {RecordKey(Kind.POLICY, "p"): Broken("its digest does not match")})
    assert union(rejected).closed


def test_its_repr_counts_and_shows_no_digest() -> None:
    state = union(side("a", key(), held("files"), fresh=False), version=3)
    assert repr(state) == "Governed(3: 0 keys, 0 policies, 0 tenants, 1 held, 0 revoked, stale a)"
    assert "ab" * 4 not in repr(union(side("a", key())).keys)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(["sha256", "text", "mode", "held", "tool", "owner", "addresses", "scopes", "expires_s", "at"])
BODY = st.dictionaries(FIELDS, JSON | st.sampled_from([DIGEST, "enforce", "10.0.0.0/8"]), max_size=4)
RAW = BODY.map(as_json) | st.binary(max_size=40)
SENT = st.tuples(st.sampled_from([*BAD]), st.text(max_size=12), RAW)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([*BAD]), st.text(max_size=12), RAW), max_size=4), st.booleans(), st.booleans()
)
def test_whatever_an_authority_sends_is_read_or_counts_for_what_it_could_deny(
    sent: list[tuple[Kind, str, bytes]], grants: bool, fresh: bool
) -> None:
    records = [Record(kind, name, b"", raw) for kind, name, raw in sent]
    said = {r.key: item_of(r, "a") for r in records}
    state, problems = unite([Side("a", said, grants, fresh), side("b", key(), tenant())])
    for found, item in said.items():
        broken = isinstance(item, Broken)
        assert not broken or problems
        match found.kind:
            case Kind.POLICY:
                assert not broken or state.closed
            case Kind.KEY:
                assert not (broken or not (grants and fresh)) or found.id not in {
                    k.name for k in state.keys.values() if k.authority == "a"
                }
            case Kind.TENANT:
                assert state.tenants_governed
                assert not broken or found.id not in state.tenants
            case Kind.QUARANTINE:
                assert state.held[found.id]
            case Kind.REVOCATION:
                assert found.id in state.revoked
