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


def bounded(expression: Expression, *, up: bool) -> Expression:
    """A condition that does not read `context`: true whenever the given one can be (`up`), or only where it must be.

    Parts that read it are taken for whatever makes the whole more, or less, likely; all else stays as it is written.
    """
    if not reads(expression, "context"):
        return expression
    name, operands = operator_of(expression)
    match name:
        case "&&" | "||":
            sides = {side: bounded(operands[side], up=up) for side in ("left", "right")}
            return {name: sides}
        case "!":
            return {"!": {"arg": bounded(operands["arg"], up=not up)}}
        case "if-then-else":
            then, other = (bounded(operands[branch], up=up) for branch in ("then", "else"))
            if reads(operands["if"], "context"):
                return {("||" if up else "&&"): {"left": then, "right": other}}
            return {name: {"if": operands["if"], "then": then, "else": other}}
    return TRUE if up else FALSE
