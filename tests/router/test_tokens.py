from __future__ import annotations

import pytest

from router.tokens import words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Converting currencies", ["convert", "currenc"]),
        ("getUserByID user_id", ["get", "user", "id", "user", "id"]),
        ("the weather in Kraków", ["weather", "kraków"]),
        ("搜索网页", ["搜索", "索网", "网页"]),
        ("用bing搜", ["用", "bing", "搜"]),
        ("ПОГОДА в городе", ["погода", "в", "городе"]),
        ("ﬁle", ["file"]),
        ("user's files", ["user", "file"]),
        ("", []),
    ],
)
def test_words_of_any_script(text: str, expected: list[str]) -> None:
    assert list(words(text)) == expected
