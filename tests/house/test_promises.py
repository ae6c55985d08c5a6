"""docs/security.md names a test for each promise: every one of them is there, under that very name."""

from __future__ import annotations

import re
from pathlib import Path

HOUSE = Path(__file__).parents[2]
_ROW = re.compile(r"^\| (?P<promise>.+?) \| (?P<held>.+?) \|$", re.MULTILINE)
_FILE = re.compile(r"(?P<file>(?:[\w.-]+/)*\w+\.py)|(?P<folder>tests(?:/\w+)+)|(?P<test>test_\w+)")


def _rows(section: str) -> list[tuple[str, str]]:
    text = (HOUSE / "docs" / "security.md").read_text()
    part = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = [(m["promise"], m["held"]) for m in _ROW.finditer(part)]
    return [row for row in found if not row[0].startswith(("promise", "id", "---"))]


def _wrong(held: str) -> list[str]:
    """What of this cell cannot be found. A test belongs to the file named before it; a bare file to the last folder."""
    wrong: list[str] = []
    folder, source = HOUSE, ""
    for match in _FILE.finditer(held):
        if (name := match["file"]) is not None:
            path = HOUSE / name if "/" in name else folder / name
            if not path.is_file():
                wrong.append(name)
                continue
            folder, source = path.parent, path.read_text()
        elif (name := match["folder"]) is not None:
            if not (HOUSE / name).is_dir():
                wrong.append(name)
        elif f"def {match['test']}(" not in source:
            wrong.append(match["test"])
    return wrong


def test_every_promise_names_tests_that_there_are() -> None:
    rows = _rows("Promises")
    assert len(rows) > 50
    assert {promise: wrong for promise, held in rows if (wrong := _wrong(held))} == {}


def test_every_published_fault_names_tests_that_there_are() -> None:
    rows = [(name, cells.rpartition(" | ")[2]) for name, cells in _rows("Published faults of this field")]
    assert len(rows) == 15
    assert {name: wrong for name, held in rows if (wrong := _wrong(held))} == {}


def test_no_promise_is_without_a_test() -> None:
    bare = [promise for promise, held in _rows("Promises") if not re.search(r"tests/|make |deploy/", held)]
    assert bare == []
