"""Which revision of a model a name stands for, told without loading it: vectors of two revisions are never compared."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

UNKNOWN = "unknown"
# Weights may have gigabytes. Training moves every number, so a part of them tells two trainings apart.
WHOLE_BYTES_MAX = 256 * 1024
SLICES = 16
_IGNORED_FOLDERS = {"onnx", "openvino"}


def revision_of(name: str) -> str:
    """Of a folder, a digest of its files; of a name, the commit that is cached here, or `unknown` if none is."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _digest(folder)[:12]
    try:
        commit = (
            (_cache() / f"models--{hub_name(name).replace('/', '--')}" / "refs" / "main").read_text("ascii").strip()
        )
    except (OSError, UnicodeDecodeError):
        return UNKNOWN
    return commit[:12] or UNKNOWN


def hub_name(name: str) -> str:
    """`all-mpnet-base-v2` is short for `sentence-transformers/all-mpnet-base-v2`."""
    return name if "/" in name else f"sentence-transformers/{name}"


def _cache() -> Path:
    """Where huggingface_hub keeps what it has downloaded; by its own variables."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache)
    home = os.environ.get("HF_HOME")
    return (
        Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    ).expanduser() / "hub"


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        inner = file.relative_to(folder)
        if file.is_file() and not _IGNORED_FOLDERS.intersection(inner.parts):
            size = file.stat().st_size
            total.update(f"{inner.as_posix()}\0{size}\0".encode())
            with file.open("rb") as opened:
                if size <= WHOLE_BYTES_MAX:
                    total.update(opened.read())
                    continue
                for number in range(SLICES):
                    opened.seek((size - WHOLE_BYTES_MAX // SLICES) * number // (SLICES - 1))
                    total.update(opened.read(WHOLE_BYTES_MAX // SLICES))
    return total.hexdigest()
