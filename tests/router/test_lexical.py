from __future__ import annotations

import math
import random

import numpy as np
import pytest

from router.lexical import K1, WEIGHTS, B, Lexical

NOTHING = ("", "", "", "", "")


def filled(texts: dict[int, tuple[str, ...]]) -> Lexical:
    lexical = Lexical()
    for slot, fields in texts.items():
        lexical.add(slot, fields)
    return lexical


def test_the_score_is_bm25f_by_its_formula() -> None:
    lexical = filled({0: ("read file", "read text from disk", "", "", ""), 1: ("play song", "music", "", "", "")})
    score = lexical.scores(lexical.query("read"))[0]
    idf = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    name = WEIGHTS["name"] * 1 / (1 - B + B * 2 / 2)
    description = WEIGHTS["description"] * 1 / (1 - B + B * 3 / 2)
    weighted = name + description
    assert score == pytest.approx(idf * (K1 + 1) * weighted / (K1 + weighted), rel=1e-5)
    assert lexical.scores(lexical.query("read"))[1] == 0


def test_a_name_weighs_more_than_a_parameter() -> None:
    lexical = filled({0: ("currency", "x", "", "", "y"), 1: ("y", "x", "", "", "currency")})
    scores = lexical.scores(lexical.query("currencies"))
    assert scores[0] > scores[1] > 0


def test_a_removed_document_scores_nothing_at_once_and_its_slot_returns_after_compaction() -> None:
    fields = ("read file", "", "", "", "")
    lexical = filled({0: fields, 1: ("read mail", "", "", "", "")})
    lexical.remove(0, fields)
    # One document of its two words is left: weight 2 in the name, at mean length, in one document of one.
    expected = math.log(1 + 0.5 / 1.5) * (K1 + 1) * 2 / (K1 + 2)
    assert lexical.scores(lexical.query("read file")).tolist()[:2] == pytest.approx([0, expected])
    assert lexical.compact() == frozenset()
    assert lexical.compact(force=True) == {0}
    assert repr(lexical) == "Lexical(1 documents, 2 words, 0 tombstones)"


def test_an_index_with_a_history_scores_like_one_built_afresh() -> None:
    chance = random.Random(5)
    vocabulary = [f"word{i}" for i in range(30)]

    def fields() -> tuple[str, ...]:
        return tuple(" ".join(chance.choices(vocabulary, k=chance.randrange(6))) for _ in range(5))

    lexical, living, free, next_slot = Lexical(), {}, [], 0
    for _ in range(400):
        if living and chance.random() < 0.45:
            slot = chance.choice(list(living))
            lexical.remove(slot, living.pop(slot))
            free.extend(lexical.compact(force=chance.random() < 0.1))
        else:
            slot = free.pop() if free else next_slot
            next_slot = max(next_slot, slot + 1)
            living[slot] = fields()
            lexical.add(slot, living[slot])
    fresh = filled(living)
    for text in ("word1 word2", "word3", "word4 word4 word29 absent"):
        query = lexical.query(text)
        slots = list(living)
        np.testing.assert_allclose(lexical.scores(query)[slots], fresh.scores(query)[slots], rtol=1e-4)


def test_coverage_is_the_share_of_the_query_that_a_document_meets() -> None:
    lexical = filled({0: ("read file", "", "", "", ""), 1: ("read mail", "", "", "", "")})
    assert lexical.coverage(lexical.query("read file"), 0) == pytest.approx(1.0)
    assert 0 < lexical.coverage(lexical.query("read elephants"), 0) < 0.5
    assert lexical.coverage(lexical.query("elephants"), 0) == 0
    assert lexical.coverage({}, 0) == 0


def test_an_empty_index_answers() -> None:
    lexical = Lexical()
    assert lexical.scores(lexical.query("anything")).shape == (0,)
