"""Does a URI come from a URI template (RFC 6570, levels 1 to 3)? Pure.

Matching is lenient about characters, since servers are: a variable takes whatever its kind of expression may hold. The
time is bounded by parts × length, whatever the template: many templates are other people's words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

URI_MAX = 8_192
"""Characters; a longer URI comes from no template."""
PARTS_MAX = 64
"""Of one template: literals and expressions; one with more matches only itself."""
TEMPLATES_KEPT = 10_000

_EXPRESSION = re.compile(r"\{([+#./;?&]?)([^{}]*)\}")
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?://[^/?#{]*)?")
_SEGMENT = re.compile(r"[^/?#]*")
_RUNS = {
    "": ("", _SEGMENT),
    "+": ("", re.compile(r".*", re.DOTALL)),
    "#": ("#", re.compile(r".*", re.DOTALL)),
    ".": (".", _SEGMENT),
    "/": ("/", _SEGMENT),
    ";": (";", _SEGMENT),
    "?": ("?", re.compile(r"[^#]*")),
    "&": ("&", re.compile(r"[^#]*")),
}
"""Operator → (what a defined expression begins with, the characters that may follow)."""


@dataclass(frozen=True, slots=True)
class _Run:
    """What an expression may expand to: nothing, or `lead` and then characters of `held`."""

    lead: str
    held: re.Pattern[str]

    def after(self, uri: str, starts: set[int]) -> set[int]:
        ends = set(starts)
        reached = -1
        for start in sorted(starts):
            first = start + len(self.lead)
            # A run that begins inside another, of the same characters, ends where that one does.
            if first <= reached or not uri.startswith(self.lead, start):
                continue
            found = self.held.match(uri, first)
            reached = found.end() if found else first
            ends.update(range(first, reached + 1))
        return ends


@dataclass(frozen=True, slots=True)
class _Literal:
    text: str

    def after(self, uri: str, starts: set[int]) -> set[int]:
        return {start + len(self.text) for start in starts if uri.startswith(self.text, start)}


@dataclass(frozen=True, slots=True)
class Template:
    """`literal` counts the characters that it fixes: of two templates that match, the one with more says more."""

    text: str
    parts: tuple[_Run | _Literal, ...]
    literal: int

    def matches(self, uri: str) -> bool:
        if uri == self.text:
            return True
        if len(uri) > URI_MAX or not self.parts:
            return False
        at = {0}
        for part in self.parts:
            at = part.after(uri, at)
            if not at:
                return False
        return len(uri) in at


@lru_cache(maxsize=TEMPLATES_KEPT)
def template(text: str) -> Template:
    """One that is not well formed matches itself alone."""
    parts: list[_Run | _Literal] = []
    literal = end = 0
    for found in _EXPRESSION.finditer(text):
        parts += _literal(text[end : found.start()])
        literal += found.start() - end
        end = found.end()
        lead, held = _RUNS[found[1]]
        # Each variable of a path expression has a segment of its own; elsewhere one run holds them all.
        parts += [_Run(lead, held)] * (found[2].count(",") + 1 if found[1] == "/" else 1)
    parts += _literal(text[end:])
    literal += len(text) - end
    malformed = any("{" in part.text or "}" in part.text for part in parts if isinstance(part, _Literal))
    if malformed or len(parts) > PARTS_MAX:
        return Template(text, (), len(text))
    return Template(text, tuple(parts), literal)


def origin_of(uri: str) -> str:
    """Scheme and authority (RFC 3986 §3.1, §3.2) of a URI, or of a template as far as it fixes them; empty: neither."""
    found = _ORIGIN.match(uri)
    return found[0] if found else ""


def _literal(text: str) -> list[_Run | _Literal]:
    return [_Literal(text)] if text else []
