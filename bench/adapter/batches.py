"""What one step of training sees: queries, texts of tools, which text answers which query, and which counts as wrong.

Three kinds of query: one of the data; two of the data joined into one task, the tools of both being right; and, of a
tool's own words, its first sentence with the rest as the answer, or its name with its description. A tool's text is
one that the router would embed: mostly "name: description", sometimes a sentence or the name beside the server's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.adapter.pairs import Pair, Pairs

SOURCE_POWER = 0.5
"""Sources are drawn by the square root of their size: a small one is heard, and not repeated endlessly."""
RIGHT_MAX = 2
ALIKE = 0.8
"""Tools whose stock vectors are nearer than this are taken for the same: neither is wrong where the other is right."""
JOINTS = (". ", ", and ", " and then ", ". Also, ", "; ", ". Then ")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Shares of a batch; the rest are single queries."""

    queries: int = 32
    joined: float = 0.1
    own_words: float = 0.25
    wrong_each: int = 1


@dataclass(slots=True)
class Batch:
    """`right` and `wrong` are (queries, texts): the texts that answer, and those that count against."""

    queries: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    right: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    wrong: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), np.bool_))


class Batches:
    def __init__(self, pairs: Pairs, stock: NDArray[np.float32], recipe: Recipe, seed: int) -> None:
        """`stock` holds the stock model's unit vector of each tool's `named`, shape (tools, dimensions)."""
        self._tools = pairs.tools
        self._stock = stock
        self._recipe = recipe
        self._random = np.random.default_rng(seed)
        by_source: dict[str, list[Pair]] = defaultdict(list)
        for pair in pairs.training:
            by_source[pair.source].append(pair)
        self._decks = [_Deck(by_source[s], self._random) for s in sorted(by_source)]
        sizes = np.array([len(by_source[s]) for s in sorted(by_source)], dtype=float) ** SOURCE_POWER
        self._shares = sizes / sizes.sum()
        used = sorted({t for p in pairs.training for t in (*p.right, *p.wrong)})
        self._telling = _Deck(
            [t for t in used if pairs.tools[t].sentences or len(pairs.tools[t].named) > 40], self._random
        )

    def next(self) -> Batch:
        recipe = self._recipe
        own, joined = (round(share * recipe.queries) for share in (recipe.own_words, recipe.joined))
        asked: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
        batch = Batch()
        owners: list[int] = []
        for number in range(recipe.queries - own):
            pair = self._draw()
            if number < joined:
                other = self._draw()
                joint = JOINTS[self._random.integers(len(JOINTS))]
                query = pair.query.rstrip(" .;") + joint + other.query
                asked.append((query, (*pair.right, *other.right), (*pair.wrong, *other.wrong)))
                shown = [self._some(pair.right, 1), self._some(other.right, 1)]
            else:
                asked.append((pair.query, pair.right, pair.wrong))
                shown = [self._some(pair.right, RIGHT_MAX)]
            shown.append(self._some(pair.wrong, recipe.wrong_each))
            for tool in (t for some in shown for t in some):
                owners.append(tool)
                batch.texts.append(self._text(tool))
        for _ in range(own):
            tool = self._telling.draw()
            query, text = self._own_words(tool)
            asked.append((query, (tool,), ()))
            owners.append(tool)
            batch.texts.append(text)
        batch.queries = [query for query, _, _ in asked]
        of = np.array(owners)
        batch.right = np.stack([np.isin(of, right) for _, right, _ in asked])
        alike = np.stack([(self._stock[of] @ self._stock[list(right)].T).max(axis=1) > ALIKE for _, right, _ in asked])
        near_miss = np.stack([np.isin(of, wrong) for _, _, wrong in asked])
        batch.wrong = ~batch.right & (~alike | near_miss)
        return batch

    def _draw(self) -> Pair:
        return self._decks[self._random.choice(len(self._decks), p=self._shares)].draw()

    def _some(self, tools: Sequence[int], count: int) -> list[int]:
        if len(tools) <= count:
            return list(tools)
        return [int(t) for t in self._random.choice(np.array(tools), count, replace=False)]

    def _text(self, tool: int) -> str:
        document, dice = self._tools[tool], self._random.random()
        if dice < 0.1:
            return document.placed
        if dice < 0.3 and document.sentences:
            return document.sentences[self._random.integers(len(document.sentences))]
        return document.named

    def _own_words(self, tool: int) -> tuple[str, str]:
        document = self._tools[tool]
        name, _, description = document.named.partition(": ")
        if document.sentences and self._random.random() < 0.7:
            return document.sentences[0], " ".join(document.sentences[1:])
        return name, description or document.placed


class _Deck(Generic[T]):
    """Draws without replacement, shuffled anew at each end."""

    def __init__(self, cards: Sequence[T], random: np.random.Generator) -> None:
        self._cards = cards
        self._random = random
        self._order: list[int] = []

    def draw(self) -> T:
        if not self._order:
            self._order = self._random.permutation(len(self._cards)).tolist()
        return self._cards[self._order.pop()]
