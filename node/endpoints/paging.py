"""Cursors: where a list goes on, written so that any node can read it. Pure.

A cursor names the last thing given, not a number and not a state: whatever joins or leaves meanwhile, and whichever
node is asked next, what was there all the time is given exactly once.
"""

from __future__ import annotations

import base64
from typing import Any

from proto import jsons
from proto.errors import Invalid

CURSOR_MAX = 16_384
"""Characters. Names and URIs in records are bounded below that."""
_SHOWN_MAX = 60


def cursor(method: str, address: str, after: tuple[str, ...]) -> str:
    """Goes on after the thing that `after` names in the list that `method` asks for at `address`."""
    return base64.urlsafe_b64encode(jsons.dumps([method, address, *after])).decode().rstrip("=")


def position(params: dict[str, Any], method: str, address: str, parts: int) -> tuple[str, ...] | None:
    """The `parts` that `params.cursor` goes on after; None where there is none, or an empty one, as some clients send.

    Raises `Invalid` for a cursor that this list has not given.
    """
    given = params.get("cursor")
    if given is None or given == "":
        return None
    read = _read(given)
    if read is None or read[:2] != [method, address] or len(read) != 2 + parts:
        shown = given[:_SHOWN_MAX] if isinstance(given, str) else jsons.type_name(given)
        raise Invalid(
            f"params.cursor {shown!r} is not one that {method} has given here; ask for the list without a cursor"
        )
    return tuple(read[2:])


def _read(given: Any) -> list[str] | None:
    if not isinstance(given, str) or len(given) > CURSOR_MAX:
        return None
    try:
        read = jsons.loads(base64.b64decode(given + "=" * (-len(given) % 4), altchars=b"-_", validate=True))
    except (ValueError, Invalid):
        return None
    return read if isinstance(read, list) and all(isinstance(part, str) for part in read) else None
