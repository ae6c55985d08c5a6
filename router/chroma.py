"""Vectors kept in Chroma under a directory: one collection for each (model, recipe), addressed by text digest.

Only a store: searching is done in memory, where filters come before ranking. One process per directory.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from proto.errors import Unavailable
from router.documents import RECIPE
from router.ports import Vectors

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

log = logging.getLogger("toolmesh.router")

BATCH = 500
ASIDE_MAX = 3


class ChromaStore:
    """A directory that Chroma cannot open is moved aside (the newest three are kept) and begun anew: vectors can
    be computed again. Calls raise `Unavailable` while closed or when Chroma fails."""

    def __init__(self, directory: Path, model_id: str, *, recipe: str = RECIPE) -> None:
        self._directory = directory
        self._name = collection_name(model_id, recipe)
        self._metadata = {"model": model_id, "recipe": recipe}
        self._client: ClientAPI | None = None
        self._collection: Collection | None = None

    def open(self) -> None:
        try:
            self._open()
        except Unavailable:
            raise
        except Exception as e:
            # Chroma's Rust core raises what it likes, down to PanicException's kin, for a damaged directory.
            aside = self._move_aside()
            log.warning("Chroma cannot open %s (%s: %s); moved to %s", self._directory, type(e).__name__, e, aside)
            self._open_anew()

    def _open_anew(self) -> None:
        try:
            self._open()
        except AttributeError:
            # Chroma 1.5 keeps what failed to start under its path, and lets go of it only in failing once more.
            self._open()

    def _open(self) -> None:
        try:
            import chromadb
            from chromadb.config import Settings
        except ImportError as e:
            raise Unavailable(f"Chroma cannot be imported ({e}): pip install chromadb") from None

        self._directory.mkdir(parents=True, exist_ok=True)
        client = chromadb.PersistentClient(str(self._directory), Settings(anonymized_telemetry=False))
        self._client = client
        self._collection = client.get_or_create_collection(self._name, metadata=self._metadata, embedding_function=None)
        # Reads something, so that a damaged file shows here and not in the middle of a search's preparation.
        self._collection.peek(1)

    def get(self, digests: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Those that are known, read in batches of 500."""
        collection = self._opened()
        found: dict[str, NDArray[np.float32]] = {}
        for begin in range(0, len(digests), BATCH):
            ids = list(dict.fromkeys(digests[begin : begin + BATCH]))
            answer = _ask(collection.get, ids=ids, include=["embeddings"])
            for digest, vector in zip(answer["ids"], answer["embeddings"], strict=True):
                found[digest] = np.asarray(vector, dtype=np.float32)
        return found

    def put(self, digests: Sequence[str], vectors: Vectors) -> None:
        """Written in batches of 500; a digest that is there already is written again, to the same effect."""
        collection = self._opened()
        if len(digests) != len(vectors):
            raise ValueError(f"{len(digests)} digests for {len(vectors)} vectors")
        for begin in range(0, len(digests), BATCH):
            # One id twice in a request is an error to Chroma.
            rows = {d: begin + i for i, d in enumerate(digests[begin : begin + BATCH])}
            _ask(collection.upsert, ids=list(rows), embeddings=np.asarray(vectors[list(rows.values())]))

    def close(self) -> None:
        client, self._client, self._collection = self._client, None, None
        if client is not None:
            # `Client` has it, its interface `ClientAPI` does not.
            client.close()  # type: ignore[attr-defined]

    def _opened(self) -> Collection:
        if self._collection is None:
            raise Unavailable("the vector store is closed; open it first")
        return self._collection

    def _move_aside(self) -> Path:
        self.close()
        aside = self._directory.with_name(f"{self._directory.name}.damaged-{time.time_ns()}")
        self._directory.rename(aside)
        kept = sorted(self._directory.parent.glob(f"{self._directory.name}.damaged-*"))
        for old in kept[:-ASIDE_MAX]:
            shutil.rmtree(old)
        return aside


def collection_name(model_id: str, recipe: str) -> str:
    """Chroma takes 3 to 512 of `[a-zA-Z0-9._-]`; the hash keeps models apart that look alike after rewriting."""
    safe = re.sub(r"[^a-zA-Z0-9]+", "-", model_id).strip("-")[:60]
    tag = hashlib.sha256(f"{model_id}\0{recipe}".encode()).hexdigest()[:8]
    return f"tools-{safe}-{tag}"


def _ask(method: Any, **arguments: Any) -> Any:
    try:
        return method(**arguments)
    except Exception as e:
        # One place where Chroma's many exception types become ours.
        raise Unavailable(f"Chroma failed: {type(e).__name__}: {e}") from e
