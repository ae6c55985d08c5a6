"""What the adapter is trained on: nothing that it is checked on, and nothing that is right counted as wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.adapter.batches import Batches, Recipe
from bench.adapter.pairs import Pairs, read_pairs

RECIPE = Recipe(queries=16, joined=0.25, own_words=0.25)


def tool(n: int, **more: Any) -> dict[str, Any]:
    description = f"Does thing number {n} for you. It takes a widget and gives back what became of it."
    return {"server": f"s{n % 7}", "tool": f"do_thing_{n}", "description": description, **more}


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    rows = [
        {
            "src": ("large", "small")[n % 10 == 0],
            "query": f"please do thing {n}",
            "pos": [tool(n), tool(n + 1)],
            "neg": [tool(n + 2)],
        }
        for n in range(0, 200, 2)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return read_pairs(tmp_path)


def stock(pairs: Pairs) -> np.ndarray:
    """Each tool alike to none but itself."""
    return np.eye(len(pairs.tools), dtype=np.float32)


def test_what_is_held_out_is_never_a_right_answer_in_training(pairs: Pairs) -> None:
    held_out = {p.right[0] for p in pairs.held_out}
    assert 0 < len(pairs.held_out) < len(pairs.training)
    assert not held_out & {t for p in pairs.training for t in p.right}


def test_a_batch_has_the_shares_that_were_asked_for_and_an_answer_to_each_query(pairs: Pairs) -> None:
    batch = Batches(pairs, stock(pairs), RECIPE, seed=1).next()
    assert len(batch.queries) == RECIPE.queries
    assert batch.right.shape == batch.wrong.shape == (RECIPE.queries, len(batch.texts))
    assert batch.right.any(axis=1).all()
    assert batch.wrong.any(axis=1).all()
    assert sum(q.count("please") == 2 for q in batch.queries) == 4, "joined"
    assert sum(q.count("please") == 0 for q in batch.queries) == 4, "tools' own words"


def told_of(text: str) -> int | None:
    """The number of the tool that a text is of; None for a sentence that all tools share."""
    found = re.search(r"thing (?:number )?(\d+)", text)
    return int(found[1]) if found else None


def names_of(pairs: Pairs, tools: tuple[int, ...]) -> set[int | None]:
    return {told_of(pairs.tools[t].named) for t in tools}


def test_no_right_answer_counts_as_wrong_and_every_near_miss_does(pairs: Pairs) -> None:
    of = {p.query: p for p in pairs.training}
    batches = Batches(pairs, stock(pairs), Recipe(queries=16, joined=0, own_words=0), seed=1)
    for batch in (batches.next() for _ in range(20)):
        for row, query in enumerate(batch.queries):
            right, wrong = names_of(pairs, of[query].right), names_of(pairs, of[query].wrong)
            for column, text in enumerate(batch.texts):
                if told_of(text) in right:
                    assert not batch.wrong[row, column]
                elif told_of(text) in wrong:
                    assert batch.wrong[row, column]


def test_of_tools_that_the_stock_model_takes_for_the_same_only_near_misses_count_as_wrong(pairs: Pairs) -> None:
    alike = np.ones((len(pairs.tools), 1), dtype=np.float32)
    batch = Batches(pairs, alike, Recipe(queries=16, joined=0, own_words=0), seed=1).next()
    of = {p.query: p for p in pairs.training}
    for row, query in enumerate(batch.queries):
        shown = {told_of(text) for text in batch.texts}
        wrong = {told_of(batch.texts[i]) for i in np.flatnonzero(batch.wrong[row])} - {None}
        assert wrong == names_of(pairs, of[query].wrong) & shown - names_of(pairs, of[query].right)


def test_equal_seeds_give_equal_batches_and_others_others(pairs: Pairs) -> None:
    def first(seed: int) -> list[str]:
        return Batches(pairs, stock(pairs), RECIPE, seed).next().queries

    assert first(1) == first(1) != first(2)


def test_a_folder_without_pairs_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"pairs\.jsonl does not exist"):
        read_pairs(tmp_path)
