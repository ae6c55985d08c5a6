"""One contract, both stores."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from proto.errors import Unavailable
from router.chroma import ASIDE_MAX, BATCH, ChromaStore, collection_name
from router.memory import MemoryStore
from router.ports import Vectors, VectorStore

MakeStore = Callable[[], VectorStore]


@pytest.fixture(params=["memory", "chroma"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> VectorStore:
    return MemoryStore() if request.param == "memory" else ChromaStore(tmp_path / "chroma", "a-model")


def vectors(count: int) -> Vectors:
    random = np.random.default_rng(3)
    rows = random.standard_normal((count, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def digests(count: int) -> list[str]:
    return [f"{i:064x}" for i in range(count)]


def test_what_was_put_is_there_after_closing_and_opening(store: VectorStore) -> None:
    count = BATCH + 7
    rows = vectors(count)
    store.open()
    store.put(digests(count), rows)
    store.close()
    store.open()
    found = store.get(digests(count + 3))
    store.close()
    assert sorted(found) == digests(count)
    np.testing.assert_allclose(np.stack([found[d] for d in digests(count)]), rows, atol=1e-7)


def test_putting_twice_keeps_the_last(store: VectorStore) -> None:
    store.open()
    store.put(["a" * 64, "b" * 64], vectors(2))
    store.put(["a" * 64, "a" * 64], vectors(4)[2:])
    found = store.get(["a" * 64, "a" * 64, "b" * 64])
    store.close()
    np.testing.assert_allclose(found["a" * 64], vectors(4)[3], atol=1e-7)
    np.testing.assert_allclose(found["b" * 64], vectors(2)[1], atol=1e-7)


def test_nothing_put_and_nothing_asked_is_no_error(store: VectorStore) -> None:
    store.open()
    store.put([], np.empty((0, 16), dtype=np.float32))
    assert store.get([]) == {}
    assert store.get(["c" * 64]) == {}
    store.close()


def test_a_closed_store_says_so(store: VectorStore) -> None:
    with pytest.raises(Unavailable, match="closed"):
        store.get(["a" * 64])
    store.open()
    store.close()
    with pytest.raises(Unavailable, match="closed"):
        store.put(["a" * 64], vectors(1))
    store.close()


def test_models_and_recipes_do_not_see_each_others_vectors(tmp_path: Path) -> None:
    mine = ChromaStore(tmp_path, "model-a", recipe="1")
    mine.open()
    mine.put(["a" * 64], vectors(1))
    mine.close()
    for other in (ChromaStore(tmp_path, "model-b", recipe="1"), ChromaStore(tmp_path, "model-a", recipe="2")):
        other.open()
        assert other.get(["a" * 64]) == {}
        other.close()


def test_collection_names_fit_chroma_and_stay_apart() -> None:
    names = {collection_name(m, "1") for m in ("a/b", "a-b", "a" * 500, "é", "")}
    assert len(names) == 5
    assert all(3 <= len(n) <= 100 and n.isascii() for n in names)


def test_a_damaged_directory_is_moved_aside_and_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "chroma"
    for _ in range(ASIDE_MAX + 1):
        directory.mkdir(exist_ok=True)
        for old in directory.glob("*.sqlite3*"):
            old.unlink()
        (directory / "chroma.sqlite3").write_bytes(b"this is no database" * 1000)
        store = ChromaStore(directory, "a-model")
        with caplog.at_level(logging.WARNING, "toolmesh.router"):
            store.open()
        store.put(["a" * 64], vectors(1))
        assert list(store.get(["a" * 64])) == ["a" * 64]
        store.close()
    assert "moved to" in caplog.text
    assert len(list(tmp_path.glob("chroma.damaged-*"))) == ASIDE_MAX
