"""A call's arguments as Cedar's values. Pure.

JSON's null has no counterpart and is left out, with its name. Whole numbers are Long (also when written 3.0), other
numbers `decimal` where four digits after the point are enough, else text; so are whole numbers beyond 64 bits. Lists
become sets. Members that Cedar's JSON gives a meaning of its own (`__entity`, `__extn`) are renamed: what callers write
is data.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from node.guard.cedar.reading import WHOLE

_LONG_MAX = 2**63
_DECIMAL_MAX = 922_337_203_685_477
_EXACT_MAX = 2.0**53
_ESCAPES = frozenset({"__entity", "__extn", "__expr"})


def arguments_for(given: Any, read: Collection[str]) -> dict[str, Any]:
    """The members of `given` that policies read, in Cedar's JSON form; none where it is no object."""
    if not isinstance(given, dict):
        return {}
    chosen = given if WHOLE in read else {name: given[name] for name in read if name in given}
    return _record(chosen)


def _record(value: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{name}_" if name in _ESCAPES else name: _value(member) for name, member in value.items() if member is not None
    }


def _value(value: Any) -> Any:
    match value:
        case bool() | str():
            return value
        case int():
            return value if -_LONG_MAX <= value < _LONG_MAX else str(value)
        case float():
            return _number(value)
        case dict():
            return _record(value)
    return [_value(item) for item in value if item is not None]


def _number(value: float) -> Any:
    if value.is_integer() and abs(value) <= _EXACT_MAX:
        return int(value)
    text = f"{value:.4f}"
    if abs(value) < _DECIMAL_MAX and float(text) == value:
        return {"__extn": {"fn": "decimal", "arg": text}}
    return repr(value)
