"""The embedder of a node, by its settings."""

from __future__ import annotations

from node.embedding_http import HttpEmbedder
from node.settings.endpoint import HTTP
from node.settings.sections import SearchSection
from router.embedders.factory import make_embedder
from router.ports import Embedder


def embedder_of(search: SearchSection) -> Embedder | None:
    """None: search by words alone. Reads no model yet. Raises `Invalid` for an adapter that cannot be used."""
    if search.embedder == HTTP:
        return HttpEmbedder(search.endpoint)
    return make_embedder(
        search.embedder,
        adapter=search.adapter,
        precision=search.precision,
        device=search.device,
        batch_size=search.batch_size,
    )
