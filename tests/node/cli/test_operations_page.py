"""The lines that docs/operations.md tells people to look for are those that the program prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "operations.md").read_text()
FILES = [f for area in ("node", "federation", "router") for f in (ROOT / area).rglob("*.py")]
# Adjacent literals are one text to Python, so they are joined here too.
SOURCE = re.sub(r'"\s*\n\s*f?"', "", "\n".join(f.read_text() for f in FILES))
LITERAL_CHARACTERS_MIN = 6
# What stands for something else in a quoted line, and the signs between its parts.
_PLACEHOLDER = re.compile(r"\b[A-Z]+\b|…|\b\d+\b|\([a-z]:.*\)|['.,:;]")
# States and the system's own words, which the program fills in.
_VALUES = {"is suspect", "is unreachable", "is down", "Connection refused", "Address already in use"}


def quoted(heading: str) -> list[str]:
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    cells = [line.strip("|").split(" | ")[0] for line in section.splitlines() if line.startswith("| ")]
    return [text for cell in cells for text in re.findall(r"`([^`]+)`", cell) if " " in text]


@pytest.mark.parametrize("line", quoted("Log lines worth knowing") + quoted("When something is wrong"))
def test_a_quoted_line_is_one_that_the_program_prints(line: str) -> None:
    for literal in _PLACEHOLDER.split(line):
        literal = literal.strip()
        if len(literal) >= LITERAL_CHARACTERS_MIN and literal not in _VALUES:
            assert literal in SOURCE, literal


def test_the_page_quotes_enough_to_be_worth_holding() -> None:
    assert len(quoted("Log lines worth knowing")) >= 12
    assert len(quoted("When something is wrong")) >= 12
