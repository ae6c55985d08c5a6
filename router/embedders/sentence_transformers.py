"""Any model that sentence-transformers can load, by name or path. Needs the extra `models`, which brings torch."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from proto.errors import Unavailable
from router.ports import Vectors

BATCH = 16


class SentenceTransformers:
    """`dimensions` is known after `load`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._model: Any = None
        self._dimensions = 0
        # Fast tokenizers keep truncation in shared state and refuse a second borrower.
        self._lock = threading.Lock()

    @property
    def model_id(self) -> str:
        return f"sentence-transformers/{self._name.removeprefix('sentence-transformers/')}"

    @property
    def dimensions(self) -> int:
        if self._model is None:
            raise Unavailable(f"the model {self._name} is not loaded yet")
        return self._dimensions

    def load(self) -> None:
        """Seconds, and a download where the model is not cached. Raises `Unavailable`."""
        try:
            torch = importlib.import_module("torch")
            library = importlib.import_module("sentence_transformers")
        except ImportError as e:
            raise Unavailable(f"the embedder {self._name!r} needs {e.name}: pip install 'toolmesh[models]'") from None
        torch.set_num_threads(1)
        try:
            self._model = library.SentenceTransformer(self._name, device="cpu")
        except Exception as e:
            # The library raises OSError, ValueError, its hub's own errors and others for a model it cannot get.
            raise Unavailable(f"the embedding model {self._name!r} cannot be loaded: {e}") from e
        # Asked of a vector: the method's name differs between the library's major versions.
        self._dimensions = self.embed(["dimensions"]).shape[1]

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        if self._model is None:
            raise Unavailable(f"the model {self._name} is not loaded yet")
        with self._lock:
            vectors = self._model.encode(
                list(texts), batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False
            )
        return np.asarray(vectors, dtype=np.float32).reshape(len(texts), -1)
