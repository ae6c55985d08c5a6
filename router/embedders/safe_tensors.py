"""Tensors of a safetensors file as views of its memory map: what is not touched is never read.

Layout: 8 bytes little-endian header length, a JSON header of name → {dtype, shape, data_offsets}, then the data
(https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from proto import jsons
from proto.errors import Unavailable

HEADER_BYTES_MAX = 16 * 1024 * 1024


def float32_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Every F32 tensor by name, read-only. Raises `Unavailable` if the file is not what it claims to be."""
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    length = int.from_bytes(mapped[:8].tobytes(), "little")
    if not 2 <= length <= min(HEADER_BYTES_MAX, len(mapped) - 8):
        raise Unavailable(f"{path.name} is not a safetensors file: its header claims {length} bytes")
    header = jsons.loads_object(mapped[8 : 8 + length].tobytes(), f"the header of {path.name}")
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        shape = tuple(entry["shape"])
        if end - begin != 4 * math.prod(shape) or 8 + length + end > len(mapped):
            raise Unavailable(f"{path.name}: tensor {name} does not fit its shape {shape}")
        # Without the memmap subclass, whose bookkeeping costs more than the small operations of one text.
        tensors[name] = np.asarray(mapped[8 + length + begin : 8 + length + end]).view(np.float32).reshape(shape)
    return tensors
