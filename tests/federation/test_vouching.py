"""What an owner believes of a peer that speaks for somebody else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from federation.vouching import (
    ACTORS_MAX,
    LIST_MAX,
    LISTED_CHARACTERS_MAX,
    TEXT_CHARACTERS_MAX,
    DirectOnly,
    check_principal,
)
from node.identity import claims
from proto.calls import Call
from proto.errors import Forbidden, Invalid
from proto.names import NodeId
from proto.records import ANONYMOUS, Principal

ENTRY = NodeId.of("mesh.test", "eu", "entry")
ANN = Principal(
    "ann",
    "https://id.example",
    "acme",
    ("staff",),
    ("read",),
    "user",
    ("https://id.example|agent",),
    "jti/1",
    2_000_000_000,
)


def call(*via: str) -> Call:
    return Call("c1", "files", "tools/call", {}, ANN, via=via)


def test_a_peer_speaks_for_keys_users_services_and_nobody() -> None:
    for kind in ("key", "user", "service"):
        check_principal(replace(ANN, kind=kind))
    check_principal(ANONYMOUS)


@pytest.mark.parametrize("kind", ["node", "", "operator", "authority", "User", "key\n"])
def test_a_peer_cannot_speak_as_a_node_or_as_a_kind_that_nobody_knows(kind: str) -> None:
    with pytest.raises(Invalid, match=r"principal\.kind"):
        check_principal(replace(ANN, kind=kind))


@pytest.mark.parametrize("name", ["subject", "issuer", "tenant", "credential"])
@pytest.mark.parametrize("bad", ["a\nb", "a\x00", "\x1b[2J", "a\u202eb", "\u2028", "x" * (TEXT_CHARACTERS_MAX + 1)])
def test_names_with_characters_that_deceive_readers_or_without_end_are_refused(name: str, bad: str) -> None:
    with pytest.raises(Invalid, match=rf"principal\.{name}") as e:
        check_principal(replace(ANN, **{name: bad}))
    assert e.value.message.isprintable()


@pytest.mark.parametrize("name", ["groups", "scopes", "actors"])
@pytest.mark.parametrize(
    "bad", [("",), ("a\tb",), ("x" * (LISTED_CHARACTERS_MAX + 1),), tuple(map(str, range(LIST_MAX + 1)))]
)
def test_lists_are_bounded_and_so_are_their_entries(name: str, bad: tuple[str, ...]) -> None:
    with pytest.raises(Invalid, match=rf"principal\.{name}"):
        check_principal(replace(ANN, **{name: bad}))


@pytest.mark.parametrize("seconds", [-1, 2**63])
def test_a_proof_ends_within_the_time_that_there_is(seconds: int) -> None:
    with pytest.raises(Invalid, match=r"principal\.expires_s"):
        check_principal(replace(ANN, expires_s=seconds))


@pytest.mark.parametrize(
    "claim", [{"tenant": "acme"}, {"groups": ("staff",)}, {"scopes": ("operator",)}, {"actors": ("x",)},
              {"credential": "key/ann"}]
)  # fmt: skip
def test_nobody_has_no_tenant_group_scope_actor_or_credential(claim: dict[str, object]) -> None:
    with pytest.raises(Invalid, match="'anonymous'"):
        check_principal(replace(ANONYMOUS, **claim))  # type: ignore[arg-type]


def test_a_caller_without_a_name_is_refused() -> None:
    with pytest.raises(Invalid, match="empty"):
        check_principal(replace(ANN, subject=""))


def test_whatever_a_token_may_say_travels() -> None:
    """What an entry node lets in, owners must not refuse for its length."""
    assert claims.LIST_MAX <= LIST_MAX
    assert claims.TEXT_CHARACTERS_MAX <= LISTED_CHARACTERS_MAX
    assert claims.ACTORS_MAX <= ACTORS_MAX
    most = "x" * claims.TEXT_CHARACTERS_MAX
    actors = (f"{most}|{most}",) * claims.ACTORS_MAX
    check_principal(replace(ANN, subject=most, groups=(most,), scopes=(most,), actors=actors))


def test_a_call_comes_from_its_entry_node_and_says_so() -> None:
    DirectOnly("mesh.test").check(call("entry"), b"", ENTRY)


@pytest.mark.parametrize("via", [(), ("other",), ("entry", "entry"), ("entry", "other"), ("Entry",), ("entry ",)])
def test_any_other_word_about_the_way_is_refused(via: tuple[str, ...]) -> None:
    with pytest.raises(Invalid, match="via is"):
        DirectOnly("mesh.test").check(call(*via), b"", ENTRY)


def test_a_call_through_a_relay_is_refused_by_name() -> None:
    with pytest.raises(Invalid, match="through a relay is not taken; 'far' must send it itself"):
        DirectOnly("mesh.test").check(call("far", "entry"), b"", ENTRY)


def test_a_node_of_another_trust_domain_speaks_for_nobody() -> None:
    with pytest.raises(Forbidden, match="another trust domain"):
        DirectOnly("mesh.test").check(call("entry"), b"signed?", NodeId.of("other.test", "eu", "entry"))
