"""What a server's owner lays down about it in its record: whose it is, and which scopes its parts take. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from node.guard.globs import pattern_of
from proto.errors import Invalid
from proto.jsons import type_name

TEAMS_MAX = 64
SCOPE_GLOBS_MAX = 256
SCOPES_MAX = 16
"""Of one glob."""
WORD_CHARACTERS_MAX = 256


class Ownership(NamedTuple):
    """`scopes` are (glob over names, the scopes that what matches takes)."""

    tenant: str = ""
    teams: tuple[str, ...] = ()
    scopes: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def scopes_of(self, name: str) -> tuple[str, ...]:
        """All that using what bears this name takes, each once."""
        if not self.scopes or not name:
            return ()
        needed = (scopes for glob, scopes in self.scopes if pattern_of((glob,)).match(name))
        return tuple(dict.fromkeys(scope for scopes in needed for scope in scopes))


def ownership_of(body: dict[str, Any]) -> Ownership:
    """Of a server record's body.

    Raises `Invalid`: a record whose ownership cannot be read is not known at all, so that nobody is let in by it.
    """
    tenant = body.get("tenant") or ""
    teams = body.get("teams") or []
    scopes = body.get("scopes") or {}
    if not isinstance(tenant, str) or len(tenant) > WORD_CHARACTERS_MAX:
        raise Invalid(f"'tenant' is {type_name(tenant)}, where a name of at most {WORD_CHARACTERS_MAX} is needed")
    if not _words(teams, TEAMS_MAX):
        raise Invalid(f"'teams' must be a list of at most {TEAMS_MAX} names")
    if not isinstance(scopes, dict) or len(scopes) > SCOPE_GLOBS_MAX:
        raise Invalid(f"'scopes' must be an object of at most {SCOPE_GLOBS_MAX} globs")
    for glob, needed in scopes.items():
        if len(glob) > WORD_CHARACTERS_MAX or not _words(needed, SCOPES_MAX):
            raise Invalid(f"'scopes' of {glob[:60]!r} must be a list of at most {SCOPES_MAX} scopes")
    return Ownership(tenant, tuple(teams), tuple((glob, tuple(needed)) for glob, needed in scopes.items()))


def _words(value: Any, most: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= most
        and all(isinstance(word, str) and 0 < len(word) <= WORD_CHARACTERS_MAX for word in value)
    )
