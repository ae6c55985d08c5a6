"""What a server says it wants, in `WWW-Authenticate` (RFC 9110 §11.6.1, RFC 6750 §3, RFC 9728 §5.1). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

HEADER_CHARS_MAX = 8 * 1024
SCOPES_MAX = 64
"""What is beyond either is not read."""

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PART = re.compile(rf"\s*(?:({_WORD})\s*=\s*({_QUOTED}|{_WORD})|({_WORD})(?:\s+[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$)))?)")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 §3.3, scope-token


@dataclass(frozen=True, slots=True)
class Challenge:
    """The members of a `Bearer` challenge that matter; empty where it does not have them."""

    error: str = ""
    scopes: tuple[str, ...] = ()
    resource_metadata: str = ""


def parse_challenge(header: str) -> Challenge | None:
    """The first `Bearer` challenge of the header's text, several header lines joined by commas; None: there is none.

    What cannot be read ends the reading: what came before it counts.
    """
    header = header[:HEADER_CHARS_MAX]
    found: dict[str, str] | None = None
    at = 0
    while at < len(header):
        match = _PART.match(header, at)
        if match is None:
            break
        name, value, scheme = match.groups()
        if scheme is not None:
            if found is not None:
                break
            if scheme.lower() == "bearer":
                found = {}
        elif found is not None:
            found.setdefault(name.lower(), _unquoted(value))
        at = match.end()
        while at < len(header) and header[at] in ", \t":
            at += 1
    if found is None:
        return None
    return Challenge(found.get("error", ""), scopes_of(found.get("scope", "")), found.get("resource_metadata", ""))


def scopes_of(text: object) -> tuple[str, ...]:
    """The scopes in a space-separated list, each once, in their order; what can be none is left out."""
    words = text.split() if isinstance(text, str) else ()
    return tuple(dict.fromkeys(word for word in words if _SCOPE.fullmatch(word)))[:SCOPES_MAX]


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
