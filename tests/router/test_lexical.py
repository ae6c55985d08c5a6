from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.documents import FIELDS
from router.lexical import K1, USUAL_LENGTHS, WEIGHTS, B, Lexical
from router.masks import View
from router.tokens import words_and_wholes
from tests.router.views import view

Fields = tuple[str, ...]


def fields(*texts: str) -> Fields:
    return (*texts, *[""] * (len(FIELDS) - len(texts)))


def filled(texts: dict[int, Fields]) -> Lexical:
    lexical = Lexical()
    for row, each in texts.items():
        lexical.add(row, each)
    return lexical


def everything(texts: dict[int, Fields]) -> View:
    return view(texts, max(texts, default=0) + 1, everything=True)


def plain_bm25f(query: str, row: int, visible: dict[int, Fields]) -> float:
    """By the formula, over what is visible and nothing else; a visible row's score."""
    score = 0.0
    for word in words_and_wholes(query):
        having = sum(any(word in words_and_wholes(text) for text in each) for each in visible.values())
        weighted = 0.0
        for name, text in zip(FIELDS, visible[row], strict=True):
            found = words_and_wholes(text)
            norm = 1 - B + B * len(found) / USUAL_LENGTHS[name]
            weighted += WEIGHTS[name] * found.count(word) / norm
        n = max(1, having)
        rarity = math.log(1 + (max(len(visible), n) - n + 0.5) / (n + 0.5))
        score += rarity * (K1 + 1) * weighted / (K1 + weighted)
    return score


def expected(query: str, texts: dict[int, Fields], visible: Iterable[int], capacity: int) -> list[float]:
    shown = {row: texts[row] for row in visible}
    return [plain_bm25f(query, row, shown) if row in shown else 0.0 for row in range(capacity)]


WORDS = st.lists(st.sampled_from(["read", "file", "files", "mail", "song", "getFile", "и", "文件"]), max_size=6)
FIELDS_OF = st.tuples(*[WORDS.map(" ".join)] * len(FIELDS))
ROWS = st.integers(0, 9)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(ROWS, st.none() | FIELDS_OF), max_size=30),
    st.sets(ROWS),
    WORDS.map(" ".join),
)
def test_any_history_scores_what_is_visible_by_the_formula_and_nothing_else(
    history: list[tuple[int, Fields | None]], seen: set[int], query: str
) -> None:
    lexical, texts = Lexical(), dict[int, Fields]()
    for row, each in history:
        if row in texts:
            lexical.remove(row)
            del texts[row]
        if each is not None:
            lexical.add(row, each)
            texts[row] = each
    visible = seen & texts.keys()
    queries = [lexical.query(query), lexical.query("read")]
    scores = lexical.scores(queries, view(visible, 10))
    for text, got in zip((query, "read"), scores, strict=True):
        np.testing.assert_allclose(got, expected(text, texts, visible, 10), rtol=1e-4, atol=1e-6)
    whole = lexical.scores(queries, view(texts, 10, everything=True))
    np.testing.assert_allclose(whole[0], expected(query, texts, texts, 10), rtol=1e-4, atol=1e-6)
    assert len(lexical) == len(texts)


def test_what_is_hidden_changes_no_score() -> None:
    texts = {0: fields("read file"), 2: fields("read mail", "from a server")}
    hidden = {1: fields("read file"), 3: fields("song", "read " * 50), 4: fields("mail")}
    alone, among = filled(texts), filled(texts | hidden)
    query = alone.query("read the mail")
    shown = view(texts, 5)
    assert alone.scores([query], everything(texts))[0].tolist() == among.scores([query], shown)[0, :3].tolist()
    for row in texts:
        assert alone.coverage(query, row, everything(texts)) == among.coverage(query, row, shown)


def test_a_version_of_a_view_is_counted_once_and_another_version_anew() -> None:
    lexical = filled({0: fields("read file"), 1: fields("read mail"), 2: fields("send mail")})
    query = lexical.query("mail")
    before = lexical.scores([query], view([0, 1], 3))[0, 1]
    after = lexical.scores([query], view([1, 2], 3))[0, 1]
    assert before > after


def test_a_name_weighs_more_than_a_parameter() -> None:
    texts = {0: fields("currency", "x", "", "", "y"), 1: fields("y", "x", "", "", "currency")}
    lexical = filled(texts)
    scores = lexical.scores([lexical.query("currencies")], everything(texts))[0]
    assert scores[0] > scores[1] > 0


def test_a_word_said_a_thousand_times_weighs_little_more_than_one_said_twice() -> None:
    texts = {0: fields("", "file " * 2), 1: fields("", "file " * 1000), 2: fields("", "mail")}
    lexical = filled(texts)
    scores = lexical.scores([lexical.query("file")], everything(texts))[0]
    assert scores[1] < 1.5 * scores[0]


def test_coverage_is_the_share_of_the_query_that_a_document_meets() -> None:
    texts = {0: fields("read file"), 1: fields("read mail")}
    lexical, shown = filled(texts), everything(texts)
    assert lexical.coverage(lexical.query("read file"), 0, shown) == pytest.approx(1.0)
    assert 0 < lexical.coverage(lexical.query("read elephants"), 0, shown) < 0.5
    assert lexical.coverage(lexical.query("elephants"), 0, shown) == 0
    assert lexical.coverage(lexical.query(""), 0, shown) == 0
    assert lexical.coverage(lexical.query("read"), 7, shown) == 0


def test_a_row_that_is_taken_is_refused_and_one_that_left_may_be_used_again() -> None:
    lexical = filled({3: fields("read file")})
    with pytest.raises(ValueError, match="row 3 is taken"):
        lexical.add(3, fields("other"))
    lexical.remove(3)
    assert repr(lexical) == "Lexical(0 documents, 0 words)"
    lexical.add(3, fields("other"))
    with pytest.raises(KeyError):
        lexical.remove(4)


def test_an_empty_index_answers() -> None:
    lexical = Lexical()
    assert lexical.scores([lexical.query("anything")], view([], 0)).shape == (1, 0)


LATER_ROWS = st.integers(11, 14) | st.integers(16, 19)


def as_read(state: Mapping[str, Any]) -> dict[str, Any]:
    """As a file gives it back: bytes are arrays of bytes there."""
    return {n: np.frombuffer(v, np.uint8) if isinstance(v, bytes) else np.array(v) for n, v in state.items()}


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(LATER_ROWS, FIELDS_OF, max_size=4), st.sets(LATER_ROWS))
def test_what_comes_back_scores_as_before_and_goes_on_changing(texts: dict[int, Fields], gone: set[int]) -> None:
    before = filled(texts)
    after = Lexical()
    after.restore(as_read(before.state()))
    assert repr(after) == repr(before)
    for lexical in (before, after):
        # Before, after and among those that came back.
        lexical.add(10, fields("read mail"))
        lexical.add(20, fields("read file", "文件"))
        lexical.add(15, fields("read song"))
        for row in gone & texts.keys():
            lexical.remove(row)
    shown = view([10, 15, 20, *(texts.keys() - gone)], 21)
    queries = [before.query("read files 文件"), before.query("song")]
    assert before.scores(queries, shown).tolist() == after.scores(queries, shown).tolist()
    assert before.coverage(queries[0], 20, shown) == after.coverage(queries[0], 20, shown)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("made_by", lambda v: v[:-1]),
        ("words", lambda v: v[:-6]),
        ("ends", lambda v: v[::-1]),
        ("ends", lambda v: v[:-1]),
        ("rows", lambda v: v[:-4]),
        ("rows", lambda v: np.roll(v, 4)),
        ("weights", lambda v: v[:-4]),
        ("weights", lambda v: v * 0),
        ("documents", lambda v: v[:-1]),
        ("documents", lambda v: v * 0),
    ],
)
def test_what_does_not_fit_together_is_refused_and_changes_nothing(name: str, spoil: Any) -> None:
    kept = as_read(filled({0: fields("read file"), 1: fields("read mail"), 4: fields("send mail")}).state())
    lexical = filled({7: fields("song")})
    with pytest.raises(ValueError, match=r"fit together|another way"):
        lexical.restore(kept | {name: spoil(kept[name])})
    assert repr(lexical) == "Lexical(1 documents, 1 words)"
    with pytest.raises(KeyError):
        lexical.restore({n: v for n, v in kept.items() if n != name})
