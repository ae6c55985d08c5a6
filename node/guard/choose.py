"""Which guard a configuration asks for."""

from __future__ import annotations

from node.guard.keys import ApiKey, KeyAuthenticator, KeyGuard
from node.guard.open import OpenAuthenticator, OpenGuard
from node.ports import Authenticator, Guard
from node.settings.auth import AuthSection


def guard_of(auth: AuthSection, mesh: str) -> tuple[Authenticator, Guard]:
    """With keys, keys decide; without, everyone is anonymous and sees everything (the listener is loopback then)."""
    if not auth.keys:
        return OpenAuthenticator(), OpenGuard()
    keys = [ApiKey(k.name, k.digest, k.tenant, k.groups, k.scopes, k.servers) for k in auth.keys]
    return KeyAuthenticator(keys, mesh), KeyGuard(keys, mesh, auth.peers.servers)
