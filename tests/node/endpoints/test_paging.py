"""Cursors: opaque, stateless, and refused where they were not given."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.endpoints.paging import CURSOR_MAX, cursor, position
from proto.errors import Invalid


@given(st.text(st.characters(exclude_categories=("Cs",))), st.text(st.characters(exclude_categories=("Cs",))))
def test_a_cursor_gives_back_the_position_it_was_made_of(server: str, name: str) -> None:
    given = cursor("tools/list", "*", (server, name))
    assert position({"cursor": given}, "tools/list", "*", 2) == (server, name)


@pytest.mark.parametrize("params", [{}, {"cursor": None}, {"cursor": ""}])
def test_no_cursor_is_the_beginning(params: dict[str, Any]) -> None:
    assert position(params, "tools/list", "*", 2) is None


@pytest.mark.parametrize(
    "given",
    [
        "x",
        "größe",
        "a" * (CURSOR_MAX + 1),
        7,
        {"page": 2},
        cursor("prompts/list", "*", ("a", "b")),
        cursor("tools/list", "files", ("a", "b")),
        cursor("tools/list", "*", ("b",)),
        base64.urlsafe_b64encode(b'["tools/list","*",1,2]').decode(),
        base64.urlsafe_b64encode(b'{"a":1}').decode(),
    ],
)
def test_a_cursor_that_this_list_has_not_given_is_refused_by_name(given: Any) -> None:
    with pytest.raises(Invalid, match=r"params\.cursor .* is not one that tools/list has given here"):
        position({"cursor": given}, "tools/list", "*", 2)
