"""The models of an evaluation: the router's own, and the plain one that others use, each with its vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from proto.errors import Unavailable
from router.embedders.factory import DEFAULT, make_embedder
from router.embedders.onnx_runner import Precision
from router.evaluation.vectors import Kept, LoadedOnce, VectorFiles
from router.ports import Embedder, Vectors


class Models:
    """`router` is None where the router searches by words alone; the plain model is the stock one even then."""

    def __init__(self, router: Embedder | None, plain: Embedder, directory: Path | None = None) -> None:
        """`directory` keeps vectors between runs; None: each run computes its own."""
        self.router = LoadedOnce(router) if router else None
        self.router_store = VectorFiles(directory, router.model_id) if router else None
        self._plain = LoadedOnce(plain)
        self._plain_store = VectorFiles(directory, plain.model_id)
        self._kept = Kept(self._plain, self._plain_store)

    def open(self, *, plain: bool) -> None:
        """Load and open what will be used. Raises `Unavailable` where a model is not there."""
        if self.router and self.router_store:
            self.router.load()
            self.router_store.open()
        if plain:
            self._plain.load()
            self._plain_store.open()

    def close(self) -> None:
        if self.router_store:
            self.router_store.close()
        self._plain_store.close()

    @property
    def router_id(self) -> str:
        return self.router.model_id if self.router else ""

    @property
    def plain_id(self) -> str:
        return self._plain.model_id

    def plain_vectors(self, texts: Sequence[str], progress: Callable[[int, int], None]) -> Vectors:
        return self._kept(texts, progress)

    def plain_query(self, text: str) -> NDArray[np.float32]:
        """Encoded anew each time: what a search costs is measured."""
        vector: NDArray[np.float32] = self._plain.embed([text], query=True)[0]
        return vector


def make_models(
    spec: str = DEFAULT,
    directory: Path | None = None,
    *,
    adapter: bool | Path = True,
    precision: Precision = "int8",
) -> Models:
    """The router's model by its settings (`none`: words alone), beside the stock one in full precision, without
    anything of ours."""
    plain = make_embedder(DEFAULT, adapter=False, precision="float32")
    if plain is None:
        raise Unavailable("the stock model is not known to this build")
    return Models(make_embedder(spec, adapter=adapter, precision=precision), plain, directory)
