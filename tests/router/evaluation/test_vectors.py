from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from proto.errors import Unavailable
from router.evaluation.vectors import Kept, LoadedOnce, VectorFiles
from router.memory import HashingEmbedder
from router.ports import Vectors


class Counting(HashingEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.loads = 0
        self.embedded: list[str] = []

    def load(self) -> None:
        self.loads += 1
        super().load()

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        self.embedded += texts
        return super().embed(texts)


def kept(directory: Path | None, model: Counting) -> tuple[Kept, VectorFiles]:
    model.load()
    store = VectorFiles(directory, model.model_id)
    store.open()
    return Kept(model, store), store


def test_vectors_outlive_the_run_that_computed_them(tmp_path: Path) -> None:
    model = Counting()
    first, store = kept(tmp_path, model)
    vectors = first(["one", "two", "one"])
    store.close()
    again, _ = kept(tmp_path, other := Counting())
    np.testing.assert_array_equal(again(["two", "one"]), vectors[[1, 0]])
    assert model.embedded == ["one", "two"]
    assert other.embedded == []


def test_runs_may_share_a_directory_at_the_same_time(tmp_path: Path) -> None:
    one, store = kept(tmp_path, Counting())
    two, other = kept(tmp_path, Counting())
    one(["one"])
    two(["two"])
    store.close()
    other.close()
    third, _ = kept(tmp_path, model := Counting())
    third(["one", "two"])
    assert model.embedded == []


def test_what_a_router_closes_is_there_for_the_next(tmp_path: Path) -> None:
    texts, store = kept(None, model := Counting())
    texts(["one"])
    store.close()
    store.open()
    texts(["one"])
    assert model.embedded == ["one"]


def test_a_damaged_file_is_passed_over(tmp_path: Path) -> None:
    texts, store = kept(tmp_path, Counting())
    texts(["one"])
    store.close()
    (file,) = tmp_path.rglob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    again, _ = kept(tmp_path, model := Counting())
    again(["one"])
    assert model.embedded == ["one"]


def test_vectors_of_another_model_are_not_taken(tmp_path: Path) -> None:
    texts, store = kept(tmp_path, Counting())
    texts(["one"])
    store.close()
    other = VectorFiles(tmp_path, "another model")
    other.open()
    assert repr(other) == "VectorFiles(another model, 0 vectors, 0 to be written)"


def test_weights_are_read_once_for_all_routers() -> None:
    once = LoadedOnce(model := Counting())
    with pytest.raises(Unavailable):
        once.embed(["one"])
    once.load()
    once.load()
    assert model.loads == 1
    assert once.embed(["one"], query=True).shape == (1, once.dimensions)
