from __future__ import annotations

import pytest

from proto import jsons
from router.budget import cut, tokens
from router.evaluation.tokens import counter
from router.metatools import META_TOOLS

TEXTS = [
    "Convert an amount of money from one currency to another, at today's rate or at that of a given day.",
    "- weather · rain_chance(city: string, day?: string|null): How likely it is to rain. [0.36, ap/ap-1]",
    jsons.dumps(META_TOOLS).decode(),
]


@pytest.mark.parametrize("text", TEXTS)
def test_the_estimate_is_near_what_a_strict_tokenizer_counts_and_rather_above(text: str) -> None:
    counted = counter()(text)
    assert 0.9 * counted <= tokens(text) <= 1.4 * counted


def test_other_scripts_cost_a_token_for_each_character_and_spaces_nothing() -> None:
    assert tokens("天气 预报") == 4
    assert tokens(" \n\t") == 0


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [("find(city: string)", 9, "find(city: string)"), ("find(city: string)", 4, "find(city:…"), ("汉汉汉", 2, "汉汉…")],
)
def test_a_text_is_cut_after_so_many_tokens(text: str, most: int, expected: str) -> None:
    assert cut(text, most) == expected
