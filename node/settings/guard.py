"""What callers may do: policies and roles of this node, and what one server lays down about its own parts."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from node.settings.values import FilePath, NodeName, Section

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 §3.3

Glob = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=256)]
RoleName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._@-]+$")]


def _scope(value: str) -> str:
    if not _SCOPE.fullmatch(value):
        raise ValueError(f"{value!r} is not a scope: no spaces, quotes or backslashes")
    return value


Scope = Annotated[Word, AfterValidator(_scope)]
Scopes = Annotated[tuple[Scope, ...], Field(min_length=1, max_length=16)]


def _role_glob(value: str) -> str:
    if any(c in value for c in "?[]"):
        raise ValueError(f"{value!r}: of globs, roles take '*' only")
    return value


RoleGlob = Annotated[Glob, AfterValidator(_role_glob)]


class ToolLists(Section):
    """Globs over the names of a server's tools: those of `allow` (none: every tool) without those of `block`.

    What is left out is published to nobody, and refused by the owner.
    """

    allow: tuple[Glob, ...] = Field(default=(), max_length=1_000)
    block: tuple[Glob, ...] = Field(default=(), max_length=1_000)


class RoleConfig(Section):
    """Whoever is in one of the `groups`, or is one of the `subjects`, may do `actions` at `servers`.

    A subject is a name of this mesh's own (a key's, a user's, a certificate's), or `ISSUER|SUBJECT`.

    `servers` are names, bare or qualified (`NAME--NODE`), in which `*` stands for anything.
    """

    groups: tuple[Word, ...] = Field(default=(), max_length=256)
    subjects: tuple[Word, ...] = Field(default=(), max_length=1_000)
    actions: tuple[Literal["search", "list", "call", "read", "add", "administer"], ...] = (
        "search",
        "list",
        "call",
        "read",
    )
    servers: tuple[RoleGlob, ...] = Field(default=("*",), max_length=256)


class PolicyFile(Section):
    """A file of Cedar policies. In `shadow` mode it decides nothing: what it would change is counted."""

    file: FilePath
    mode: Literal["enforce", "shadow"] = "enforce"


class GuardSection(Section):
    """Once any policy is enforced, or any role is given, what none permits is refused.

    Beyond `governance_age_s` since an authority was last heard, what rests on its word is refused too. Until each node
    named in `authorities` has been heard once, everything is.
    """

    policies: tuple[PolicyFile, ...] = Field(default=(), max_length=1_000)
    roles: dict[RoleName, RoleConfig] = Field(default_factory=dict, max_length=1_000)
    governance_age_s: Annotated[float, Field(ge=10, le=30 * 86_400)] = 86_400
    authorities: tuple[NodeName, ...] = Field(default=(), max_length=16)
