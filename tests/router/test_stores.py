"""One contract, every store: in memory, in a directory, at a server, and each of them kept behind the router's back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from proto.errors import Unavailable
from router.chroma import BATCH, Chroma, collection_name
from router.chroma_directory import ChromaDirectory
from router.chroma_server import ChromaServer
from router.digests import DigestSet
from router.keeping import KeptVectors
from router.memory import MemoryStore
from tests.router.shelves import ChromaProcess, digests, vectors

AnyStore = MemoryStore | Chroma | KeptVectors
SHELVES = ("memory", "directory", "server")
TOLERANCE = 1e-3
"""What is kept behind waits as float16."""


@pytest.fixture(params=[*SHELVES, "kept memory", "kept directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyStore]:
    kept, _, name = request.param.rpartition(" ")
    shelf: MemoryStore | Chroma
    match name:
        case "memory":
            shelf = MemoryStore()
        case "directory":
            shelf = ChromaDirectory(tmp_path / "chroma", "a-model")
        case _:
            server: ChromaProcess = request.getfixturevalue("chroma_server")
            shelf = ChromaServer(server.address, f"a-model-{tmp_path.name}")
    made = KeptVectors(shelf, get_s=60) if kept else shelf
    yield made
    made.close()


def test_what_was_put_is_there_after_closing_and_opening(store: AnyStore) -> None:
    count = BATCH + 7
    rows = vectors(count)
    store.open()
    store.put(digests(count), rows)
    store.close()
    store.open()
    found = store.get(digests(count + 3))
    assert sorted(found) == digests(count)
    np.testing.assert_allclose(np.stack([found[d] for d in digests(count)]), rows, atol=TOLERANCE)


def test_putting_twice_keeps_the_last(store: AnyStore) -> None:
    store.open()
    store.put(["a" * 64, "b" * 64], vectors(2))
    store.put(["a" * 64, "a" * 64], vectors(4)[2:])
    found = store.get(["a" * 64, "a" * 64, "b" * 64])
    np.testing.assert_allclose(found["a" * 64], vectors(4)[3], atol=TOLERANCE)
    np.testing.assert_allclose(found["b" * 64], vectors(2)[1], atol=TOLERANCE)


def test_nothing_put_and_nothing_asked_is_no_error(store: AnyStore) -> None:
    store.open()
    store.put([], np.empty((0, 16), dtype=np.float32))
    assert store.get([]) == {}
    assert store.get(["c" * 64]) == {}


def test_a_closed_store_says_so(store: AnyStore) -> None:
    with pytest.raises(Unavailable, match="closed"):
        store.get(["a" * 64])
    store.open()
    store.close()
    with pytest.raises(Unavailable, match="closed"):
        store.put(["a" * 64], vectors(1))
    store.close()


def make_chroma(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Chroma]:
    if name == "directory":
        return lambda model, **rest: ChromaDirectory(tmp_path / "chroma", model, **rest)
    server: ChromaProcess = request.getfixturevalue("chroma_server")
    return lambda model, **rest: ChromaServer(server.address, f"{model}-{tmp_path.name}", **rest)


@pytest.fixture(params=["directory", "server"])
def chroma(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Chroma]:
    """A store of a given model, recipe and day; all of one place."""
    return make_chroma(request.param, request, tmp_path)


def test_models_and_recipes_do_not_see_each_others_vectors(chroma: Callable[..., Chroma]) -> None:
    mine = chroma("model-a", recipe="1")
    mine.open()
    mine.put(["a" * 64], vectors(1))
    mine.close()
    for other in (chroma("model-b", recipe="1"), chroma("model-a", recipe="2")):
        other.open()
        assert other.get(["a" * 64]) == {}
        other.close()


def test_a_sweep_takes_what_nobody_used_for_long_and_nothing_else(chroma: Callable[..., Chroma]) -> None:
    names = digests(4)
    on = 20_000
    store = chroma("model-a", today=lambda: on)
    store.open()
    store.put(names, vectors(4))
    used = DigestSet(names[:2])
    assert sum(store.sweeping(used)) == 0
    on += store.keep_days
    assert sum(store.sweeping(used)) == 0
    on += 1
    assert sum(store.sweeping(used)) == 2
    assert sorted(store.get(names)) == names[:2]
    # What was stamped on the first day would go now if the sweep had not stamped it since.
    on += 1
    assert sum(store.sweeping(used)) == 0
    store.close()


def test_a_sweep_takes_collections_of_models_that_nobody_uses_any_more(chroma: Callable[..., Chroma]) -> None:
    on = 20_000
    old = chroma("model-a", today=lambda: on)
    old.open()
    old.put(digests(3), vectors(3))
    old.close()
    new = chroma("model-b", today=lambda: on)
    new.open()
    on += new.keep_days
    assert sum(new.sweeping(DigestSet())) == 0
    on += 1
    new.put(digests(1), vectors(1))
    assert sum(new.sweeping(DigestSet(digests(1)))) == 3
    new.close()
    old.open()
    assert old.get(digests(3)) == {}
    old.close()


def test_what_is_no_unit_vector_is_not_known(chroma: Callable[..., Chroma]) -> None:
    store = chroma("model-a")
    store.open()
    rows = vectors(2)
    rows[1] *= 2
    store.put(digests(2), rows)
    assert list(store.get(digests(2))) == digests(1)
    store.close()


def test_collection_names_fit_chroma_and_stay_apart() -> None:
    names = {collection_name(m, "1") for m in ("a/b", "a-b", "a" * 500, "é", "")}
    assert len(names) == 5
    assert all(3 <= len(n) <= 100 and n.isascii() for n in names)
