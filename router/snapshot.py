"""Arrays in one file, for a quick second start: written whole or not at all, and known for damaged if it is.

    magic · parts, each from a multiple of 64 bytes on · header (JSON) · length and CRC-32 of the header · magic

Each part has a CRC-32 of its own. A file that a crash cut short fails one of these checks and is rebuilt from the
store; so nothing waits for the disk to have it.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

FORMAT = 1
MAGIC = b"toolmesh"
ALIGNED = 64
CHUNK = 4 << 20
HEADER_MAX = 1 << 20

_TAIL = struct.Struct("<QI8s")

Parts = Mapping[str, NDArray[Any] | bytes]


class Damaged(Exception):
    """What is read is not what was written, or is of another format."""


class Interrupted(Exception):
    """Writing was told to stop; there is no file."""


def write(path: Path, meta: Mapping[str, Any], parts: Parts, keep_on: Callable[[], bool] = lambda: True) -> int:
    """The file's size in bytes. `keep_on` is asked after every 4 MiB, and once more before the file takes its place.

    Raises `Interrupted`, `OSError`; then what was there before is there still.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with beside.open("wb") as file:
            file.write(MAGIC)
            table = [_write_part(file, name, part, keep_on) for name, part in parts.items()]
            header = json.dumps({"format": FORMAT, "meta": dict(meta), "parts": table}).encode()
            file.write(header)
            file.write(_TAIL.pack(len(header), zlib.crc32(header), MAGIC))
            size = file.tell()
        _check(keep_on)
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    return size


def read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """(meta, parts); bytes come back as arrays of uint8. Raises `Damaged`, `FileNotFoundError`, `OSError`."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = _read_header(file, size)
        try:
            return header["meta"], {part["name"]: _read_part(file, size, part) for part in header["parts"]}
        except (KeyError, TypeError, ValueError, MemoryError) as e:
            raise Damaged(f"its table of parts makes no sense ({type(e).__name__}: {e})") from None


def _write_part(file: BinaryIO, name: str, part: NDArray[Any] | bytes, keep_on: Callable[[], bool]) -> dict[str, Any]:
    array = np.frombuffer(part, dtype=np.uint8) if isinstance(part, bytes) else np.ascontiguousarray(part)
    file.write(b"\0" * (-file.tell() % ALIGNED))
    at, crc = file.tell(), 0
    whole = array.reshape(-1).view(np.uint8)
    for begin in range(0, len(whole), CHUNK):
        # A copy: what is live may change between the sum and the write.
        chunk = whole[begin : begin + CHUNK].tobytes()
        crc = zlib.crc32(chunk, crc)
        file.write(chunk)
        _check(keep_on)
    return {"name": name, "type": array.dtype.str, "shape": list(array.shape), "at": at, "crc": crc}


def _check(keep_on: Callable[[], bool]) -> None:
    if not keep_on():
        raise Interrupted("told to stop, or overtaken by changes")


def _read_header(file: BinaryIO, size: int) -> dict[str, Any]:
    if size < len(MAGIC) + _TAIL.size or file.read(len(MAGIC)) != MAGIC:
        raise Damaged("it does not begin like a snapshot")
    file.seek(size - _TAIL.size)
    length, crc, magic = _TAIL.unpack(file.read(_TAIL.size))
    if magic != MAGIC or length > min(HEADER_MAX, size - _TAIL.size):
        raise Damaged("it does not end like a snapshot")
    file.seek(size - _TAIL.size - length)
    text = file.read(length)
    if zlib.crc32(text) != crc:
        raise Damaged("its header is not what was written")
    header: dict[str, Any] = json.loads(text)
    if header.get("format") != FORMAT:
        raise Damaged(f"it has format {header.get('format')!r}, this is {FORMAT}")
    return header


def _read_part(file: BinaryIO, size: int, part: dict[str, Any]) -> NDArray[Any]:
    dtype, shape = np.dtype(part["type"]), tuple(part["shape"])
    if dtype.hasobject or part["at"] + dtype.itemsize * int(np.prod(shape, dtype=np.int64)) > size:
        raise Damaged(f"{part['name']} reaches beyond its end")
    array = np.empty(shape, dtype=dtype)
    whole = array.reshape(-1).view(np.uint8).data
    file.seek(part["at"])
    crc = 0
    for begin in range(0, len(whole), CHUNK):
        chunk = whole[begin : begin + CHUNK]
        if file.readinto(chunk) != len(chunk):  # type: ignore[attr-defined]
            raise Damaged(f"{part['name']} is cut short")
        crc = zlib.crc32(chunk, crc)
    if crc != part["crc"]:
        raise Damaged(f"{part['name']} is not what was written")
    return array
