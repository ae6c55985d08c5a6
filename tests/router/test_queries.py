from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from router.memory import HashingEmbedder
from router.ports import Vectors
from router.queries import QUERIES_CACHED, Encoder


class Meanwhile(HashingEmbedder):
    """While it embeds, something else happens once."""

    def __init__(self) -> None:
        super().__init__()
        self.load()
        self.happens: Callable[[], object] = lambda: None

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        happens, self.happens = self.happens, lambda: None
        happens()
        return super().embed(texts, query=query)


def test_what_other_searches_push_out_while_a_query_is_encoded_is_encoded_again() -> None:
    embedder = Meanwhile()
    encoder = Encoder(embedder)
    encoder.encode(["old"])
    embedder.happens = lambda: encoder.encode([f"other {i}" for i in range(QUERIES_CACHED)])
    encoder.warm(["old", "new"])
    vectors = encoder.encode(["old", "new"])
    assert vectors is not None
    np.testing.assert_array_equal(vectors, embedder.embed(["old", "new"]))
