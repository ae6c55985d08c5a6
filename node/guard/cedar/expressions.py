"""Cedar expressions in their JSON form: walked, searched for what they read, and bounded from both sides. Pure.

The form is Cedar's published one: an expression is an object of one member, the operator.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Expression = dict[str, Any]

TRUE: Expression = {"Value": True}
FALSE: Expression = {"Value": False}


def operator_of(expression: Expression) -> tuple[str, Any]:
    """(operator, operands)."""
    ((name, operands),) = expression.items()
    return name, operands


def below(expression: Expression) -> Iterator[Expression]:
    """The expressions that this one is made of."""
    name, operands = operator_of(expression)
    if name in ("Value", "Var", "Slot", "Unknown"):
        return
    if isinstance(operands, list):
        # A set, or the arguments of an extension function.
        yield from operands
    elif name == "Record":
        yield from operands.values()
    else:
        yield from (operands[key] for key in ("left", "right", "arg", "if", "then", "else", "in") if key in operands)


def path_of(expression: Expression) -> tuple[str, ...]:
    """`principal.a.b` as (principal, a, b); empty for what is no such path."""
    names: list[str] = []
    while "." in expression:
        names.append(expression["."]["attr"])
        expression = expression["."]["left"]
    return (expression["Var"], *reversed(names)) if "Var" in expression else ()


def reads(expression: Expression, variable: str) -> bool:
    return expression.get("Var") == variable or any(reads(e, variable) for e in below(expression))


def negated(expression: Expression) -> Expression:
    return {"!": {"arg": expression}}


def can_be(expression: Expression, value: bool) -> Expression:
    """A condition that does not read `context`, true at least wherever the given one has this value for some context.

    What reads it is taken for anything; all else stays as it is written, its failures to be evaluated included.
    """
    if not reads(expression, "context"):
        return expression if value else negated(expression)
    name, operands = operator_of(expression)
    match name:
        case "&&" | "||":
            left, right = can_be(operands["left"], value), can_be(operands["right"], value)
            return {("&&" if (name == "&&") is value else "||"): {"left": left, "right": right}}
        case "!":
            return can_be(operands["arg"], not value)
        case "if-then-else":
            then, other = can_be(operands["then"], value), can_be(operands["else"], value)
            if reads(operands["if"], "context"):
                return {"||": {"left": then, "right": other}}
            return {name: {"if": operands["if"], "then": then, "else": other}}
    return TRUE


def must_be(expression: Expression, value: bool) -> Expression:
    """A condition that does not read `context`, true only where the given one has this value for every context.

    Whatever reads `context` may also fail to be evaluated, and then the whole has no value: what comes after it to
    the right cannot save it.
    """
    if not reads(expression, "context"):
        return expression if value else negated(expression)
    name, operands = operator_of(expression)
    match name:
        case "&&" | "||":
            left, right = must_be(operands["left"], value), must_be(operands["right"], value)
            if (name == "&&") is value:
                return {"&&": {"left": left, "right": right}}
            return left if reads(operands["left"], "context") else {"||": {"left": left, "right": right}}
        case "!":
            return must_be(operands["arg"], not value)
        case "if-then-else" if not reads(operands["if"], "context"):
            then, other = must_be(operands["then"], value), must_be(operands["else"], value)
            return {name: {"if": operands["if"], "then": then, "else": other}}
    return FALSE
