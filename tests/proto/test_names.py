"""Every rule that a name has to keep."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from proto import names
from proto.errors import Invalid
from proto.names import NodeId

LABELS = st.from_regex(r"[a-z0-9]{1,6}(-[a-z0-9]{1,6}){0,2}", fullmatch=True)
NODES = st.builds(NodeId.of, LABELS, LABELS, LABELS)
CHECKS = [names.check_node_name, names.check_region, names.check_server_name, names.check_trust_domain]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("good", ["a", "7", "eu-1", "a-b-c", "0-0"])
def test_groups_of_letters_and_digits_joined_by_hyphens_are_names(check: Callable[[str], str], good: str) -> None:
    assert check(good) == good


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("bad", ["", "-", "-a", "a-", "a--b", "A", "a_b", "a b", "ä", "a\n", "٣", "a/b", "a.."])
def test_anything_else_is_refused_with_the_rule(check: Callable[[str], str], bad: str) -> None:
    with pytest.raises(Invalid, match="lower-case letters and digits"):
        check(bad)


@pytest.mark.parametrize(
    ("check", "limit"), [(names.check_node_name, 32), (names.check_region, 32), (names.check_server_name, 40)]
)
def test_a_name_at_the_limit_is_taken_and_one_beyond_it_refused(check: Callable[[str], str], limit: int) -> None:
    assert check("a" * limit)
    with pytest.raises(Invalid, match=f"at most {limit}"):
        check("a" * (limit + 1))


def test_trust_domains_are_dotted_and_each_part_fits_a_dns_label() -> None:
    assert names.check_trust_domain("mesh.example-1.org")
    assert names.check_trust_domain("a" * 63)
    with pytest.raises(Invalid, match="DNS label"):
        names.check_trust_domain("a" * 64)
    with pytest.raises(Invalid, match="at most 128"):
        names.check_trust_domain(".".join(["a" * 60] * 3))
    for bad in (".a", "a.", "a..b", "a.B"):
        with pytest.raises(Invalid):
            names.check_trust_domain(bad)


@given(NODES)
def test_a_node_id_reads_back_from_its_uri(node: NodeId) -> None:
    assert NodeId.parse(node.uri) == node
    assert node.dns == f"{node.name}.{node.region}.{node.trust_domain}"
    assert str(node) == node.name


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "mesh",
        "https://mesh/region/eu/node/a",
        "spiffe://mesh/region/eu",
        "spiffe://mesh/region/eu/node/",
        "spiffe://mesh/region/eu/node/a/",
        "spiffe://mesh/region/eu/node/a/more",
        "spiffe://mesh/node/a/region/eu",
        "spiffe://MESH/region/eu/node/a",
        "spiffe://mesh:1/region/eu/node/a",
        "spiffe://mesh/region/eu/node/a?x",
        " spiffe://mesh/region/eu/node/a",
        "spiffe://mesh/region/eu/node/a\n",
        "spiffe://mesh/region/eu/node/" + "a" * 33,
    ],
)
def test_other_uris_are_no_node_ids(bad: str) -> None:
    with pytest.raises(Invalid):
        NodeId.parse(bad)


@given(LABELS, LABELS)
def test_a_qualified_name_splits_into_what_it_was_made_of(server: str, node: str) -> None:
    assert names.split_qualified(names.qualified(server, node)) == (server, node)
    assert names.split_qualified(server) == (server, None)


@pytest.mark.parametrize("bad", ["", "--", "a--", "--b", "a--b--c", "a--B", "a_b", "a---b"])
def test_other_qualified_names_are_refused(bad: str) -> None:
    with pytest.raises(Invalid):
        names.split_qualified(bad)


@given(LABELS, st.text(min_size=1, max_size=120))
@example("s", "\ud800")
def test_every_listed_tool_is_within_the_alphabet_and_length_that_model_apis_take(server: str, tool: str) -> None:
    listed = names.listed_tool(server, tool)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", listed)
    assert listed.partition("__")[0] == server


@given(LABELS, st.text(min_size=1, max_size=120), LABELS, st.text(min_size=1, max_size=120))
@example("s", "a.b", "s", "a_b")
@example("s", "x" * 100, "s", "x" * 101)
@example("a", "b", "a-b", "b")
def test_different_tools_are_listed_differently(server: str, tool: str, server2: str, tool2: str) -> None:
    assume((server, tool) != (server2, tool2))
    assert names.listed_tool(server, tool) != names.listed_tool(server2, tool2)


def test_a_tool_name_that_fits_is_listed_as_it_is() -> None:
    assert names.listed_tool("files", "read_file") == "files__read_file"
    fits = "x" * (64 - len("s__"))
    assert names.listed_tool("s", fits) == f"s__{fits}"
    assert names.listed_tool("s", fits + "x") != f"s__{fits}x"


@given(LABELS, st.text(min_size=1, max_size=40))
def test_a_member_id_splits_at_its_first_slash(server: str, name: str) -> None:
    assert names.split_member(names.member_id(server, name)) == (server, name)


@pytest.mark.parametrize("bad", ["", "server", "server/"])
def test_a_member_id_without_a_second_part_is_refused(bad: str) -> None:
    with pytest.raises(Invalid, match="SERVER/NAME"):
        names.split_member(bad)
