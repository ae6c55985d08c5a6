"""Questions, as they come from outside."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.audit.query import Query, query_of, time_of
from proto.errors import Invalid

NOW = 1_800_000_000_000
NAMES = [
    "who",
    "server",
    "tool",
    "outcome",
    "kind",
    "call_id",
    "tenant",
    "since",
    "until",
    "before",
    "after",
    "limit",
    "order",
]


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=40) | st.integers().map(str), max_size=6))
@settings(max_examples=100, deadline=None)
def test_any_parameters_make_a_question_or_are_refused(asked: dict[str, str]) -> None:
    try:
        query = query_of(asked, NOW)
    except Invalid:
        return
    assert 1 <= query.limit <= 1_000
    assert query_of(query.asked(), NOW) == query, "as it travels to other nodes"
    where, given_ = query.sql(0, 0)
    assert where.count("?") == len(given_)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("", 0),
        ("1700000000000", 1_700_000_000_000),
        ("90s", NOW - 90_000),
        ("15m", NOW - 900_000),
        ("2h", NOW - 7_200_000),
        ("7d", NOW - 7 * 86_400_000),
        ("2026-01-31", 1_769_817_600_000),
        ("2026-01-31T12:00Z", 1_769_860_800_000),
        ("2026-01-31T12:00:00+02:00", 1_769_853_600_000),
    ],
)
def test_times_are_written_as_people_write_them(text: str, ms: int) -> None:
    assert time_of("since", text, NOW) == ms


@pytest.mark.parametrize("text", ["yesterday", "-5m", "5 m", "1e3s", "٣h", "9" * 400 + "d", "2026-13-01", "h"])
def test_what_is_no_time_is_refused_by_the_name_of_its_parameter(text: str) -> None:
    with pytest.raises(Invalid, match="'until'"):
        time_of("until", text, NOW)


def test_a_value_is_never_part_of_the_statement() -> None:
    where, given_ = Query(who="x' OR '1'='1", tenant="?; DROP TABLE records").sql(0, 0)
    assert "OR" not in where
    assert "DROP" not in where
    assert "x' OR '1'='1" in given_
