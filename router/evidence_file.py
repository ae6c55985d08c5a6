"""Evidence as JSON, for the disk and for peers; and its file, which is read whole or not at all.

The file is two lines: the SHA-256 of the second, and `{"format", "model", "entries"}`. At the bound it has 5 MB.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from proto import jsons
from proto.errors import Invalid, MeshError
from router.evidence import VOTES_MAX, Entry, Subject, Vector

log = logging.getLogger("toolmesh.router")

FORMAT = 1
FILE_BYTES_MAX = 64 * 1024 * 1024
_NAME_MAX = 1_024
_VOTER_MAX = 64
_DIMENSIONS_MAX = 8_192

Kept = list[tuple[Subject, Vector, dict[str, int]]]


def encode(entry: Entry) -> dict[str, Any]:
    owner, server, tool, kind, digest = entry.subject
    return {
        "number": entry.number,
        "tool": [owner, server, tool, kind, digest.hex()],
        "vector": base64.b64encode(entry.vector.astype("<f2").tobytes()).decode(),
        "votes": entry.votes,
        "changed": entry.changed,
    }


def decode(raw: Any) -> Entry:
    """Raises `Invalid` for anything that `encode` would not have written."""
    try:
        *names, digest = raw["tool"]
        owner, server, tool, kind = (_text(name, _NAME_MAX) for name in names)
        vector = np.frombuffer(base64.b64decode(raw["vector"], validate=True), dtype="<f2").astype(np.float16)
        votes = {_text(voter, _VOTER_MAX): _count(hour) for voter, hour in raw["votes"].items()}
        subject = Subject(owner, server, tool, kind, bytes.fromhex(digest))
        entry = Entry(_count(raw["number"]), subject, vector, votes, _count(raw["changed"]))
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise Invalid(f"an entry of what was learned from use is not as it should be: {e!r}") from None
    length = float(np.linalg.norm(vector.astype(np.float32)))
    if not 1 <= len(votes) <= VOTES_MAX or not 0 < len(vector) <= _DIMENSIONS_MAX or not abs(length - 1) < 0.01:
        raise Invalid(f"an entry of what was learned from use has {len(votes)} votes and a vector of length {length}")
    return entry


def save(file: Path, model: str, entries: Iterable[Entry]) -> None:
    """In place of what was there, or not at all. Raises `OSError`."""
    body = jsons.dumps({"format": FORMAT, "model": model, "entries": [encode(e) for e in entries]})
    unfinished = file.with_suffix(".unfinished")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as f:
        f.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        f.flush()
        os.fsync(f.fileno())
    unfinished.replace(file)


def load(file: Path) -> tuple[str, Kept]:
    """(model, entries); ("", []) where there is no file, or none that can be used, of which the log tells."""
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            raise Invalid(f"it is larger than {FILE_BYTES_MAX} bytes")
        digest, _, body = file.read_bytes().partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            raise Invalid("it is damaged")
        held = jsons.loads_object(body, "what was learned from use")
        if held.get("format") != FORMAT or not isinstance(held.get("model"), str):
            raise Invalid(f"its format is {held.get('format')!r}, and this version reads {FORMAT}")
        entries = [decode(raw) for raw in held.get("entries") or ()]
    except FileNotFoundError:
        return "", []
    except (OSError, MeshError) as e:
        log.warning("%s cannot be read, and feedback from use begins anew: %s", file, e)
        return "", []
    return held["model"], [(e.subject, e.vector, e.votes) for e in entries]


def _text(value: Any, limit: int) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise ValueError(f"{str(value)[:40]!r} is no text of at most {limit} characters")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value
