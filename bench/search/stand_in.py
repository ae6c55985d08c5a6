"""Vectors for a hundred thousand made tools in a minute, where the model would take an hour.

The model embeds every (verb, thing, field) that tools are made of, 2,160 texts, and whatever is asked. A tool's text is
given the vector of the one it speaks of, turned by noise of its own that the text alone decides: cosine 0.85 to it.
So neighbours are as crowded as they are among real tools (which say the same thing in many ways), queries are near what
they mean, and no two texts share a vector. What this cannot show is quality; that is measured on real texts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.search import made
from router.ports import Embedder, Vectors

NEARNESS = 0.85
_WORD = re.compile(r"[a-z]+")


class StandIn:
    """An `Embedder` over another: `query=True` asks the model itself. `load` embeds the phrases."""

    def __init__(self, model: Embedder) -> None:
        self._model = model
        self.anchors: dict[tuple[str, str], NDArray[np.float32]] = {}
        """By (verb, thing)."""
        self._things: dict[str, NDArray[np.float32]] = {}
        self._by_first: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        self.stands_in = True
        """False: the model embeds what comes from now on."""

    @property
    def model_id(self) -> str:
        return f"{self._model.model_id}+stand-in"

    @property
    def dimensions(self) -> int:
        return self._model.dimensions

    def load(self) -> None:
        if self.anchors:
            return
        self._model.load()
        every = made.phrases()
        vectors = self._model.embed(
            [f"{verb} {thing}: {made.VERBS[verb].format(thing=thing)}." for verb, thing, _ in every]
        )
        for (verb, thing, _), vector in zip(every, vectors, strict=True):
            self.anchors[verb, thing] = vector
        for thing in {t for _, t, _ in every}:
            words = tuple(_words(thing))
            self._by_first.setdefault(words[0], []).append((words, thing))
            self._things[thing] = _unit(sum((self.anchors[v, thing] for v in made.VERBS), np.zeros(384, np.float32)))

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        if query or not self.stands_in:
            return self._model.embed(texts, query=query)
        return np.stack([self._stand_in(text) for text in texts]) if texts else np.empty((0, 384), np.float32)

    def _stand_in(self, text: str) -> NDArray[np.float32]:
        words = _words(text)
        thing = next((t for i in range(len(words)) if (t := self._thing(words, i))), "")
        verb = next((w for w in words if w in made.VERBS), "")
        bits = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
        noise = np.random.default_rng(int.from_bytes(bits, "little")).standard_normal(self.dimensions, np.float32)
        if not thing:
            return _unit(noise)
        anchor = self.anchors.get((verb, thing), self._things[thing])
        noise = _unit(noise - (noise @ anchor) * anchor)
        return np.float32(NEARNESS) * anchor + np.float32((1 - NEARNESS**2) ** 0.5) * noise

    def _thing(self, words: list[str], at: int) -> str:
        for wanted, thing in self._by_first.get(words[at], ()):
            if tuple(words[at : at + len(wanted)]) == wanted:
                return thing
        return ""


def _words(text: str) -> list[str]:
    return _WORD.findall(text.replace("'", "").lower())


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)
