"""Names like the one that was asked for, among those that the caller may see. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

COMPARED_MAX = 500
"""Names that are compared at most, so that a misspelling costs little among many."""
SHOWN_MAX = 3


def near(asked: str, names: Iterable[str]) -> list[str]:
    """The likeliest, best first. Case and the kind of dashes count little: models mistake them often."""
    folded: dict[str, str] = {}
    for name in islice(names, COMPARED_MAX):
        folded.setdefault(_fold(name), name)
    return [folded[found] for found in get_close_matches(_fold(asked[:200]), folded, SHOWN_MAX, 0.7)]


def did_you_mean(found: list[str]) -> str:
    """To be said after a refusal; empty where nothing is near."""
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""


def _fold(name: str) -> str:
    return name.lower().replace("_", "-")
