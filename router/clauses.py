"""The steps of a long task, found by punctuation and connecting words: pure text, no grammar, no model."""

from __future__ import annotations

import re

CLAUSES_MAX = 6
CLAUSE_WORDS_MIN = 3
SPLIT_FROM_WORDS = 10

_CLAUSE_END = re.compile(
    r"(?<=[.!?;])\s+|(?<=[。！？；])|\n+|,?\s+(?:and then|then|and also|after that|afterwards|as well as|finally)\s+"
    r"|,\s+(?:and|but|so|also|plus)\s+|\s+and\s+(?=\w+\s+\w+\s+\w+)",
    re.IGNORECASE,
)


def clauses(text: str) -> tuple[str, ...]:
    """The steps of a long task, at most six; empty for a short one or one that does not come apart."""
    if len(text.split()) < SPLIT_FROM_WORDS and not re.search(r"[。！？；]", text):
        return ()
    parts = [p.strip(" ,;") for p in _CLAUSE_END.split(text)]
    # Pieces too short to mean anything alone join what precedes them.
    joined: list[str] = []
    for part in filter(None, parts):
        if joined and (_short(part) or _short(joined[-1])):
            joined[-1] = f"{joined[-1]} {part}"
        else:
            joined.append(part)
    return tuple(joined[:CLAUSES_MAX]) if len(joined) > 1 else ()


def _short(part: str) -> bool:
    return part.isascii() and len(part.split()) < CLAUSE_WORDS_MIN
