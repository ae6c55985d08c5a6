"""API keys: who a caller is, by the SHA-256 of the key that it shows, and which servers that key may see and use."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from node.guard.globs import pattern_of
from node.ports import Credentials, Resource
from proto.errors import Unauthenticated
from proto.names import qualified
from proto.records import Principal

EVERY_SERVER = ("*",)
GLOBS_SHOWN_MAX = 10


@dataclass(frozen=True, slots=True)
class ApiKey:
    """`digest` is SHA-256 of the key's UTF-8 text (32 bytes); `servers` are globs over bare or qualified names."""

    name: str
    digest: bytes
    tenant: str = ""
    groups: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    servers: tuple[str, ...] = EVERY_SERVER

    def principal(self, mesh: str) -> Principal:
        return Principal(self.name, mesh, self.tenant, self.groups, self.scopes, "key")


class KeyAuthenticator:
    """A key comes as `Authorization: Bearer KEY` or `X-API-Key: KEY`; `mesh` becomes the principal's issuer."""

    def __init__(self, keys: Sequence[ApiKey], mesh: str) -> None:
        self._known = tuple((key.digest, key.principal(mesh)) for key in keys)

    async def authenticate(self, credentials: Credentials) -> Principal:
        shown = {secret for secret in (credentials.bearer, credentials.api_key) if secret}
        if len(shown) > 1:
            raise Unauthenticated("two different keys were shown; send one, as 'Authorization: Bearer KEY'")
        found: Principal | None = None
        for secret in shown:
            digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
            # Every key is compared, so that the time taken tells nothing about which one matched.
            for known, principal in self._known:
                if hmac.compare_digest(known, digest):
                    found = principal
        if found is None:
            # The same words whether no key, a wrong one or another scheme was shown.
            raise Unauthenticated("a valid key is needed: send 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
        return found

    def valid(self, principal: Principal) -> bool:
        return True

    def principals(self) -> Mapping[str, Principal]:
        return {principal.subject: principal for _, principal in self._known}

    def __repr__(self) -> str:
        return f"KeyAuthenticator({len(self._known)} keys)"


@dataclass(frozen=True, slots=True)
class ServerGlobs:
    """Lets through the servers whose bare or qualified name matches one of the globs; none match nothing."""

    globs: tuple[str, ...]
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, globs: Sequence[str]) -> ServerGlobs:
        unique = tuple(sorted(set(globs)))
        return cls(unique, pattern_of(unique))

    @property
    def key(self) -> Hashable:
        return ("servers", self.globs)

    def allows(self, resource: Resource) -> bool:
        match = self.pattern.match
        return bool(match(resource.server) or match(qualified(resource.server, resource.owner)))
