"""What is asked: checked, taken apart into steps, and turned into vectors that are kept for a while."""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proto.errors import Invalid
from router.clauses import clauses
from router.essence import essence
from router.ports import Embedder, Vectors

log = logging.getLogger("toolmesh.router")

QUERY_MAX = 4_000
KEY_WORDS_MAX = 32
KEY_WORD_MAX = 200
K_MAX = 50
QUERIES_CACHED = 512

# Control characters but for tab, line feed and carriage return; and halves of characters, which no tokenizer takes.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Question:
    """`texts` for the words, `meanings` for the vectors: the whole task first, then its steps, then the key words.
    `meanings` are without the values of the task, and `texts` have what remains twice: values count half.
    `names` is where tools may be named outright."""

    task: str
    texts: tuple[str, ...]
    meanings: tuple[str, ...]
    names: tuple[str, ...]


def question(query: str, key_words: Sequence[str], k: int) -> Question:
    """Raises `Invalid` for what is too long, empty, or nothing but control characters."""
    if len(query) > QUERY_MAX:
        raise Invalid(f"the query is {len(query)} characters long; at most {QUERY_MAX} are searched: name one step")
    if len(key_words) > KEY_WORDS_MAX or any(len(w) > KEY_WORD_MAX for w in key_words):
        raise Invalid(f"key_words holds too much: at most {KEY_WORDS_MAX} of {KEY_WORD_MAX} characters each")
    if not 1 <= k <= K_MAX:
        raise Invalid(f"k is {k}; ask for 1 to {K_MAX} tools")
    words = tuple(w for raw in key_words if (w := _printable(raw)))
    task = _printable(query) or " ".join(words)
    if not task:
        what = "has no character that can be read" if query.strip() else "is empty"
        raise Invalid(f"the query {what}; say what the tool should do")
    steps = clauses(task)
    wished = (" ".join(words),) if words else ()
    cores = [essence(text) for text in (task, *steps)]
    whole, *parts = [
        text if core == text else f"{text} {core}" for text, core in zip((task, *steps), cores, strict=True)
    ]
    # The key words keep their share where the task's own words are there twice.
    wishes = words if cores[0] == task else 2 * words
    return Question(task, (" ".join((whole, *wishes)), *parts, *wished), (*cores, *wished), (task, *words))


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub(" ", text).strip()


class Encoder:
    """Queries to vectors; the last 512 texts are kept. `warm` may run in other threads than `encode`."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.remote = bool(getattr(embedder, "remote", False))
        """Encoding waits for a network: `warm` it in a thread where waiting hurts nobody, `encode` computes nothing."""
        self._kept: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> Vectors | None:
        """Shape (len(texts), dimensions); None where it cannot be had, which is logged: search goes on by words."""
        if not self.remote:
            self.warm(texts)
        with self._lock:
            if any(text not in self._kept for text in texts):
                return None
            vectors = np.stack([self._kept[text] for text in texts])
            while len(self._kept) > QUERIES_CACHED:
                self._kept.popitem(last=False)
        return vectors

    def warm(self, texts: Sequence[str]) -> None:
        """Computes what is not kept; never raises."""
        with self._lock:
            missing = [text for text in dict.fromkeys(texts) if text not in self._kept]
        vectors = None
        if missing:
            try:
                vectors = self._embedder.embed(missing, query=True)
            except Exception as e:
                # The edge of a port: a model that fails takes meaning away from this search, never the search.
                log.warning("a query could not be encoded, searching by words alone: %s: %s", type(e).__name__, e)
                return
            if vectors.shape[0] != len(missing) or not np.isfinite(vectors).all():
                log.warning("the embedder gave no sound vector for a query; searching by words alone")
                return
        with self._lock:
            if vectors is not None:
                self._kept.update(zip(missing, vectors, strict=True))
            for text in texts:
                # Other searches may have pushed it out while this one encoded the rest.
                if text in self._kept:
                    self._kept.move_to_end(text)
