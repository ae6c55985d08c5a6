"""One secret on disk: AES-256-GCM, bound to its name and to how often that was set.

    nonce, 12 random bytes | ciphertext and tag

The cipher's key is derived (HKDF-SHA256) from the operator's key and from the store's own salt, so that two stores
under one key share nothing. A value that was changed, or put under another name, does not open. A whole earlier row put
back does: who can write to the file can undo what was set, and read none of it.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SALT_BYTES = 16
_NONCE_BYTES = 12
_ID_BYTES = 8


class Cipher:
    """Of one store under one key. `id` tells keys apart and says nothing of them."""

    def __init__(self, key: bytes, salt: bytes) -> None:
        self.id = _derived(key, salt, b"id", _ID_BYTES).hex()
        self._aead = AESGCM(_derived(key, salt, b"seal", 32))

    def __repr__(self) -> str:
        return f"Cipher({self.id})"

    def seal(self, name: str, version: int, value: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, value.encode(), _bound_to(name, version))

    def open(self, name: str, version: int, sealed: bytes) -> str | None:
        """None: it was not sealed under this key, for this name and version."""
        try:
            opened = self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound_to(name, version))
        except (InvalidTag, ValueError):
            return None
        return opened.decode()


def _bound_to(name: str, version: int) -> bytes:
    return b"toolmesh/secret/1\0%d\0%b" % (version, name.encode())


def _derived(key: bytes, salt: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=salt, info=b"toolmesh/secrets/1/" + purpose).derive(key)
