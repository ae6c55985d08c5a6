from __future__ import annotations

import pytest

from router import tokens
from router.tokens import words, words_and_wholes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Converting currencies", ["convert", "currenc"]),
        ("getUserByID user_id", ["get", "user", "id", "user", "id"]),
        ("the weather in Kraków", ["weather", "krakow"]),
        ("İSTANBUL, Straße", ["istanbul", "strass"]),
        ("搜索网页", ["搜索", "索网", "网页"]),
        ("用bing搜", ["用", "搜", "bing"]),
        ("ПОГОДА в городе, ёлка", ["погод", "в", "город", "елк"]),
        ("ο καιρός, του καιρού", ["ο", "καιρ", "τ", "καιρ"]),
        ("الطَّقْس", ["طقس"]),
        ("أحمد", ["احمد"]),
        ("שָׁלוֹם", ["שלומ"]),
        ("मौसम की फ़ाइलें", ["मौसम", "क", "फ़ाइल"]),
        ("٣٤ १२", ["34", "12"]),
        ("ﬁle", ["file"]),
        ("co\u00adoperate", ["cooper"]),
        ("user's files", ["user", "file"]),
        ("\x00\x01 _ __ - \ud800", []),
        ("", []),
    ],
)
def test_words_of_any_script(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Wetterkarte ANZEIGEN", "wetterkarte anzeigen"),
        ("café", "cafe\u0301"),
        ("файлы", "файлов"),
        ("ملف", "الملف"),
        ("كتاب", "کتاب"),
        ("फ़ाइल", "फ़ाइलें"),
        ("ＦＩＬＥ", "file"),
        ("αρχείο", "ΑΡΧΕΙΟ"),
    ],
)
def test_what_readers_take_for_one_word_is_one(one: str, other: str) -> None:
    assert words(one) == words(other) != []


def test_an_identifier_of_several_words_is_there_whole_as_well() -> None:
    assert words_and_wholes("YouTube youtube") == ["tube", "youtub", "youtub"]
    assert words_and_wholes("get_user_name getUserName") == ["get", "user", "name", "getusernam"] * 2
    assert words_and_wholes("plain words") == words("plain words")


def test_a_run_without_end_is_cut_and_not_remembered() -> None:
    tokens._known.clear()
    assert [len(w) for w in words("a" * 100_000)] == [tokens.WORD_MAX]
    assert len(words("文" * 1_000)) == 999
    assert tokens._known == {}


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "CACHED", 10)
    assert words(" ".join(f"w{i}x" for i in range(1_000)))[-1] == "w999x"
    assert len(tokens._known) <= 10
