"""What JSON is carried, and what is refused by name."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import jsons
from proto.errors import Invalid
from tests.weighing import weighed

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def exactly(value: Any) -> Any:
    """Tells 1 from 1.0 and from True, which `==` does not."""
    if isinstance(value, dict):
        return [(k, exactly(v)) for k, v in value.items()]
    if isinstance(value, list):
        return [exactly(v) for v in value]
    return (type(value), value)


@given(VALUES)
def test_what_is_written_is_read_back_unchanged(value: Any) -> None:
    assert exactly(jsons.loads(jsons.dumps(value))) == exactly(value)


@given(VALUES)
def test_the_canonical_text_reads_as_the_same_value(value: Any) -> None:
    assert jsons.loads(jsons.canonical(value)) == value


@pytest.mark.parametrize("number", [2**63, -(2**63), 2**64 - 1, 2**64, -(2**64), 10**30, 10**400])
def test_integers_beyond_64_bits_stay_exact(number: int) -> None:
    assert jsons.loads(str(number)) == number
    assert jsons.loads(jsons.dumps({"n": number})) == {"n": number}


@pytest.mark.parametrize(
    "text", [r'"\ud800"', r'"\udc00\ud800"', r'{"\ud800": 1}', r'["\ud800", 1234567890123456789012]']
)
def test_lone_surrogates_are_refused_when_read(text: str) -> None:
    with pytest.raises(Invalid, match="surrogate"):
        jsons.loads(text)


def test_a_raw_surrogate_in_a_string_is_refused() -> None:
    with pytest.raises(Invalid):
        jsons.loads('"\ud800"')


@pytest.mark.parametrize("value", ["\ud800", ["\udfff"], {"\ud800": 1}, ["\ud800", 2**80]])
def test_lone_surrogates_are_refused_when_written(value: Any) -> None:
    with pytest.raises(Invalid):
        jsons.dumps(value)


def test_a_proper_surrogate_pair_beside_a_long_number_is_one_character() -> None:
    assert jsons.loads(r'["\ud83d\ude00", 1234567890123456789012]') == ["😀", 1234567890123456789012]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("beside", ["", ", 1234567890123456789012"])
def test_numbers_that_json_lacks_are_refused_when_read(number: str, beside: str) -> None:
    with pytest.raises(Invalid):
        jsons.loads(f"[{number}{beside}]")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: [n], lambda n: {"a": {"b": (n,)}}, lambda n: [n, 2**80]])
def test_numbers_that_json_lacks_are_refused_when_written(number: float, wrap: Any) -> None:
    for write in (jsons.dumps, jsons.canonical):
        with pytest.raises(Invalid):
            write(wrap(number))


def test_member_names_that_are_no_strings_are_refused() -> None:
    for value in ({1: 2}, {"a": {None: 1}}, {"n": 2**80, True: 1}):
        with pytest.raises(Invalid, match="not a string"):
            jsons.dumps(value)


def test_values_that_are_no_json_are_refused() -> None:
    with pytest.raises(Invalid):
        jsons.dumps({"a": object()})


@pytest.mark.parametrize("fill", [b"", b"1234567890123456789012"])
def test_200_levels_are_read_and_201_refused(fill: bytes) -> None:
    deepest = b"[" * 200 + fill + b"]" * 200
    assert isinstance(jsons.loads(deepest), list)
    with pytest.raises(Invalid, match="deeper than 200"):
        jsons.loads(b"[" + deepest + b"]")


def test_objects_count_as_levels_too() -> None:
    assert jsons.loads(b'{"a":' * 200 + b"1" + b"}" * 200)
    with pytest.raises(Invalid, match="deeper than 200"):
        jsons.loads(b'{"a":' * 201 + b"1" + b"}" * 201)


@pytest.mark.parametrize("depth", [1_025, 100_000])
def test_absurd_depth_is_refused_and_not_a_crash(depth: int) -> None:
    for text in (nested(depth), b"[1234567890123456789012," + nested(depth) + b"]"):
        with pytest.raises(Invalid):
            jsons.loads(text)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert len(jsons.loads(b"[" + b",".join([b"[]"] * 500) + b"]")) == 500
    assert jsons.loads('"' + "[" * 500 + '"') == "[" * 500


def test_of_duplicate_members_the_last_wins_and_the_first_is_not_forwarded() -> None:
    for text in (b'{"a":1,"a":2}', b'{"a":1,"a":2,"n":1234567890123456789012}'):
        value = jsons.loads(text)
        assert value["a"] == 2
        assert jsons.dumps(value).count(b'"a"') == 1


def test_digests_are_equal_for_reordered_members() -> None:
    assert jsons.digest({"a": 1, "b": {"c": 2, "d": 3}}) == jsons.digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert jsons.digest({"a": 2**80, "b": 1}) == jsons.digest({"b": 1, "a": 2**80})


@given(st.dictionaries(TEXT, VALUES, min_size=2, max_size=5))
def test_digests_do_not_depend_on_member_order(value: dict[str, Any]) -> None:
    assert jsons.digest(dict(reversed(value.items()))) == jsons.digest(value)


def test_digests_differ_for_reordered_lists_and_other_types() -> None:
    assert len({jsons.digest(v) for v in ([1, 2], [2, 1], [1.0, 2], ["1", 2], [True, 2], [None, 2])}) == 6
    assert len(jsons.digest({})) == 32


def test_the_member_order_is_kept_when_written() -> None:
    assert jsons.dumps({"b": 1, "a": 2}) == b'{"b":1,"a":2}'
    assert jsons.dumps({"b": 2**80, "a": 2}) == b'{"b":1208925819614629174706176,"a":2}'


@pytest.mark.parametrize(
    ("text", "name"),
    [("null", "null"), ("true", "a boolean"), ("1.5", "a number"), ('"x"', "a string"), ("[]", "an array")],
)
def test_what_should_be_an_object_is_named_when_it_is_not(text: str, name: str) -> None:
    with pytest.raises(Invalid, match=f"params must be a JSON object, not {name}"):
        jsons.loads_object(text, "params")


@given(st.binary(max_size=40))
def test_no_bytes_whatever_raise_anything_but_invalid(data: bytes) -> None:
    with suppress(Invalid):
        jsons.dumps(jsons.loads(data))


@pytest.mark.parametrize("length", [1, 100, 1_000, 5_000, 50_000])
def test_a_compact_text_holds_no_more_memory_than_it_is_long(length: int) -> None:
    texts, weight = weighed(lambda: [jsons.compact(jsons.dumps("x" * length)) for _ in range(10)])
    assert texts == [b'"' + b"x" * length + b'"'] * 10
    assert weight < 10 * (length + 100) + 1_000
