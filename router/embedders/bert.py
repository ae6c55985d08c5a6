"""The forward pass of a BERT encoder in numpy, mean-pooled (Devlin et al. 2019; sentence-transformers' pooling).

Several texts go through the linear layers as one matrix of all their tokens, attention runs text by text: so
nothing is padded, and a vector does not depend on its neighbours beyond the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.ports import Vectors

Array = NDArray[np.float32]
EPSILON = np.float32(1e-12)
BLOCK = 64
_ROOT_HALF = np.float32(0.5**0.5)
# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: |error| ≤ 1.5e-7.
_ERF_P = np.float32(0.3275911)
_ERF_A = tuple(np.float32(a) for a in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592))


@dataclass(frozen=True, slots=True)
class Norm:
    weight: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        x = x - x.mean(axis=-1, keepdims=True)
        spread = np.einsum("ij,ij->i", x, x)[:, None] / np.float32(x.shape[-1])
        x *= 1 / np.sqrt(spread + EPSILON)
        x *= self.weight
        x += self.bias
        return x


@dataclass(frozen=True, slots=True)
class Linear:
    """`blocks` is (out / 64, in, 64): the columns of the transposed weight in blocks, each contiguous.

    For a few rows OpenBLAS spends most of a product on copying the weight into its own order, and only the products
    of small matrices are free of it: in blocks a text of 5 to 20 tokens takes 0.4 to 0.6 of the time, 512 tokens 1.2.
    """

    blocks: Array
    bias: Array

    @classmethod
    def of(cls, weight: Array, bias: Array) -> Linear:
        """`weight` is (out, in), as the file holds it."""
        out, width = weight.shape
        blocks = weight.reshape(out // BLOCK, BLOCK, width).transpose(0, 2, 1)
        return cls(np.ascontiguousarray(blocks), np.array(bias))

    def __call__(self, x: Array) -> Array:
        y: Array = np.matmul(x, self.blocks).transpose(1, 0, 2).reshape(len(x), -1)
        y += self.bias
        return y


@dataclass(frozen=True, slots=True)
class Layer:
    query_key_value: Linear
    attended: Linear
    attended_norm: Norm
    widen: Linear
    narrow: Linear
    norm: Norm


def gelu(x: Array) -> Array:
    """x·Φ(x) by the error function, as BERT has it (not the tanh approximation)."""
    z = np.abs(x)
    z *= _ROOT_HALF
    t: Array = np.float32(1) / (np.float32(1) + _ERF_P * z)
    tail = np.full_like(t, _ERF_A[0])
    for a in _ERF_A[1:]:
        tail *= t
        tail += a
    tail *= t
    np.multiply(z, z, out=z)
    np.negative(z, out=z)
    tail *= np.exp(z, out=z)
    # Φ(x) is 1 - tail/2 above zero and tail/2 below.
    tail *= np.float32(0.5)
    np.subtract(np.float32(1), tail, out=tail, where=x > 0)
    tail *= x
    return tail


class Bert:
    """`__call__` takes token ids of each text and returns unit vectors, shape (texts, hidden size)."""

    def __init__(self, tensors: Mapping[str, Array], *, layers: int, heads: int) -> None:
        self._words = tensors["embeddings.word_embeddings.weight"]
        first_kind = tensors["embeddings.token_type_embeddings.weight"][0]
        self._positions = tensors["embeddings.position_embeddings.weight"] + first_kind
        self._norm = _norm(tensors, "embeddings.LayerNorm")
        self._layers = [_layer(tensors, f"encoder.layer.{i}", heads) for i in range(layers)]
        self._heads = heads
        self.dimensions = int(self._words.shape[1])

    def __call__(self, texts: Sequence[Sequence[int]]) -> Vectors:
        ends = np.cumsum([len(ids) for ids in texts])
        spans = [(int(end) - len(ids), int(end)) for ids, end in zip(texts, ends, strict=True)]
        x = self._words[np.concatenate([np.asarray(ids, dtype=np.int64) for ids in texts])]
        for begin, end in spans:
            x[begin:end] += self._positions[: end - begin]
        x = self._norm(x)
        for layer in self._layers:
            x = layer.attended_norm(layer.attended(self._attend(layer.query_key_value(x), spans)) + x)
            x = layer.norm(layer.narrow(gelu(layer.widen(x))) + x)
        pooled = np.stack([x[begin:end].mean(axis=0) for begin, end in spans])
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
        return pooled

    def _attend(self, projected: Array, spans: Sequence[tuple[int, int]]) -> Array:
        width = self.dimensions
        out = np.empty((len(projected), width), dtype=np.float32)
        for begin, end in spans:
            q, k, v = projected[begin:end].reshape(end - begin, 3, self._heads, -1).transpose(1, 2, 0, 3)
            weights = q @ k.transpose(0, 2, 1)
            weights -= weights.max(axis=-1, keepdims=True)
            np.exp(weights, out=weights)
            weights /= weights.sum(axis=-1, keepdims=True)
            out[begin:end] = (weights @ v).transpose(1, 0, 2).reshape(end - begin, width)
        return out


def _norm(tensors: Mapping[str, Array], name: str) -> Norm:
    return Norm(np.array(tensors[f"{name}.weight"]), np.array(tensors[f"{name}.bias"]))


def _linear(tensors: Mapping[str, Array], name: str) -> Linear:
    return Linear.of(tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _layer(tensors: Mapping[str, Array], name: str, heads: int) -> Layer:
    weights, biases = (
        [tensors[f"{name}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
        for kind in ("weight", "bias")
    )
    # The scale of scaled dot-product attention is folded into the query.
    scale = np.float32((weights[0].shape[0] / heads) ** -0.5)
    weights[0], biases[0] = weights[0] * scale, biases[0] * scale
    return Layer(
        Linear.of(np.concatenate(weights), np.concatenate(biases)),
        _linear(tensors, f"{name}.attention.output.dense"),
        _norm(tensors, f"{name}.attention.output.LayerNorm"),
        _linear(tensors, f"{name}.intermediate.dense"),
        _linear(tensors, f"{name}.output.dense"),
        _norm(tensors, f"{name}.output.LayerNorm"),
    )
