from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.essence import essence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Show the ticket with ID 'A7f3kQ9x' please", "Show the ticket with ID please"),
        ('Play the song "Blue in Green" in the kitchen', "Play the song in the kitchen"),
        ("Convert 250 USD to EUR as of 2024-01-31", "Convert USD to EUR as of"),
        ("Summarise https://example.org/a/b?c=d in three lines", "Summarise url in three lines"),
        ("Send the minutes to ann.lee@example.org today", "Send the minutes to email today"),
        ("Turn /srv/reports/q3.docx into a PDF file", "Turn docx into a PDF file"),
        ("Delete the order 550e8400-e29b-41d4-a716-446655440000 at once", "Delete the order at once"),
        ("Track the parcel JD0146000034 for me", "Track the parcel for me"),
        ("Decode this base64 text with OAuth2 and sha256", "Decode this base64 text with OAuth2 and sha256"),
        ("It's Ann's turn, isn't it, to play", "It's Ann's turn, isn't it, to play"),
    ],
)
def test_values_leave_and_the_task_stays(text: str, expected: str) -> None:
    assert essence(text) == expected


@pytest.mark.parametrize("text", ["'all of it'", "42", "", "git log", "查询《三体》的天气", "https://example.org"])
def test_a_text_of_values_alone_stays_as_it_is(text: str) -> None:
    assert essence(text) == text


@given(st.text(alphabet="aZ09 '\"./@-_\n查é", max_size=200))
def test_any_text_has_an_essence_no_longer_than_itself(text: str) -> None:
    assert len(essence(text)) <= max(len(text), 1) + 5 * text.count("@") + 4


def test_the_longest_query_takes_no_longer_than_its_length() -> None:
    for piece in ("'", "/a", "a.", "a@", "a1-", "0,"):
        essence(piece * 2_000)
