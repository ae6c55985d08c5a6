"""API keys: those of the configuration and those that authorities of the mesh have laid down, by their SHA-256."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Collection, Mapping, Sequence

from node.guard.governed import Governance, KeyRecord
from proto.records import Principal

log = logging.getLogger("toolmesh.identity")

KEY_BYTES = 32
PREFIX = "tm_"
"""What every new key begins with, its name after it, so that scanners of repositories and logs can find one."""


def fresh_key(name: str) -> str:
    """A key that nobody can guess: `tm_NAME_RANDOM` with 256 random bits. Keys of any other form count as well."""
    return f"{PREFIX}{name}_{secrets.token_urlsafe(KEY_BYTES)}"


def digest_of(secret: str) -> bytes:
    """SHA-256 of its UTF-8 text, 32 bytes."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class KeyRing:
    """All keys that count at this node now.

    The node's own configuration goes before what is laid down: an authority's key that bears the name of a configured
    one and is another key, or of a user (`taken`), does not count here: nobody could tell the two callers apart.
    """

    def __init__(
        self, configured: Sequence[KeyRecord], mesh: str, governance: Governance, taken: Collection[str] = ()
    ) -> None:
        self._mesh = mesh
        self._governance = governance
        self._configured = {key.sha256: key for key in configured}
        self._names = dict.fromkeys(taken, b"") | {key.name: key.sha256 for key in configured}
        self._principals: dict[bytes, tuple[KeyRecord, Principal]] = {}
        self._warned: set[str] = set()

    def __repr__(self) -> str:
        return f"KeyRing({len(self._configured)} configured, {len(self._governance.state.keys)} laid down)"

    def __bool__(self) -> bool:
        return bool(self._configured or self._governance.state.keys)

    def find(self, digest: bytes) -> tuple[KeyRecord, Principal] | None:
        """The key with this digest and whom it stands for; revocation, end and addresses are not looked at."""
        key = self._configured.get(digest) or self._laid_down(digest)
        # A dict finds it in a time that depends on the digest alone, from which no key can be computed back.
        if key is None or not hmac.compare_digest(key.sha256, digest):
            return None
        known = self._principals.get(digest)
        if known is None or known[0] is not key:
            if len(self._principals) > len(self._configured) + len(self._governance.state.keys):
                self._principals.clear()
            known = self._principals[digest] = (key, self.principal(key))
        return known

    def principal(self, key: KeyRecord) -> Principal:
        return Principal(
            key.name,
            self._mesh,
            key.tenant,
            key.groups,
            key.scopes,
            "key",
            credential=key.credential,
            expires_s=key.expires_s,
        )

    def principals(self) -> Mapping[str, Principal]:
        laid_down = {
            k.name: self.principal(k) for k in self._governance.state.keys.values() if k.name not in self._names
        }
        return laid_down | {key.name: self.principal(key) for key in self._configured.values()}

    def _laid_down(self, digest: bytes) -> KeyRecord | None:
        key = self._governance.state.keys.get(digest)
        if key is None or self._names.get(key.name, digest) == digest:
            return key
        if key.name not in self._warned and len(self._warned) < 1_000:
            self._warned.add(key.name)
            log.warning(
                "key %r of authority %s is not taken: auth.keys or auth.users has this name", key.name, key.authority
            )
        return None
