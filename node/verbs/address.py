"""Which node a verb talks to, and with which key: from options, then the environment."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from proto.errors import Invalid

DEFAULT_URL = "http://127.0.0.1:7400"
URL_VARIABLE = "TOOLMESH_URL"
KEY_VARIABLE = "TOOLMESH_KEY"


def url_of(url: str | None) -> str:
    """`--url`, else `TOOLMESH_URL`, else this machine; without a slash at its end. Raises `Invalid`."""
    base = (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise Invalid(f"--url {base!r} is not an address; write it like {DEFAULT_URL}")
    return base


def key_of(key_file: Path | None) -> str:
    """What `--key-file` holds, else `TOOLMESH_KEY`, which may be empty. Raises `Invalid`."""
    key = os.environ.get(KEY_VARIABLE, "")
    if key_file is not None:
        try:
            key = key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as e:
            raise Invalid(f"--key-file {key_file} cannot be read: {e}") from None
        if not key:
            raise Invalid(f"--key-file {key_file} is empty; put the key into it, as 'toolmesh key' printed it")
    if not key.isascii() or not key.isprintable():
        raise Invalid("the key holds characters that no header can carry; give the key as it was printed")
    return key
