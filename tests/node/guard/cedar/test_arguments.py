"""What callers write is data to policies, of every type that JSON has."""

from __future__ import annotations

import json
from typing import Any

import cedarpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.guard.cedar.arguments import arguments_for
from node.guard.cedar.reading import WHOLE

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.sampled_from(["__entity", "__extn", "__expr"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_whatever_arguments_hold_cedar_can_be_asked(arguments: dict[str, Any]) -> None:
    context = {"arguments": arguments_for(arguments, {WHOLE})}
    request = {"principal": 'P::"a"', "action": 'Action::"call"', "resource": 'R::"b"', "context": context}
    try:
        json.dumps(context).encode()
        surrogate_free = all(not 0xD800 <= ord(c) <= 0xDFFF for c in json.dumps(context, ensure_ascii=False))
    except UnicodeEncodeError:
        surrogate_free = False
    result = cedarpy.is_authorized(request, "permit(principal, action, resource);", "[]")
    assert result.allowed or not surrogate_free


@pytest.mark.parametrize(
    ("given_", "seen"),
    [
        ({"a": None, "b": 1}, {"b": 1}),
        ({"a": 3.0}, {"a": 3}),
        ({"a": 1.25}, {"a": {"__extn": {"fn": "decimal", "arg": "1.2500"}}}),
        ({"a": 1.00001}, {"a": "1.00001"}),
        ({"a": 2**63}, {"a": str(2**63)}),
        ({"a": {"__entity": {"type": "Group", "id": "ops"}}}, {"a": {"__entity_": {"type": "Group", "id": "ops"}}}),
        ({"a": [1, None, {"b": None}]}, {"a": [1, {}]}),
        (["a"], {}),
        ("text", {}),
    ],
)
def test_values_of_arguments(given_: Any, seen: dict[str, Any]) -> None:
    assert arguments_for(given_, {WHOLE}) == seen


def test_only_what_policies_read_is_translated() -> None:
    assert arguments_for({"path": "/x", "content": "y" * 1_000_000}, {"path", "gone"}) == {"path": "/x"}
