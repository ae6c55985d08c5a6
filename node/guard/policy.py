"""Policies and roles, from what is written to what decides: checked where they are set, compiled once per change."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import cedarpy

from node.guard.cedar.book import Book
from node.guard.cedar.reading import WHOLE
from node.guard.cedar.schema import PRINCIPAL_ATTRIBUTES, RESOURCE_ATTRIBUTES, schema
from node.guard.cedar.statements import Json, Statement, policy_set, statement, statements_of
from node.guard.governed import PolicyRule
from node.settings.guard import RoleConfig
from proto.errors import Invalid
from proto.names import split_qualified
from proto.records import Principal

POLICY_BYTES_MAX = 64 * 1024
STATEMENTS_MAX = 1_000
"""Of one policy."""
POLICIES_KEPT = 2_048
"""Policies that are remembered parsed, so that a change costs what has changed; beyond it the one used longest ago is
parsed again."""

_TYPE = re.compile(r" on entity type `[A-Za-z]+`")
_KNOWN = {"principal": PRINCIPAL_ATTRIBUTES, "resource": RESOURCE_ATTRIBUTES}


def check_policy(name: str, text: str) -> None:
    """Raises `Invalid` naming what is wrong with a policy: its syntax, an attribute, a type, an action, its size.

    Also where it says nothing at all: once it is in force, what no other policy permits is refused to everybody.
    """
    if not read_policy(name, text):
        raise Invalid(
            f"policy {name!r} holds no statement; to close the mesh write 'forbid(principal, action, resource);'"
        )


@lru_cache(maxsize=POLICIES_KEPT)
def read_policy(name: str, text: str) -> tuple[Statement, ...]:
    """Its statements, under ids that are no other policy's. Raises `Invalid` like `check_policy`."""
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError:
        raise Invalid(f"policy {name!r} holds half a character (a lone surrogate); write the whole one") from None
    if size_bytes > POLICY_BYTES_MAX:
        raise Invalid(f"policy {name!r} is longer than {POLICY_BYTES_MAX} bytes; write it as several")
    statements = tuple(statements_of(name, text, hashlib.sha256(f"{name}\0{text}".encode()).hexdigest()[:24]))
    if len(statements) > STATEMENTS_MAX:
        raise Invalid(f"policy {name!r} holds {len(statements)} statements, more than {STATEMENTS_MAX}")
    for s in statements:
        _check_words(s)
    _check_types(name, statements)
    return statements


def book_of(rules: Iterable[PolicyRule], roles: Mapping[str, RoleConfig]) -> Book:
    """Raises `Invalid` for a policy that cannot be honoured."""
    statements: dict[str, Statement] = {}
    for rule in rules:
        # The same policy by two authorities is one; it grants if one of them may.
        found = read_policy(rule.name, rule.text)
        statements |= {s.id: s for s in found if rule.grants or not s.permits}
    for name, role in roles.items():
        statements |= {s.id: s for s in _role_statements(name, role)}
    return Book(list(statements.values()), {name: _holder(role) for name, role in roles.items()})


def _holder(role: RoleConfig) -> Callable[[Principal], bool]:
    groups, subjects = frozenset(role.groups), frozenset(role.subjects)

    def has(principal: Principal) -> bool:
        # A plain name is one that this mesh gave. An issuer of tokens, whose name is an address, gives others the same.
        if principal.subject in subjects and "://" not in principal.issuer:
            return True
        if f"{principal.issuer}|{principal.subject}" in subjects:
            return True
        return any(group in groups for group in principal.groups)

    return has


def _role_statements(name: str, role: RoleConfig) -> Iterator[Statement]:
    """One for each glob: a plain name is looked up in the statement's scope, which costs nothing."""
    for n, glob in enumerate(role.servers):
        body: Json = {
            "effect": "permit",
            "principal": {"op": "in", "entity": {"type": "Role", "id": name}},
            "action": {"op": "in", "entities": [{"type": "Action", "id": action} for action in role.actions]},
            "resource": {"op": "All"},
            "conditions": [],
        }
        server, owner = _split(glob)
        if "*" not in server:
            body["resource"] = {"op": "in", "entity": {"type": "Server", "id": server}}
        elif server != "*":
            body["conditions"].append(_like("server", server))
        if owner:
            body["conditions"].append(_like("owner", owner))
        yield statement(f"role/{name}/{n}", f"role {name}", body)


def _split(glob: str) -> tuple[str, str]:
    """(server, owner or empty) of a name, bare or qualified, that may hold `*`."""
    if "*" in glob:
        server, _, owner = glob.partition("--")
        return server, owner
    server, node = split_qualified(glob)
    return server, node or ""


def _like(attribute: str, glob: str) -> Json:
    """`resource.ATTRIBUTE like GLOB`."""
    pattern = ["Wildcard" if c == "*" else {"Literal": c} for c in glob]
    left = {".": {"left": {"Var": "resource"}, "attr": attribute}}
    return {"kind": "when", "body": {"like": {"left": left, "pattern": pattern}}}


# ---- checking --------------------------------------------------------------------------------------


def _check_words(s: Statement) -> None:
    """By our own lists first, whose words are plainer; also within what is said of arguments."""
    for variable, read in (("principal", s.reads.principal), ("resource", s.reads.resource)):
        for name in sorted(read - {WHOLE, *_KNOWN[variable]}):
            mend = _mend(variable, name)
            raise Invalid(f"{s.label}: {variable} has no attribute {name!r}; {mend}")
    for name in sorted(s.reads.strange):
        raise Invalid(f"{s.label}: context has no member {name!r}; it holds 'arguments', at the call only")


def _mend(variable: str, name: str) -> str:
    if variable == "resource" and name == "labels":
        return 'labels are tags: resource.hasTag("NAME") && resource.getTag("NAME") == "VALUE"'
    near = difflib.get_close_matches(name, _KNOWN[variable], 1)
    return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(_KNOWN[variable])}"


def _check_types(name: str, statements: Sequence[Statement]) -> None:
    """Against the schema. What reads arguments, whose types nobody knows, is left out of it."""
    text = cedarpy.policies_from_json_str(json.dumps(policy_set((str(n), s.could) for n, s in enumerate(statements))))
    result = cedarpy.validate_policies(text, schema())
    if result.validation_passed:
        return
    # The same fault is told once for each type that it concerns, in no order.
    words = sorted(_TYPE.sub("", e.error.partition(", ")[2] or e.error) for e in result.errors)
    shown = "; ".join(list(dict.fromkeys(words))[:2])
    raise Invalid(f"policy {name!r}: {shown}. The schema is deploy/examples/toolmesh.cedarschema")
