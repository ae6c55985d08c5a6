"""The key under which a store of secrets is encrypted: 32 random bytes, as base64 in a file or a variable."""

from __future__ import annotations

import base64
import binascii
import secrets
from itertools import pairwise

KEY_BYTES = 32
_DISTINCT_MIN = 16
"""Of 32 random bytes about 30 differ from each other; fewer than 16 do once in 10**15 keys."""


def new_key() -> str:
    """As text, for `secrets.key`."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def parsed_key(text: str) -> bytes:
    """The bytes of a key. Raises `ValueError` with the mend for what is no key, and for what can be guessed."""
    mend = "'toolmesh secrets key' makes one"
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (ValueError, binascii.Error):
        raise ValueError(f"is not base64; {mend}") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"holds {len(key)} bytes as base64, not {KEY_BYTES}; {mend}")
    steps = {(b - a) % 256 for a, b in pairwise(key)}
    if len(set(key)) < _DISTINCT_MIN or len(steps) == 1 or all(0x20 <= b < 0x7F for b in key):
        raise ValueError(f"is not random: whoever sees how it was made can guess it; {mend}")
    return key
