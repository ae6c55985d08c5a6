"""From a setting to an embedder."""

from __future__ import annotations

from router.ports import Embedder

DEFAULT = "minilm"
NONE = "none"


def make_embedder(spec: str = DEFAULT) -> Embedder | None:
    """`minilm` (the default, no torch), `none`, or the name or path of a sentence-transformers model.

    Nothing is imported or read yet: `load` does that, and raises `Unavailable` where it cannot.
    """
    name = spec.strip()
    if name.lower() in ("", NONE):
        return None
    if name.lower() == DEFAULT:
        from router.embedders.minilm import MiniLM

        return MiniLM()
    from router.embedders.sentence_transformers import SentenceTransformers

    return SentenceTransformers(name)
