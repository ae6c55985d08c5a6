from __future__ import annotations

import pytest

from router.clauses import CLAUSES_MAX, clauses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("read a file", ()),
        (
            "Find the cheapest flight to Lisbon on Friday, then book a hotel near the beach",
            ("Find the cheapest flight to Lisbon on Friday", "book a hotel near the beach"),
        ),
        (
            "Get the weather in Berlin for tomorrow. Send it to my boss by mail.",
            ("Get the weather in Berlin for tomorrow.", "Send it to my boss by mail."),
        ),
        ("查询天气。发送邮件", ("查询天气。", "发送邮件")),
        ("what is the best way to get from the main station to the airport", ()),
    ],
)
def test_a_long_task_comes_apart_into_its_steps(text: str, expected: tuple[str, ...]) -> None:
    assert clauses(text) == expected


def test_a_task_has_at_most_six_clauses() -> None:
    assert len(clauses("Take the next step now. " * 50)) == CLAUSES_MAX
