from __future__ import annotations

from pathlib import Path

import pytest

from router.embedders.revisions import UNKNOWN, hub_name, revision_of
from router.embedders.sentence_transformers import SentenceTransformers


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_name_stands_for_the_commit_that_is_cached(cache: Path) -> None:
    refs = cache / "models--sentence-transformers--all-mpnet-base-v2" / "refs"
    assert revision_of("all-mpnet-base-v2") == UNKNOWN
    refs.mkdir(parents=True)
    (refs / "main").write_text("0123456789abcdef0123\n")
    assert revision_of("all-mpnet-base-v2") == "0123456789ab"
    assert SentenceTransformers("all-mpnet-base-v2").model_id == "sentence-transformers/all-mpnet-base-v2@0123456789ab"
    assert SentenceTransformers("all-mpnet-base-v2@f00").model_id == "sentence-transformers/all-mpnet-base-v2@f00"


def test_models_of_two_makers_with_one_name_have_two_ids() -> None:
    assert hub_name("a/model") == "a/model"
    assert SentenceTransformers("a/model").model_id != SentenceTransformers("b/model").model_id


def test_the_cache_is_where_the_library_has_it(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    for root, variable in ((tmp_path / "xdg" / "huggingface", ""), (tmp_path / "home", "HF_HOME")):
        refs = root / "hub" / "models--a--model" / "refs"
        refs.mkdir(parents=True)
        (refs / "main").write_text(root.name)
        if variable:
            monkeypatch.setenv(variable, str(root))
        assert revision_of("a/model") == root.name


def test_a_folder_stands_for_what_is_in_it_wherever_it_is(tmp_path: Path) -> None:
    ids = []
    for place, weights in (("one", b"\1" * 1_000_000), ("two", b"\1" * 1_000_000), ("three", b"\2" * 1_000_000)):
        folder = tmp_path / place / "model"
        (folder / "onnx").mkdir(parents=True)
        (folder / "onnx" / "model.onnx").write_text(place)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(weights)
        ids.append(SentenceTransformers(str(folder)).model_id)
    assert ids[0] == ids[1] != ids[2]
    assert ids[0].startswith("model@")
