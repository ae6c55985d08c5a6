"""Puts the figures of bench/results/search.json into the pages that show them, between their marks.

<!-- bench-search: quality -->  …  <!-- end -->
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.search.results import PARTS, QUALITY
from bench.search.table import honesty_table, quality_table, table

DOCS = Path(__file__).parents[2] / "docs"
PAGES = (DOCS / "benchmarks.md", DOCS / "search.md")
_MARKED = re.compile(r"(<!-- bench-search: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def write(figures: Mapping[str, Any]) -> None:
    """What was not measured keeps the table that it has."""
    made = {name: f"{text}\n" for name, text in _tables(figures).items() if text}
    for page in PAGES:
        text = page.read_text("utf-8")
        page.write_text(_MARKED.sub(lambda m: f"{m[1]}{made.get(m[2], m[3])}{m[4]}", text), "utf-8")


def _tables(figures: Mapping[str, Any]) -> dict[str, str]:
    quality = figures.get(QUALITY, {})
    alone = quality.get("alone")
    return {
        "costs": table(figures) if not set(PARTS).isdisjoint(figures) else "",
        "quality": quality_table(alone, quality.get("crowd")) if alone else "",
        "honesty": honesty_table(alone) if alone and alone["honesty"] else "",
    }
