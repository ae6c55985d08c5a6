"""Runs a BERT encoder with onnxruntime: one thread, one text at a time, nothing padded.

So a vector depends on its text alone, in int8 too, where the scale of the activations is the text's own. Nothing is
lost by it: ten texts of 25 tokens as one matrix took as long as one by one.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from proto.errors import Unavailable
from router.embedders.bert import Array
from router.embedders.int8 import Quantised, fit, quantise
from router.embedders.onnx_bert import INPUT, BertGraph
from router.ports import Vectors

log = logging.getLogger("toolmesh.router")

Precision = Literal["int8", "float32"]
Ids = Sequence[int]
AGREEMENT_MIN = 0.995
"""Cosine of a text's int8 vector with its float32 one. Here it is 0.999; AVX2 without VNNI adds two products in 16
bits, which may overflow, and is tried at every load."""


class OnnxBert:
    """`__call__` takes token ids of each text and returns unit vectors, shape (texts, width). Thread-safe."""

    def __init__(
        self,
        tensors: Mapping[str, Array],
        layers: int,
        heads: int,
        *,
        precision: Precision = "float32",
        calibration: Sequence[Ids] = (),
    ) -> None:
        """int8 needs `calibration`: texts that show how large the channels get.

        Raises ImportError without onnxruntime, `Unavailable` where int8 is not what it should be.
        """
        self._words = tensors["embeddings.word_embeddings.weight"]
        first_kind = tensors["embeddings.token_type_embeddings.weight"][0]
        self._positions = tensors["embeddings.position_embeddings.weight"] + first_kind
        self.dimensions = int(self._words.shape[1])
        quantised: dict[str, Quantised] = {}
        expected = None
        if precision == "int8":
            quantised, expected = self._calibrate(BertGraph(tensors, layers, heads), calibration)
        model = BertGraph(tensors, layers, heads).model(quantised)
        self._session = _session(model)
        if expected is not None and not self._agrees(calibration, expected):
            log.warning("this processor's products of eight bits overflow; wider ones, which take longer, are used")
            self._session = _session(model, wide=True)
            if not self._agrees(calibration, expected):
                raise Unavailable("this machine computes int8 wrongly: set search.precision to float32")

    def __call__(self, texts: Sequence[Ids]) -> Vectors:
        out = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for row, ids in enumerate(texts):
            out[row : row + 1] = self._run(self._session, ids)[0]
        return out

    def _calibrate(self, graph: BertGraph, texts: Sequence[Ids]) -> tuple[dict[str, Quantised], Array]:
        """The maps in int8, and what float32 makes of the texts, shape (texts, width)."""
        exact = _session(graph.model({}, peaks=True))
        vectors, *peaks = zip(*(self._run(exact, ids) for ids in texts), strict=True)
        largest = {name: np.max(seen, axis=0) for name, seen in zip(graph.inputs, peaks, strict=True)}
        return {n: quantise(graph.weight(n), peak) for n, peak in largest.items() if fit(n)}, np.concatenate(vectors)

    def _run(self, session: Any, ids: Ids) -> list[Array]:
        rows: Array = self._words[np.asarray(ids, dtype=np.int64)] + self._positions[: len(ids)]
        outputs: list[Array] = session.run(None, {INPUT: rows[None]})
        return outputs

    def _agrees(self, texts: Sequence[Ids], expected: Array) -> bool:
        return bool(np.all((self(texts) * expected).sum(axis=1) >= AGREEMENT_MIN))


def _session(model: bytes, *, wide: bool = False) -> Any:
    """`wide`: products of int8 are added up in 32 bits on every processor."""
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    # As with BLAS: a text's products are too small for a second thread, and a thread that spins takes it from others.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # An arena keeps what the longest text took for good.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    # What it would fuse beyond this is fused already, or slower fused: see onnx_bert.py.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    unwanted = []
    if wide:
        options.add_session_config_entry("session.x64quantprecision", "1")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        unwanted = ["SkipLayerNormFusion"]
    return onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=unwanted
    )
