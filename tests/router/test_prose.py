from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import prose


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<p>Get <b>all</b> users</p>", "Get  all  users"),
        ("Get the <city> of a user", "Get the <city> of a user"),
        ("**Creates** a [card](https://example.org/c) in `Trello`", "Creates a card in Trello"),
        ("# Search\n- by name\n2. by date", "Search\nby name\nby date"),
        ("```json\n{}\n```\nDone", "{}\n\nDone"),
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ('"Deletes an account."', "Deletes an account."),
        ('"one" or "two"', '"one" or "two"'),
        ("snake_case and __init__", "snake_case and init"),
        ("", ""),
    ],
)
def test_markup_goes_and_words_stay(text: str, expected: str) -> None:
    assert prose.plain(text) == expected


@pytest.mark.parametrize(
    ("text", "told", "details"),
    [
        ("Adds two numbers.\n\nArgs:\n  a: one", "Adds two numbers.", "Args:\n  a: one"),
        ("Adds two numbers. Returns: the sum", "Adds two numbers.", "Returns: the sum"),
        ("获取文件的信息和大小以及状态。参数: 路径", "获取文件的信息和大小以及状态。", "参数: 路径"),
        ("Args: a list of arguments", "Args: a list of arguments", ""),
        ("Explains what a function returns: its type", "Explains what a function returns: its type", ""),
    ],
)
def test_sections_begin_a_line_or_follow_a_sentence(text: str, told: str, details: str) -> None:
    assert prose.sections(text) == (told, details)


def test_advice_to_hosts_is_not_what_a_tool_does() -> None:
    text = "⚠️ IMPORTANT: call plan first! Finds trials by condition. Note: slow at night."
    assert prose.telling(text, 2) == ["Finds trials by condition."]
    assert prose.telling("Note: all there is to say.", 2) == ["Note: all there is to say."]


@given(st.text(alphabet="aZ<>&;#*-_`[]()!|\"'. \n\t:。获\u0000", max_size=300))
def test_any_text_can_be_made_plain(text: str) -> None:
    told, details = prose.sections(prose.plain(text))
    assert len(told) + len(details) <= len(text) + 1
    prose.telling(told, 2)


def test_hostile_markup_is_read_in_one_go() -> None:
    for piece in ("<a ", "[a](", "**", "&amp", "args:", "- ", "``` "):
        prose.sections(prose.plain(piece * 1_000))
