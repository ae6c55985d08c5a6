"""One way to write a path: what the router reads is what every part here, and every proxy before it, reads."""

from __future__ import annotations

import re
import string
from functools import lru_cache

PATH_CHARACTERS_MAX = 4_224
"""The longest that this node gives away holds a ticket of consent (node/consent/tickets.py)."""
_NEEDLESS = string.ascii_letters + string.digits + "-._~" + "/\\;%" + "\x7f" + "".join(map(chr, range(0x20)))
"""Characters that need no encoding (RFC 3986 §6.2.2.2), and those that are encoded to be read twice."""
_ENCODED_NEEDLESSLY = re.compile("%(?:" + "|".join(f"{ord(c):02X}" for c in _NEEDLESS) + ")", re.IGNORECASE)
_WRITTEN = re.compile(r"(?:/(?:[A-Za-z0-9_~!$&'()*+,=:@.-]|%[0-9A-Fa-f]{2})*)+")
_DOTS = re.compile(r"/\.{1,2}(?:/|$)")


@lru_cache(maxsize=1_024)
def is_canonical(path: str) -> bool:
    """`path` as it came, percent-encoded, without the query.

    False for what somebody could read as another path: empty segments, `.` and `..`, `;` and `\\`, characters
    percent-encoded that need it not, the slash and the percent sign above all.
    """
    return (
        len(path) <= PATH_CHARACTERS_MAX
        and _WRITTEN.fullmatch(path) is not None
        and "//" not in path
        and not _DOTS.search(path)
        and not ("%" in path and _ENCODED_NEEDLESSLY.search(path))
    )
