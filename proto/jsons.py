"""JSON as toolmesh carries it: what is decided on is what is forwarded.

orjson does the work. It turns integers beyond 64 bits into floats, so a text with a run of 19 or more digits
goes to the standard library. What cannot be carried unchanged is refused by name: lone surrogates, NaN and
infinities, nesting beyond 200.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any, NoReturn

import orjson

from proto.errors import Invalid

DEPTH_MAX = 200
# A translated copy and a substring search: 1 ms per MB, where a regular expression takes 15 to 50.
_DIGITS_TO_ZERO = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))
_LONG_NUMBER = b"0" * 19
_SURROGATE = re.compile("[\ud800-\udfff]")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"number {text[:40]} is beyond the range of a double")
    return value


def loads(data: bytes | str) -> Any:
    """The value of one JSON text. Raises `Invalid` naming what is wrong and, where known, where."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    try:
        value = _loads_exact(raw) if _LONG_NUMBER in raw.translate(_DIGITS_TO_ZERO) else orjson.loads(raw)
    except RecursionError:
        raise Invalid(f"JSON is nested deeper than {DEPTH_MAX} levels") from None
    except ValueError as e:
        raise Invalid(f"not valid JSON: {e}") from None
    # A text with no more than DEPTH_MAX opening brackets cannot be deeper than that.
    if raw.count(b"[") + raw.count(b"{") > DEPTH_MAX:
        check_depth(value)
    return value


def _loads_exact(raw: bytes) -> Any:
    text = raw.decode("utf-8")
    value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    # Only an escape can smuggle a surrogate through a valid UTF-8 text, alone or as a proper pair.
    if "\\u" in text and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise ValueError("a string holds a lone surrogate, which UTF-8 cannot carry")
    return value


def loads_object(data: bytes | str, what: str) -> dict[str, Any]:
    """Like `loads`, and `Invalid` unless the value is an object; `what` names it in every message."""
    try:
        value = loads(data)
    except Invalid as e:
        raise Invalid(f"{what}: {e.message}") from None
    if not isinstance(value, dict):
        raise Invalid(f"{what} must be a JSON object, not {type_name(value)}")
    return value


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON, member order kept. Raises `Invalid` for what JSON cannot carry."""
    try:
        return _refuse_changed(value, orjson.dumps(value))
    except TypeError:
        return _dumps_exact(value, sort=False)


def canonical(value: Any) -> bytes:
    """The one text of a value that digests are taken of: compact, members sorted by code point."""
    try:
        return _refuse_changed(value, orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
    except TypeError:
        return _dumps_exact(value, sort=True)


def compact(text: bytes) -> bytes:
    """A copy in memory of its own length: for whoever keeps a text that `dumps` or `canonical` wrote.

    orjson 3.13 never gives back what it reserved to write in: 4 KiB behind the shortest text, twelve times its own
    length behind one of 5 KB. For a text that is sent and forgotten that costs nothing.
    """
    # A third of what bytes(memoryview(text)) takes, which copies as well; bytes(text) does not.
    return b"%b" % text


def _refuse_changed(value: Any, text: bytes) -> bytes:
    # orjson writes NaN and infinities as null; only a text that holds a null can hide one.
    if b"null" in text:
        _check_values(value)
    return text


def _check_values(value: Any) -> None:
    """`Invalid` for a number that is not finite or a member name that is no string."""
    level = [value]
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                for name in item:
                    if not isinstance(name, str):
                        raise Invalid(f"cannot be written as JSON: member name {name!r} is not a string")
                below.extend(item.values())
            elif isinstance(item, list | tuple):
                below.extend(item)
            elif isinstance(item, float) and not math.isfinite(item):
                raise Invalid(f"cannot be written as JSON: {item} is not a JSON number")
        level = below


def _dumps_exact(value: Any, *, sort: bool) -> bytes:
    # json.dumps would write other member names as strings, and go deeper than anybody reads.
    check_depth(value)
    _check_values(value)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=sort)
        return text.encode("utf-8")
    except RecursionError:
        raise Invalid(f"JSON is nested deeper than {DEPTH_MAX} levels") from None
    except (TypeError, ValueError) as e:
        raise Invalid(f"cannot be written as JSON: {e}") from None


def digest(value: Any) -> bytes:
    """SHA-256 of the canonical text: 32 bytes, equal for equal values whatever their member order."""
    return hashlib.sha256(canonical(value)).digest()


def check_depth(value: Any) -> None:
    """`Invalid` if containers nest deeper than `DEPTH_MAX`."""
    level = [value]
    for _ in range(DEPTH_MAX):
        below: list[Any] = []
        for container in level:
            if isinstance(container, dict):
                below.extend(v for v in container.values() if isinstance(v, dict | list))
            elif isinstance(container, list):
                below.extend(v for v in container if isinstance(v, dict | list))
        if not below:
            return
        level = below
    raise Invalid(f"JSON is nested deeper than {DEPTH_MAX} levels")


def type_name(value: Any) -> str:
    """The JSON name of a value's type, for messages."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case dict():
            return "an object"
    return type(value).__name__
