"""The baseline: failures that are known, each with a written reason. An entry that no longer fails must go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from tests.conformance.cells import Cell
from tests.conformance.suite import Check

FILE = Path(__file__).parent / "baseline.yml"
FIELDS = {"cells", "scenario", "check", "reason"}


@dataclass(frozen=True)
class Entry:
    """`cells`, `scenario` and `check` are shell patterns; a cell is written PLACE/SERVER/REVISION."""

    cells: str
    scenario: str
    check: str
    reason: str

    def covers(self, cell: Cell) -> bool:
        return fnmatchcase(str(cell), self.cells)

    def excuses(self, cell: Cell, check: Check) -> bool:
        return self.covers(cell) and fnmatchcase(check.scenario, self.scenario) and fnmatchcase(check.id, self.check)

    def __str__(self) -> str:
        return f"{self.cells} {self.scenario}:{self.check}"


def load(file: Path = FILE) -> list[Entry]:
    """Raises `ValueError` for an entry without a reason, or with a field that nobody reads."""
    return [_entry(given) for given in yaml.safe_load(file.read_text()) or []]


def _entry(given: dict[str, Any]) -> Entry:
    unknown = given.keys() - FIELDS
    if unknown or not str(given.get("reason", "")).strip():
        raise ValueError(f"baseline entry {given}: needs a reason, and no other fields than {sorted(FIELDS)}")
    return Entry(given["cells"], given["scenario"], given.get("check", "*"), " ".join(given["reason"].split()))


def excused(entries: Iterable[Entry], cell: Cell, checks: Iterable[Check]) -> dict[str, str]:
    """The failing checks of the cell that the baseline knows, as SCENARIO:CHECK, with the reasons."""
    known = list(entries)
    found = {}
    for check in checks:
        entry = next((e for e in known if check.failed and e.excuses(cell, check)), None)
        if entry is not None:
            found[f"{check.scenario}:{check.id}"] = entry.reason
    return found


def stale(entries: Iterable[Entry], runs: dict[Cell, list[Check]]) -> list[Entry]:
    """Entries that excused nothing, although a cell that they cover was run."""
    return [
        entry
        for entry in entries
        if any(entry.covers(cell) for cell in runs)
        and not any(check.failed and entry.excuses(cell, check) for cell, checks in runs.items() for check in checks)
    ]
