"""Vectors that outlive a run of the evaluation, and a model that is loaded once for all its parts."""

from __future__ import annotations

import hashlib
import os
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from router.documents import text_digest
from router.ports import Embedder, Vectors, VectorStore

FLUSH_AT = 1_000
TEXTS_A_BATCH = 64


class VectorFiles:
    """A `VectorStore` of files in a directory, one for some thousand vectors; None: in memory alone.

    Runs may share the directory at once: each writes files of its own and reads those that were there when it began.
    Chroma, the node's own store, is one process a directory and takes 8 ms a write. All vectors are held in memory.
    `close` writes what is new and keeps what is known, for the next part of the run.
    """

    def __init__(self, directory: Path | None, model_id: str) -> None:
        self._model_id = model_id
        tag = hashlib.sha256(model_id.encode()).hexdigest()[:12]
        self._directory = directory / tag if directory else None
        self._known: dict[str, NDArray[np.float32]] = {}
        self._new: list[str] = []
        self._read = False

    def __repr__(self) -> str:
        return f"VectorFiles({self._model_id}, {len(self._known)} vectors, {len(self._new)} to be written)"

    def open(self) -> None:
        """A file that cannot be read is passed over: its vectors are computed again."""
        if self._directory is None or self._read:
            return
        self._read = True
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / "model.txt").write_text(f"{self._model_id}\n", "utf-8")
        for file in sorted(self._directory.glob("*.npz")):
            try:
                with file.open("rb") as opened, np.load(opened) as arrays:
                    self._known.update(zip(arrays["digests"].tolist(), arrays["vectors"], strict=True))
            except (OSError, ValueError, KeyError, zipfile.BadZipFile):
                continue

    def get(self, digests: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        return {d: self._known[d] for d in digests if d in self._known}

    def put(self, digests: Sequence[str], vectors: Vectors) -> None:
        for digest, vector in zip(digests, vectors, strict=True):
            if digest not in self._known:
                self._new.append(digest)
            self._known[digest] = np.array(vector, dtype=np.float32)
        if len(self._new) >= FLUSH_AT:
            self._flush()

    def sweep(self, used: Iterable[str]) -> None:
        """Nothing: what one run has no use for, another may have."""

    def close(self) -> None:
        self._flush()

    def _flush(self) -> None:
        new, self._new = self._new, []
        if self._directory is None or not new:
            return
        name = f"{time.time_ns()}-{os.getpid()}"
        partly = self._directory / f".{name}.part"
        with partly.open("wb") as file:
            np.savez(file, digests=np.array(new), vectors=np.stack([self._known[d] for d in new]))
        # Whole or not at all, for whoever reads at the same time.
        partly.rename(self._directory / f"{name}.npz")


class LoadedOnce:
    """An `Embedder` whose weights are read once, however many routers are handed it."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._loaded = False

    @property
    def model_id(self) -> str:
        return self._embedder.model_id

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions

    def load(self) -> None:
        if not self._loaded:
            self._embedder.load()
            self._loaded = True

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        return self._embedder.embed(texts, query=query)


class Kept:
    """Vectors of texts: from the store, or computed and stored. `progress` is told how many are done, of how many."""

    def __init__(self, embedder: Embedder, store: VectorStore) -> None:
        self._embedder = embedder
        self._store = store

    def __call__(self, texts: Sequence[str], progress: Callable[[int, int], None] = lambda *_: None) -> Vectors:
        """float32, shape (len(texts), dimensions)."""
        digests = [text_digest(t) for t in texts]
        known = self._store.get(digests)
        missing = {d: t for d, t in zip(digests, texts, strict=True) if d not in known}
        wanted = list(missing)
        for begin in range(0, len(wanted), TEXTS_A_BATCH):
            batch = wanted[begin : begin + TEXTS_A_BATCH]
            vectors = self._embedder.embed([missing[d] for d in batch])
            self._store.put(batch, vectors)
            known.update(zip(batch, vectors, strict=True))
            progress(begin + len(batch), len(wanted))
        return np.stack([known[d] for d in digests])
