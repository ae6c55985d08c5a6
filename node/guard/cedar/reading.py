"""What a policy reads of a principal, of a resource and of a call: by that alone its decisions can differ. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from node.guard.cedar.expressions import Expression, below, operator_of, path_of

Uid = tuple[str, str]
"""(entity type, id)"""

WHOLE = "*"
"""Read in a way that nothing can be left out of it."""

Test = tuple[str, str, str]
"""(attribute of a resource, "==" or "like", the text; of a pattern with \\0 for the wildcard)"""

TEXTS = frozenset({"server", "owner", "region", "tool", "tenant", "service"})
"""Attributes of resources that are texts."""


@dataclass(slots=True)
class Reads:
    """`principal` and `resource` are attributes; of labels (Cedar's tags) `labels`. `named` are the entities that are
    written out; `tests` what is asked of texts whose value is not read otherwise. `arguments` are the members of
    `context.arguments`; `strange` what else of the context."""

    principal: set[str] = field(default_factory=set)
    resource: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)
    named: set[Uid] = field(default_factory=set)
    tests: set[Test] = field(default_factory=set)
    arguments: set[str] = field(default_factory=set)
    strange: set[str] = field(default_factory=set)

    def join(self, other: Reads) -> None:
        for name in self.__slots__:
            getattr(self, name).update(getattr(other, name))


def read_by(expression: Expression, into: Reads) -> None:
    """Add what this condition reads."""
    name, operands = operator_of(expression)
    match name:
        case "Value":
            _value(operands, into)
            return
        case "Var":
            _bare(operands, into)
            return
        case "==" | "!=" | "like" | "contains" if _test(name, operands, into):
            return
        case "." if path := path_of(expression):
            _path(path, into)
            return
        case "has" if (path := path_of(operands["left"])) or "Var" in operands["left"]:
            _path((*path, operands["attr"]), into)
            return
        case "getTag" | "hasTag" if operands["left"] == {"Var": "resource"}:
            right = operands["right"].get("Value")
            into.labels.add(right if isinstance(right, str) else WHOLE)
            if not isinstance(right, str):
                read_by(operands["right"], into)
            return
        case "==" | "!=" | "in" if _entities(operands, into):
            return
        case "is" if operands["left"] in ({"Var": "principal"}, {"Var": "resource"}):
            # The type is a principal's or a resource's kind, by which they are told apart anyway.
            if "in" in operands:
                read_by(operands["in"], into)
            return
    for part in below(expression):
        read_by(part, into)


def _value(value: object, into: Reads) -> None:
    if isinstance(value, dict) and "__entity" in value:
        entity = value["__entity"]
        into.named.add((entity["type"], entity["id"]))


def _bare(variable: str, into: Reads) -> None:
    match variable:
        case "principal":
            into.principal.add(WHOLE)
        case "resource":
            into.resource.add(WHOLE)
        case "context":
            into.arguments.add(WHOLE)


def _path(path: tuple[str, ...], into: Reads) -> None:
    variable, attribute = path[0], path[1] if len(path) > 1 else WHOLE
    match variable:
        case "principal":
            into.principal.add(attribute)
        case "resource":
            into.resource.add(attribute)
        case "context" if attribute != "arguments":
            into.strange.add(attribute)
        case "context" if len(path) > 2:
            into.arguments.add(path[2])
        case "context":
            # `context has arguments`, and `context.arguments` as it is.
            into.arguments.add(WHOLE)


def _test(name: str, operands: dict[str, Any], into: Reads) -> bool:
    """`resource.tool == "x"`, `!=`, `like`, and `["x", "y"].contains(resource.tool)`."""
    subject, texts = operands["left"], operands.get("right", {})
    if name == "contains":
        subject, texts = texts, subject
    path = path_of(subject)
    if len(path) != 2 or path[0] != "resource" or path[1] not in TEXTS:
        return False
    if name == "like":
        pattern = "".join("\0" if part == "Wildcard" else part["Literal"] for part in operands["pattern"])
        into.tests.add((path[1], "like", pattern))
        return True
    values = [e.get("Value") for e in texts.get("Set", [texts])]
    if not all(isinstance(value, str) for value in values):
        return False
    into.tests.update((path[1], "==", str(value)) for value in values)
    return True


def _entities(operands: dict[str, Expression], into: Reads) -> bool:
    """`principal in Group::"x"`, `resource == Tool::"a/b"`, and sets of such."""
    left, right = operands["left"], operands["right"]
    if left not in ({"Var": "principal"}, {"Var": "resource"}, {"Var": "action"}):
        return False
    listed = right.get("Set", [right])
    if not all(isinstance(e.get("Value"), dict) and "__entity" in e["Value"] for e in listed):
        return False
    for literal in listed:
        read_by(literal, into)
    return True
