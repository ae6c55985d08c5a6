"""A small encoder and an adapter for it, for tests of what needs no words: 2 layers, 4 heads, 64 wide."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LAYERS, HEADS, WIDTH, WIDE, WORDS, POSITIONS = 2, 4, 64, 128, 50, 40

Array = NDArray[np.float32]


def tensors(seed: int = 0) -> dict[str, Array]:
    """Named as in the file of a BERT model."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int, around: float = 0.0, spread: float = 0.1) -> Array:
        return (around + spread * rng.normal(size=shape)).astype(np.float32)

    made = {
        "embeddings.word_embeddings.weight": normal(WORDS, WIDTH),
        "embeddings.position_embeddings.weight": normal(POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": normal(2, WIDTH),
    }
    linears = [("attention.self." + part, WIDTH, WIDTH) for part in ("query", "key", "value")]
    linears += [("attention.output.dense", WIDTH, WIDTH), ("intermediate.dense", WIDTH, WIDE)]
    linears += [("output.dense", WIDE, WIDTH)]
    norms = ["embeddings.LayerNorm"]
    for layer in (f"encoder.layer.{number}" for number in range(LAYERS)):
        for name, width, out in linears:
            made[f"{layer}.{name}.weight"] = normal(out, width, spread=0.3)
            made[f"{layer}.{name}.bias"] = normal(out)
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name in norms:
        made[f"{name}.weight"] = normal(WIDTH, around=1.0)
        made[f"{name}.bias"] = normal(WIDTH)
    return made


def texts(count: int = 12, seed: int = 1) -> list[list[int]]:
    """Token ids, 1 to 30 of them."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, WORDS, size=rng.integers(1, 31)).tolist() for _ in range(count)]


def write_safetensors(path: Path, arrays: dict[str, NDArray[np.floating]], metadata: dict[str, str]) -> Path:
    """Written here by hand, as the format has it, so that the reader is not tested against itself."""
    header: dict[str, object] = {"__metadata__": metadata}
    data = b""
    for name, array in arrays.items():
        kind = {"float32": "F32", "float16": "F16", "float64": "F64"}[array.dtype.name]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    told = json.dumps(header).encode()
    path.write_bytes(len(told).to_bytes(8, "little") + told + data)
    return path
