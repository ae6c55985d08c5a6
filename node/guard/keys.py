"""API keys of the configuration, and which servers each of them may see and use."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from node.guard.globs import pattern_of
from node.ports import Resource
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
