"""Tensors of a safetensors file as views of its memory map: what is not touched is never read.

Layout: 8 bytes little-endian header length, a JSON header of name → {dtype, shape, data_offsets}, then the data
(https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from proto import jsons
from proto.errors import Invalid, Unavailable

HEADER_BYTES_MAX = 16 * 1024 * 1024
_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16)}


@dataclass(frozen=True, slots=True)
class Contents:
    """The F32 and F16 tensors by name, read-only, and what the maker wrote of the file (text by name)."""

    tensors: dict[str, NDArray[Any]]
    metadata: dict[str, str]


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


def contents(file: mmap.mmap | bytes, name_of_file: str) -> Contents:
    """Raises `Unavailable` if the file is not what it claims to be."""
    data = np.frombuffer(file, dtype=np.uint8)
    length = int.from_bytes(data[:8].tobytes(), "little")
    if not 2 <= length <= min(HEADER_BYTES_MAX, len(data) - 8):
        raise Unavailable(f"{name_of_file} is not a safetensors file: its header claims {length} bytes")
    try:
        header = jsons.loads_object(data[8 : 8 + length].tobytes(), f"the header of {name_of_file}")
    except Invalid as e:
        raise Unavailable(f"{name_of_file} is not a safetensors file: {e.message}") from None
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise Unavailable(f"{name_of_file}: __metadata__ is not an object")
    tensors = {}
    for name, entry in header.items():
        dtype = _TYPES.get(str(entry.get("dtype"))) if isinstance(entry, dict) else None
        if dtype is not None:
            tensors[name] = _tensor(data[8 + length :], dtype, entry, f"{name_of_file}: tensor {name}")
    return Contents(tensors, {str(k): str(v) for k, v in metadata.items()})


def float32_tensors(file: mmap.mmap | bytes, name_of_file: str) -> dict[str, NDArray[np.float32]]:
    """Those of `contents` that are F32."""
    return {name: t for name, t in contents(file, name_of_file).tensors.items() if t.dtype == np.float32}


def _tensor(data: NDArray[np.uint8], dtype: np.dtype[Any], entry: dict[str, Any], what: str) -> NDArray[Any]:
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not (_sizes(shape) and _sizes(offsets) and len(offsets) == 2):
        raise Unavailable(f"{what} has no shape or place")
    begin, end = offsets
    if end - begin != dtype.itemsize * math.prod(shape) or end > len(data):
        raise Unavailable(f"{what} does not fit its shape {tuple(shape)}")
    return data[begin:end].view(dtype).reshape(shape)


def _sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(v) is int and v >= 0 for v in value)
