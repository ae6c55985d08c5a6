"""What nodes write about themselves, and what of it is read back."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.discovery.entries import VALUE_BYTES_MAX, Entry, folder, key_of, node_of, read_entry, shown
from proto.errors import Invalid
from proto.names import NodeId

A = NodeId.of("mesh.test", "eu", "a-1")
WHERE = folder("", "mesh.test")


def test_a_key_is_the_node_id_below_its_mesh() -> None:
    key = key_of(folder("/team", "mesh.test"), A)
    assert key == b"/team/mesh.test/nodes/mesh.test/region/eu/node/a-1"
    assert node_of(folder("/team", "mesh.test"), key) == A


def test_an_entry_is_read_as_it_was_written_and_its_future_members_are_ignored() -> None:
    entry = Entry("[::1]:7401", "ab" * 16, "toolmesh/9")
    assert read_entry(entry.value()) == entry
    assert read_entry(b'{"address": "h:1", "zone": 7, "instance": 3}') == Entry("h:1", "")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"", "its value"),
        (b"\xff", "its value"),
        (b"[]", "its value"),
        (b"{}", "lacks an address"),
        (b'{"address": 7}', "lacks an address"),
        (b'{"address": "h"}', "host:port"),
        (b'{"address": "h:1", "x": "' + b"x" * VALUE_BYTES_MAX + b'"}', "bytes long"),
    ],
)
def test_what_is_no_entry_is_refused(value: bytes, problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        read_entry(value)


@pytest.mark.parametrize("key", [WHERE, WHERE + b"a-1", WHERE + b"\xff", WHERE + b"mesh.test/region/eu/node/A"])
def test_what_is_no_key_is_refused(key: bytes) -> None:
    with pytest.raises(Invalid):
        node_of(WHERE, key)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_whatever_stands_there_is_an_entry_or_invalid(key: bytes, value: bytes) -> None:
    with suppress(Invalid):
        node_of(WHERE, WHERE + key)
    with suppress(Invalid):
        read_entry(value)
    assert "\n" not in shown(key)
