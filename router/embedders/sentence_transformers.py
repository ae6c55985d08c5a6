"""Any model that sentence-transformers can load, by name or path. Needs the extra `models`, which brings torch."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from proto.errors import Unavailable
from router.embedders.revisions import hub_name, revision_of
from router.ports import Vectors


class SentenceTransformers:
    """Queries and documents get the prompts that the model defines for them, if any. `dimensions` are known after
    `load`."""

    def __init__(self, name: str, *, device: str = "cpu", batch_size: int = 16) -> None:
        """`name` may end in `@REVISION`. `device` is named as torch does, like `cuda:0`; `batch_size` texts run at
        once."""
        folder = Path(name).expanduser()
        self._revision = ""
        if folder.is_dir():
            self._name, self._id = str(folder), f"{folder.name}@{revision_of(name)}"
        else:
            self._name, _, self._revision = hub_name(name).partition("@")
            self._id = f"{self._name}@{self._revision or revision_of(self._name)}"
        self._device = device
        self._batch_size = batch_size
        self._model: Any = None
        self._dimensions = 0
        # Fast tokenizers keep truncation in shared state and refuse a second borrower.
        self._lock = threading.Lock()

    @property
    def model_id(self) -> str:
        """The name and the revision; of a folder the last part, as two nodes may keep one model in different places."""
        return self._id

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
        with suppress(ImportError, AttributeError):
            # A bar for each file of weights has no place in a node's log.
            importlib.import_module("transformers.utils.logging").disable_progress_bar()
        try:
            model = library.SentenceTransformer(self._name, device=self._device, revision=self._revision or None)
            # Asked of a vector: the method's name differs between the library's major versions.
            self._dimensions = int(model.encode(["dimensions"], show_progress_bar=False).shape[1])
        except Exception as e:
            # The library raises OSError, ValueError, its hub's own errors and others for a model it cannot get.
            raise Unavailable(f"the embedding model {self._name!r} cannot be loaded: {e}") from e
        self._model = model

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        if self._model is None:
            raise Unavailable(f"the model {self._name} is not loaded yet")
        if not texts:
            return np.empty((0, self._dimensions), dtype=np.float32)
        with self._lock:
            encode = self._model.encode_query if query else self._model.encode_document
            try:
                vectors = encode(
                    list(texts), batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
                )
            except RuntimeError as e:
                # What torch raises: out of memory, a device that is gone.
                raise Unavailable(f"the model {self._name} failed on {self._device}: {e}") from e
        return np.asarray(vectors, dtype=np.float32).reshape(len(texts), -1)
