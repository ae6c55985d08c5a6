"""docs/security.md names each published fault, and each has a test that is named by it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = "\n".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
SECTION = (ROOT / "docs" / "security.md").read_text().partition("## Published faults")[2].partition("\n## ")[0]
FAULTS = [
    *("CVE-2025-6514", "CVE-2025-49596", "CVE-2025-64443", "CVE-2025-66416", "CVE-2026-42271", "CVE-2026-48710"),
    *("CVE-2026-29791", "CVE-2026-44430", "CVE-2026-7663", "CVE-2026-52870", "CVE-2026-25536"),
    *("GHSA-4gph-2hhr-5mwg", "GHSA-vw82-7fv8-r6gp", "GHSA-g53w-w6mj-hrpp", "GHSA-rww4-4w9c-7733"),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_told_and_tested_by_its_name(fault: str) -> None:
    assert f"| {fault} |" in SECTION
    assert re.search(rf"def test_\w*{fault.lower().replace('-', '_')}", TESTS)


def test_every_test_that_the_table_names_is_there() -> None:
    everywhere = "\n".join(
        f.read_text() for f in (ROOT / "tests").glob("[!.]*/**/test_*.py") if "site-packages" not in f.parts
    )
    named = re.findall(r"`(test_\w+)`", SECTION)
    assert len(named) >= len(FAULTS)
    assert [name for name in named if f"def {name}(" not in everywhere] == []
