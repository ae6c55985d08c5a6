"""The keys that the nodes of a mesh share, under which they seal what clients bring back: one file each.

A file holds 32 random bytes or more as base64 or hexadecimal text, and is readable by its node alone. Whoever has it
can read and make the states of parked calls (docs/security.md); it opens no connection and vouches for nobody.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from node.sealing import KEY_BYTES_MIN, Sealer
from proto.errors import Conflict, Invalid

MESH_KEY_FILE = "mesh.key"
FILE_BYTES_MAX = 4_096
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")


def sealer_of(files: Sequence[Path]) -> Sealer:
    """The first file's key seals, all open; without any, a key of this process. Raises `Invalid`."""
    return Sealer([read(file) for file in files]) if files else Sealer.alone()


def read(file: Path) -> bytes:
    """The key in a file. Raises `Invalid` with the mend."""
    mend = f"'toolmesh key mesh {file}' makes one"
    try:
        with file.open("rb") as f:
            raw = f.read(FILE_BYTES_MAX + 1)
    except OSError as e:
        raise Invalid(f"federation.mesh_keys: {file} cannot be read: {e.strerror or e}; {mend}") from None
    key = _decoded(raw) if len(raw) <= FILE_BYTES_MAX else b""
    if len(key) < KEY_BYTES_MIN:
        raise Invalid(
            f"federation.mesh_keys: {file} does not hold {KEY_BYTES_MIN} bytes or more as base64 or hexadecimal; {mend}"
        )
    return key


def _decoded(raw: bytes) -> bytes:
    try:
        text = raw.decode("ascii").strip()
        if _HEX.fullmatch(text):
            return bytes.fromhex(text)
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except ValueError:
        return b""


def make(file: Path) -> None:
    """A new key, in a file that only its owner can read. Raises `Conflict` where a file is already."""
    write(file, base64.b64encode(secrets.token_bytes(KEY_BYTES_MIN)) + b"\n")


def write(file: Path, text: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        made = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Conflict(f"{file} exists already: a key that is in use is replaced by a second one beside it") from None
    except OSError as e:
        raise Invalid(f"{file} cannot be written: {e.strerror or e}") from None
    with os.fdopen(made, "wb") as f:
        f.write(text)


def copy(source: Path, out: Path) -> Path | None:
    """The key of `source`, a directory, put into the directory `out`; None where `source` has none."""
    file, copied = source / MESH_KEY_FILE, out / MESH_KEY_FILE
    if not file.is_file():
        return None
    if file.resolve() != copied.resolve():
        read(file)
        copied.unlink(missing_ok=True)
        write(copied, file.read_bytes())
    return copied
