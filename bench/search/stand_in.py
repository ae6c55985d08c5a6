"""Vectors for a hundred thousand made tools in a minute, where the model would take an hour.

The model embeds every (verb, thing, field) that tools are made of, 2,160 texts, and whatever is asked. A tool's text is
given the vector of the one it speaks of, turned by noise that the text alone decides: cosine 0.85 to it.
So neighbours are as crowded as they are among real tools (which say the same thing in many ways), queries are near what
they mean, and no two texts share a vector. What this cannot show is quality; that is measured on real texts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.search import made
from router.ports import Embedder, Vectors

NEARNESS = 0.85
NOISES = 2_048
"""A text's noise is the sum of three of so many vectors: to draw 384 numbers for each takes as long as to index it."""
_WORD = re.compile(r"[a-z]+")


class StandIn:
    """An `Embedder` over another: `query=True` asks the model itself. `load` embeds the phrases."""

    def __init__(self, model: Embedder, kept: Path | None = None) -> None:
        """`kept` is a file that holds the phrases' vectors, or is to hold them."""
        self._model = model
        self._kept = kept
        self.anchors: dict[tuple[str, str], NDArray[np.float32]] = {}
        """By (verb, thing)."""
        self._things: dict[str, NDArray[np.float32]] = {}
        self._by_first: dict[str, list[tuple[list[str], str]]] = {}
        self._noises = np.random.default_rng(1).standard_normal((NOISES, model.dimensions), np.float32)
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
        for (verb, thing, _), vector in zip(every, self._vectors(), strict=True):
            self.anchors[verb, thing] = vector
        for thing in {t for _, t, _ in every}:
            words = _words(thing)
            self._by_first.setdefault(words[0], []).append((words, thing))
            mean = np.mean([self.anchors[verb, thing] for verb in made.VERBS], axis=0)
            self._things[thing] = np.asarray(mean / np.linalg.norm(mean), np.float32)

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        if query or not self.stands_in:
            return self._model.embed(texts, query=query)
        if not texts:
            return np.empty((0, self.dimensions), np.float32)
        digests = b"".join(hashlib.blake2b(t.encode("utf-8", "replace"), digest_size=6).digest() for t in texts)
        numbers = np.frombuffer(digests, "<u2").reshape(-1, 3) % NOISES
        noise = self._noises[numbers].sum(axis=1)
        # What speaks of nothing that is known has no anchor, and is noise alone.
        none = np.zeros(self.dimensions, np.float32)
        anchors = np.stack([none if (anchor := self._anchor(t)) is None else anchor for t in texts])
        noise -= np.einsum("ij,ij->i", noise, anchors)[:, None] * anchors
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        vectors = np.float32(NEARNESS) * anchors + np.float32((1 - NEARNESS**2) ** 0.5) * noise
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)

    def _vectors(self) -> Vectors:
        if self._kept is not None and self._kept.is_file():
            kept: Vectors = np.load(self._kept)
            return kept
        texts = [f"{verb} {thing}: {made.VERBS[verb].format(thing=thing)}." for verb, thing, _ in made.phrases()]
        vectors = self._model.embed(texts)
        if self._kept is not None:
            np.save(self._kept, vectors)
        return vectors

    def _anchor(self, text: str) -> NDArray[np.float32] | None:
        """By the first verb and the first thing in the text."""
        words = _words(text)
        thing = self._thing(words)
        if not thing:
            return None
        verb = next((w for w in words if w in made.VERBS), "")
        return self.anchors.get((verb, thing), self._things[thing])

    def _thing(self, words: list[str]) -> str:
        for at, word in enumerate(words):
            for wanted, thing in self._by_first.get(word, ()):
                if words[at : at + len(wanted)] == wanted:
                    return thing
        return ""


def _words(text: str) -> list[str]:
    return _WORD.findall(text.replace("'", "").lower())
