"""What a node gives out for its clients to bring back, so that nobody else can read, change or make it.

    "tm1." + base64url( key id, 4 bytes | nonce, 12 bytes | AES-256-GCM of JSON {"v": value, "x"?: expiry} )

The key of each purpose is derived from a mesh key (HKDF-SHA256), so that a token of one purpose is none of another.
The first mesh key seals and all of them open: while keys are being changed a mesh has two. Nonces are random, which
holds for some four thousand million tokens of one key.
"""

from __future__ import annotations

import base64
import binascii
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from proto import jsons
from proto.errors import Invalid

PREFIX = "tm1."
KEY_BYTES_MIN = 32
LEEWAY_S = 30.0
"""A token is taken for so long beyond its expiry: the clocks of two nodes differ."""

_ID_BYTES = 4
_NONCE_BYTES = 12


class Sealer:
    """`keys` are mesh keys, each of `KEY_BYTES_MIN` random bytes or more. `clock` gives Unix time in seconds."""

    def __init__(self, keys: Sequence[bytes], *, clock: Callable[[], float] = time.time) -> None:
        if not keys or min(map(len, keys)) < KEY_BYTES_MIN:
            raise Invalid(f"a mesh key has at least {KEY_BYTES_MIN} random bytes, and at least one key is needed")
        self._keys = {_derived(key, "key id", _ID_BYTES): key for key in reversed(keys)}
        self._first = _derived(keys[0], "key id", _ID_BYTES)
        self._clock = clock
        self._ciphers: dict[tuple[bytes, str], AESGCM] = {}

    @classmethod
    def alone(cls) -> Sealer:
        """With a key of this process: what it seals, it alone opens, until it ends."""
        return cls([os.urandom(KEY_BYTES_MIN)])

    def __repr__(self) -> str:
        return f"Sealer(seals with {self._first.hex()}, opens {', '.join(sorted(k.hex() for k in self._keys))})"

    def seal(self, purpose: str, value: dict[str, Any], ttl_s: float | None = None) -> str:
        """ASCII text without white space. It opens for `ttl_s` seconds, or, with None, for as long as the key is held.

        Raises `Invalid` for a value that is no JSON.
        """
        held: dict[str, Any] = {"v": value}
        if ttl_s is not None:
            held["x"] = self._clock() + ttl_s
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher(self._first, purpose).encrypt(nonce, jsons.dumps(held), PREFIX.encode() + self._first)
        return PREFIX + base64.urlsafe_b64encode(self._first + nonce + sealed).decode().rstrip("=")

    def open(self, purpose: str, text: str) -> dict[str, Any]:
        """What was sealed for this purpose. Raises `Invalid`, with `data["expired"]` where that is what is wrong."""
        raw = _raw(text)
        key_id, nonce, sealed = (
            raw[:_ID_BYTES],
            raw[_ID_BYTES : _ID_BYTES + _NONCE_BYTES],
            raw[_ID_BYTES + _NONCE_BYTES :],
        )
        if key_id not in self._keys:
            raise _refused()
        try:
            held = jsons.loads_object(
                self._cipher(key_id, purpose).decrypt(nonce, sealed, PREFIX.encode() + key_id), "what was sealed"
            )
        except InvalidTag:
            raise _refused() from None
        if "x" in held and self._clock() > held["x"] + LEEWAY_S:
            raise Invalid("its time is over", expired=True)
        value: dict[str, Any] = held["v"]
        return value

    def _cipher(self, key_id: bytes, purpose: str) -> AESGCM:
        cipher = self._ciphers.get((key_id, purpose))
        if cipher is None:
            cipher = self._ciphers[key_id, purpose] = AESGCM(_derived(self._keys[key_id], f"seal {purpose}", 32))
        return cipher


def _derived(key: bytes, info: str, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=b"toolmesh/1/" + info.encode()).derive(key)


def _raw(text: str) -> bytes:
    encoded = text[len(PREFIX) :]
    if not text.startswith(PREFIX) or not text.isascii():
        raise _refused()
    try:
        raw = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except (ValueError, binascii.Error):
        raise _refused() from None
    # Base64 has several spellings of one value; a token has one.
    if base64.urlsafe_b64encode(raw).decode().rstrip("=") != encoded or len(raw) <= _ID_BYTES + _NONCE_BYTES:
        raise _refused()
    return raw


def _refused() -> Invalid:
    return Invalid("it was not sealed by this mesh, was changed on its way, or was sealed under a key that is gone")
