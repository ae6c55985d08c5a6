"""The real model, against published values and by what it finds."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from proto.errors import Unavailable
from router.embedders import minilm
from router.embedders.bert import Bert
from router.embedders.factory import make_embedder
from router.embedders.minilm import MiniLM
from router.embedders.onnx_runner import Precision
from router.ports import ToolEntry
from router.router import Router

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec(minilm.PACKAGE) is None, reason=f"{minilm.DISTRIBUTION} is not installed"
)


@pytest.fixture(scope="module")
def model() -> MiniLM:
    model = MiniLM()
    model.load()
    return model


@pytest.fixture(scope="module")
def exact() -> MiniLM:
    model = MiniLM(precision="float32")
    model.load()
    return model


def test_similarities_agree_with_the_published_ones(exact: MiniLM, model: MiniLM) -> None:
    # sbert.net, "Quickstart", for all-MiniLM-L6-v2, printed to four places.
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    expected = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    vectors, rounded = exact.embed(texts), model.embed(texts)
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-4)
    np.testing.assert_allclose(rounded @ rounded.T, expected, atol=0.02)


def test_rows_are_unit_vectors_of_384(model: MiniLM) -> None:
    vectors = model.embed(["", "a", "some words", "字" * 5_000, "word " * 2_000])
    assert vectors.shape == (5, model.dimensions) == (5, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert model.embed([]).shape == (0, 384)


def test_a_vector_does_not_depend_on_its_neighbours(model: MiniLM) -> None:
    texts = ["read a file", "weather " * 40, "x", "Convert an amount of money from one currency to another."]
    alone = np.concatenate([model.embed([t]) for t in texts])
    np.testing.assert_array_equal(model.embed(texts), alone)


def test_what_lies_beyond_256_tokens_is_cut(model: MiniLM) -> None:
    same, other = model.embed(["word " * 254, "word " * 254 + "elephant " * 100])
    np.testing.assert_allclose(same, other, atol=1e-5)


@pytest.mark.parametrize(
    ("query", "tool"),
    [
        ("what will the sky be like tomorrow", "weather_forecast"),
        ("swap my dollars for euros", "convert_currency"),
        ("let my boss know that I am late", "send_email"),
        ("make this photo smaller", "resize_image"),
        ("I want to hear some tunes", "play_song"),
    ],
)
async def test_tools_are_found_by_meaning_without_a_word_in_common(
    query: str,
    tool: str,
    model: MiniLM,
    sample: list[ToolEntry],
    make_router: Callable[..., Awaitable[Router]],
) -> None:
    router = await make_router(sample, embedder=model)
    result = await router.search(query, k=3)
    assert result.mode == "hybrid"
    assert result.hits[0].entry.key.tool == tool


async def test_a_fitting_tool_is_surer_than_none(
    model: MiniLM, sample: list[ToolEntry], make_router: Callable[..., Awaitable[Router]]
) -> None:
    router = await make_router(sample, embedder=model)
    assert (await router.search("convert 100 dollars to another currency")).confidence == "high"
    astray = await router.search("prove the Riemann hypothesis")
    assert astray.confidence == "none"
    assert astray.hits


def test_the_model_package_is_read_but_never_run(model: MiniLM) -> None:
    assert minilm.PACKAGE not in sys.modules
    assert "torch" not in sys.modules


def test_a_file_that_is_not_the_official_one_is_refused(tmp_path: Path) -> None:
    spec = importlib.util.find_spec(minilm.PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations
    source = Path(spec.submodule_search_locations[0]) / "model"
    shutil.copy(source / "tokenizer.json", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(Unavailable, match=r"model\.safetensors is not the official one"):
        MiniLM(tmp_path).load()


def test_missing_files_and_a_missing_package_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unavailable, match="reinstall"):
        MiniLM(tmp_path).load()
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package_here")
    with pytest.raises(Unavailable, match="pip install"):
        MiniLM().load()


def test_a_model_that_is_not_loaded_says_so() -> None:
    with pytest.raises(Unavailable, match="not loaded"):
        MiniLM().embed(["x"])


def test_without_onnxruntime_numpy_runs_it_in_float32_under_the_same_id(
    exact: MiniLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    model = MiniLM()
    model.load()
    assert isinstance(model._run, Bert)
    assert model.model_id == exact.model_id
    np.testing.assert_allclose(model.embed(["read a file"]), exact.embed(["read a file"]), atol=1e-5)


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_an_onnxruntime_that_does_not_run_here_takes_int8_away_and_nothing_else(
    precision: Precision, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise ImportError("libstdc++ is too old")

    monkeypatch.setattr(minilm, "OnnxBert", broken)
    model = MiniLM(precision=precision)
    if precision == "int8":
        # Its vectors would be other ones than its id says.
        with pytest.raises(Unavailable, match=r"libstdc.*set search\.precision to float32"):
            model.load()
    else:
        model.load()
        assert isinstance(model._run, Bert)
        assert "libstdc++" in caplog.text


def test_the_factory_knows_three_kinds() -> None:
    assert isinstance(make_embedder("minilm"), MiniLM)
    assert make_embedder("none") is None
    other = make_embedder("sentence-transformers/all-mpnet-base-v2")
    assert other is not None
    assert other.model_id.startswith("sentence-transformers/all-mpnet-base-v2@")


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="the extra is installed")
def test_without_the_extra_another_model_says_what_to_install() -> None:
    other = make_embedder("all-mpnet-base-v2")
    assert other is not None
    with pytest.raises(Unavailable, match=r"pip install 'toolmesh\[models\]'"):
        other.load()
