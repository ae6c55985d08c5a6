"""Tensors of a safetensors file as views of its memory map: what is not touched is never read.

Layout: 8 bytes little-endian header length, a JSON header of name → {dtype, shape, data_offsets}, then the data
(https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import math
import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from proto import jsons
from proto.errors import Unavailable

HEADER_BYTES_MAX = 16 * 1024 * 1024


def map_file(path: Path) -> mmap.mmap:
    """The whole file, read-only. Raises `Unavailable` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as e:
        raise Unavailable(f"the model file {path.name} cannot be read: {e}") from None


def forget_pages(mapped: mmap.mmap) -> None:
    """Give back the memory of what was read so far; it is read again from the file where needed."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def float32_tensors(file: mmap.mmap, name_of_file: str) -> dict[str, NDArray[np.float32]]:
    """Every F32 tensor by name, read-only. Raises `Unavailable` if the file is not what it claims to be."""
    mapped = np.frombuffer(file, dtype=np.uint8)
    length = int.from_bytes(mapped[:8].tobytes(), "little")
    if not 2 <= length <= min(HEADER_BYTES_MAX, len(mapped) - 8):
        raise Unavailable(f"{name_of_file} is not a safetensors file: its header claims {length} bytes")
    header = jsons.loads_object(mapped[8 : 8 + length].tobytes(), f"the header of {name_of_file}")
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        shape = tuple(entry["shape"])
        if end - begin != 4 * math.prod(shape) or 8 + length + end > len(mapped):
            raise Unavailable(f"{name_of_file}: tensor {name} does not fit its shape {shape}")
        tensors[name] = mapped[8 + length + begin : 8 + length + end].view(np.float32).reshape(shape)
    return tensors
