"""A BERT encoder as an ONNX graph, made from the tensors of its safetensors file: what bert.py computes, for one text.

The word embeddings stay outside: the graph begins with a text's (tokens, width) rows of them, so that the file's
largest tensor is neither copied nor held. `LayerNormalization` after an `Add`, because the fused operator for both
takes three times as long in onnxruntime 1.31.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from router.embedders.bert import EPSILON, Array
from router.embedders.int8 import Quantised
from router.embedders.onnx_file import Graph, Shape

CONTRIB = "com.microsoft"
INPUT = "rows"


QUERY_KEY_VALUE = "attention.self"


class BertGraph:
    """One graph, for one use of `model`. A layer has four linear maps: query, key and value are one."""

    def __init__(self, tensors: Mapping[str, Array], layers: int, heads: int) -> None:
        self._tensors = tensors
        self._layers = layers
        self._heads = heads
        self._width = len(tensors["embeddings.LayerNorm.weight"])
        self._graph = Graph()
        self._quantised: Mapping[str, Quantised] = {}
        self.inputs: dict[str, str] = {}
        """Name of a linear map → the value it is applied to."""

    def model(self, quantised: Mapping[str, Quantised], *, peaks: bool = False) -> bytes:
        """From `rows` (1, tokens, width) to the unit vector (1, width); maps in `quantised` are computed in int8.

        With `peaks` one more output for each map, in the order of `inputs`: the largest magnitude of each of its
        input's channels.
        """
        self._quantised = quantised
        g = self._graph
        x = self._norm(INPUT, "embeddings.LayerNorm")
        for number in range(self._layers):
            x = self._layer(x, f"encoder.layer.{number}")
        pooled = g.apply("ReduceMean", x, g.constant(np.array([1])), keepdims=0)
        outputs: dict[str, Shape] = {g.apply("LpNormalization", pooled, axis=-1, p=2): (1, self._width)}
        if peaks:
            rows = g.constant(np.array([0, 1]))
            for name, value in self.inputs.items():
                peak = g.apply("ReduceMax", g.apply("Abs", value), rows, keepdims=0)
                outputs[peak] = (int(self.weight(name).shape[1]),)
        return g.model({INPUT: (1, "tokens", self._width)}, outputs)

    def weight(self, name: str) -> Array:
        """Of a map as the graph has it, (out, in)."""
        return self._part(name, "weight")

    def _layer(self, x: str, name: str) -> str:
        g = self._graph
        projected = self._linear(x, f"{name}.{QUERY_KEY_VALUE}")
        parts = g.split("Split", (projected,), 3, attributes={"axis": -1, "num_outputs": 3})
        attended = g.apply("MultiHeadAttention", *parts, domain=CONTRIB, num_heads=self._heads)
        attended = self._linear(attended, f"{name}.attention.output.dense")
        x = self._norm(g.apply("Add", attended, x), f"{name}.attention.output.LayerNorm")
        wide = g.apply("Gelu", self._linear(x, f"{name}.intermediate.dense"))
        return self._norm(g.apply("Add", self._linear(wide, f"{name}.output.dense"), x), f"{name}.output.LayerNorm")

    def _linear(self, x: str, name: str) -> str:
        g = self._graph
        self.inputs[name] = x
        bias = g.constant(self._part(name, "bias"))
        if name not in self._quantised:
            return g.apply("Add", g.apply("MatMul", x, g.constant(self.weight(name).T)), bias)
        q = self._quantised[name]
        x = g.apply("Mul", x, g.constant(q.gain))
        zero = g.constant(np.zeros(len(q.scale), np.int8))
        return g.apply(
            "DynamicQuantizeMatMul", x, g.constant(q.weight), g.constant(q.scale), zero, bias, domain=CONTRIB
        )

    def _norm(self, x: str, name: str) -> str:
        weight, bias = (self._graph.constant(self._tensors[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self._graph.apply("LayerNormalization", x, weight, bias, axis=-1, epsilon=float(EPSILON))

    def _part(self, name: str, part: str) -> Array:
        if name.endswith(QUERY_KEY_VALUE):
            return np.concatenate([self._tensors[f"{name}.{each}.{part}"] for each in ("query", "key", "value")])
        return self._tensors[f"{name}.{part}"]
