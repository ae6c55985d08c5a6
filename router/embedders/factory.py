"""From settings to an embedder."""

from __future__ import annotations

from pathlib import Path

from router.embedders.adapter import SHIPPED
from router.embedders.onnx_runner import Precision
from router.ports import Embedder

DEFAULT = "minilm"
NONE = "none"
BATCH = 16


def make_embedder(
    spec: str = DEFAULT,
    *,
    adapter: bool | Path = True,
    precision: Precision = "int8",
    device: str = "cpu",
    batch_size: int = BATCH,
) -> Embedder | None:
    """`minilm` (the default, no torch), `none`, or the name or path of a sentence-transformers model.

    `adapter` (true: the one that ships, or a file) and `precision` are for `minilm`, `device` and `batch_size` for
    others. No model is imported or read yet: `load` does that, and raises `Unavailable` where it cannot. Raises
    `Invalid` for an adapter that cannot be used.
    """
    name = spec.strip()
    if name.lower() in ("", NONE):
        return None
    if name.lower() == DEFAULT:
        from router.embedders.minilm import MiniLM

        return MiniLM(precision=precision, adapter=SHIPPED if adapter is True else adapter or None)
    from router.embedders.sentence_transformers import SentenceTransformers

    return SentenceTransformers(name, device=device, batch_size=batch_size)
