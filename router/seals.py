"""Sums over the files of a directory: whether they are as they were left, before anybody who trusts them reads them."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

PIECE = 1 << 20

Seal = dict[str, tuple[int, int]]
"""By path within the directory: bytes, CRC-32. A gigabyte takes about a second, the interpreter lock not held."""


def seal(directory: Path) -> Seal:
    """Raises OSError."""
    return {file.relative_to(directory).as_posix(): (file.stat().st_size, _sum(file)) for file in _files(directory)}


def broken(directory: Path, sealed: Seal) -> str:
    """What is not as it was sealed, for people; empty if all is."""
    try:
        found = {file.relative_to(directory).as_posix(): file for file in _files(directory)}
        if found.keys() != sealed.keys():
            strays = sorted(found.keys() ^ sealed.keys())
            return f"{strays[0]} has {'come' if strays[0] in found else 'gone'}"
        for name, (size, crc) in sealed.items():
            if found[name].stat().st_size != size:
                return f"{name} had {size} bytes and has {found[name].stat().st_size}"
            if _sum(found[name]) != crc:
                return f"{name} is not what was written"
    except OSError as e:
        return f"{e.filename or directory} cannot be read: {e.strerror}"
    return ""


def _files(directory: Path) -> Iterator[Path]:
    for place, _, names in os.walk(directory):
        yield from (Path(place, name) for name in names)


def _sum(file: Path) -> int:
    crc = 0
    with file.open("rb") as f:
        while piece := f.read(PIECE):
            crc = zlib.crc32(piece, crc)
    return crc
