"""The graph of our own making against the forward pass in numpy, which is against sentence-transformers."""

from __future__ import annotations

import importlib
import logging

import numpy as np
import pytest

from proto.errors import Unavailable
from router.embedders import onnx_runner
from router.embedders.bert import Bert
from router.embedders.int8 import fit, quantise
from router.embedders.onnx_file import Graph
from router.embedders.onnx_runner import OnnxBert
from tests.router.embedders.encoders import HEADS, LAYERS, WIDTH, tensors, texts

pytest.importorskip("onnxruntime")


def test_the_graph_computes_what_numpy_computes() -> None:
    expected = Bert(tensors(), layers=LAYERS, heads=HEADS)(texts())
    vectors = OnnxBert(tensors(), LAYERS, HEADS)(texts())
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_no_texts_give_no_vectors() -> None:
    assert OnnxBert(tensors(), LAYERS, HEADS)([]).shape == (0, WIDTH)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_vector_is_the_same_beside_any_other_text(precision: onnx_runner.Precision) -> None:
    runner = OnnxBert(tensors(), LAYERS, HEADS, precision=precision, calibration=texts())
    together = runner(texts(30, seed=2))
    alone = np.concatenate([runner([ids]) for ids in texts(30, seed=2)])
    np.testing.assert_array_equal(together, alone)


def test_int8_stays_close_to_float32_on_texts_that_it_was_not_measured_on() -> None:
    exact = OnnxBert(tensors(), LAYERS, HEADS)
    rounded = OnnxBert(tensors(), LAYERS, HEADS, precision="int8", calibration=texts())
    new = texts(40, seed=3)
    cosines = (exact(new) * rounded(new)).sum(axis=1)
    assert cosines.min() > 0.998
    assert cosines.min() < 1 - 1e-7, "nothing was rounded"


def test_products_that_overflow_are_noticed_and_made_wider(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make = onnx_runner._session
    overflowing = OnnxBert(tensors(seed=9), LAYERS, HEADS)._session

    def session(model: bytes, *, wide: bool = False) -> object:
        # The third session is the narrow int8 one: here it gives another model's vectors.
        made.append(wide)
        return overflowing if made == [False, False] else make(model, wide=wide)

    made: list[bool] = []
    monkeypatch.setattr(onnx_runner, "_session", session)
    with caplog.at_level(logging.WARNING):
        runner = OnnxBert(tensors(), LAYERS, HEADS, precision="int8", calibration=texts())
    assert made == [False, False, True]
    assert "overflow" in caplog.text
    expected = Bert(tensors(), layers=LAYERS, heads=HEADS)(texts())
    assert (runner(texts()) * expected).sum(axis=1).min() > 0.998


def test_a_machine_that_rounds_wrongly_even_so_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_runner, "AGREEMENT_MIN", 1.1)
    with pytest.raises(Unavailable, match=r"set search\.precision to float32"):
        OnnxBert(tensors(), LAYERS, HEADS, precision="int8", calibration=texts())


def test_a_gain_keeps_small_channels_beside_large_ones() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, WIDTH)).astype(np.float32)
    x[:, 3] *= 50
    weight = rng.normal(size=(WIDTH, WIDTH)).astype(np.float32)
    exact = x @ weight.T

    def error(peaks: np.ndarray) -> float:
        q = quantise(weight, peaks.astype(np.float32))
        gained = x * q.gain
        step = np.abs(gained).max() / 127
        return float(np.abs(np.rint(gained / step) * step @ q.weight * q.scale - exact).mean())

    assert error(np.abs(x).max(axis=0)) < 0.4 * error(np.ones(WIDTH))


def test_the_map_back_from_the_wide_layer_keeps_its_floats() -> None:
    maps = ["attention.self", "attention.output.dense", "intermediate.dense", "output.dense"]
    assert [fit(f"encoder.layer.0.{name}") for name in maps] == [True, True, True, False]


def test_attributes_constants_and_names_of_sizes_are_written_as_onnxruntime_reads_them() -> None:
    graph = Graph()
    shift = graph.constant(np.array([-1.5, 2.5], dtype=np.float32))
    left, right = graph.split("Split", ("x",), 2, attributes={"axis": -1, "num_outputs": 2})
    added = graph.apply("Add", graph.apply("Concat", right, left, axis=-1), shift)
    moved = graph.apply("Transpose", graph.apply("LeakyRelu", added, alpha=0.5), perm=(1, 0))
    model = graph.model({"x": ("rows", 2)}, {moved: (2, "rows")})
    session = importlib.import_module("onnxruntime").InferenceSession(model, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.array([[1, 2], [3, 4], [5, -9]], dtype=np.float32)})
    np.testing.assert_array_equal(y, [[0.5, 2.5, -5.25], [3.5, 5.5, 7.5]])
