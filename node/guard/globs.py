"""Globs over names: `*`, `?` and `[…]`, each matching a name as a whole. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from functools import lru_cache

PATTERNS_KEPT = 4_096
"""Sets of globs whose pattern is kept; beyond it the one used longest ago is compiled again."""


def pattern_of(globs: Iterable[str]) -> re.Pattern[str]:
    """One pattern for all of them; of none, one that matches nothing. For `match`, case counts."""
    return _compiled(tuple(sorted(set(globs))))


@lru_cache(maxsize=PATTERNS_KEPT)
def _compiled(globs: tuple[str, ...]) -> re.Pattern[str]:
    # An alternation of nothing would match the empty string; `(?!)` matches none.
    return re.compile("|".join(map(fnmatch.translate, globs)) or "(?!)")
