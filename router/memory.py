"""Twins of the router's ports that keep everything in memory: for tests, and for nodes that want no disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from proto.errors import Unavailable
from router.digests import DigestSet
from router.ports import Vectors
from router.tokens import words


class HashingEmbedder:
    """Bags of stems, their pairs and letter trigrams, hashed into `dimensions` buckets with signs: deterministic.

    Knows nothing of meaning; texts are as near as their wording. (Weinberger et al. 2009, feature hashing.)
    """

    def __init__(self, dimensions: int = 256) -> None:
        self._dimensions = dimensions
        self._loaded = False

    @property
    def model_id(self) -> str:
        return f"hashing-{self._dimensions}"

    @property
    def dimensions(self) -> int:
        return self._dimensions

    def load(self) -> None:
        self._loaded = True

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        if not self._loaded:
            raise Unavailable("the hashing embedder is not loaded yet")
        return np.stack([self._vector(t) for t in texts]) if texts else np.empty((0, self._dimensions), np.float32)

    def _vector(self, text: str) -> NDArray[np.float32]:
        stems = list(words(text))
        features = [(s, 1.0) for s in stems]
        features += [(f"{a} {b}", 0.5) for a, b in pairwise(stems)]
        features += [(s[i : i + 3], 0.2) for s in stems for i in range(len(s) - 2)]
        vector = np.zeros(self._dimensions, dtype=np.float32)
        for feature, weight in features or [("", 1.0)]:
            bits = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest(), "little")
            vector[(bits >> 1) % self._dimensions] += weight if bits & 1 else -weight
        length = float(np.linalg.norm(vector))
        if not length:
            # Signs may cancel out; a unit vector is owed all the same.
            vector[0] = length = 1.0
        return vector / np.float32(length)


class MemoryStore:
    """A `VectorStore`, and a `keeping.Shelf`, that forgets when the process ends, but not when it is closed."""

    def __init__(self) -> None:
        self._vectors: dict[str, NDArray[np.float32]] = {}
        self._opened = False
        self.problem = ""

    def open(self) -> None:
        self._opened = True

    def get(self, digests: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        self._check()
        return {d: self._vectors[d] for d in digests if d in self._vectors}

    def put(self, digests: Sequence[str], vectors: Vectors) -> None:
        self._check()
        for digest, vector in zip(digests, vectors, strict=True):
            self._vectors[digest] = np.array(vector, dtype=np.float32)

    def sweep(self, used: Iterable[str]) -> None:
        for _ in self.sweeping(DigestSet(used)):
            pass

    def sweeping(self, used: DigestSet) -> Iterator[int]:
        self._check()
        unused = [d for d, lives in zip(self._vectors, used.has(list(self._vectors)), strict=True) if not lives]
        for digest in unused:
            del self._vectors[digest]
        yield len(unused)

    def rest(self) -> None:
        """There is nothing to give back."""

    def disk_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self._opened = False

    def _check(self) -> None:
        if not self._opened:
            raise Unavailable("the vector store is closed; open it first")
