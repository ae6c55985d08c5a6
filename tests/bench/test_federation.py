"""The federation's bench still runs, and says what it found."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.federation.failing import first_seen
from bench.federation.figures import most, rounded
from bench.federation.table import table

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
async def test_a_quick_run_measures_a_little_of_everything() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.federation", "--quick", stdout=-1, stderr=-1, cwd=ROOT
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()[-2_000:]
    parts: dict[str, Any] = {}
    lines = iter(out.decode().splitlines())
    for line in lines:
        name, brace, rest = line.partition("{")
        if not brace:
            break
        parts[name.split()[0]] = json.loads(brace + rest)
    assert list(parts) == ["small", "large", "regions", "records", "catalogue"]
    assert parts["small"]["killed"]["nodes"] == 4
    assert parts["records"]["cold"]["records"] == 2 * 301
    assert parts["records"]["restart"]["restored_records"] == 2 * 301
    assert parts["records"]["restart"]["snapshots"] == 0
    assert parts["catalogue"]["tools"] == 600
    shown = "\n".join(lines)
    assert "| a change at all of 4, loopback, p50 |" in shown
    assert "memberlist" in shown


def test_what_was_not_measured_has_no_row() -> None:
    shown = table({"regions": {"skipped": "no root"}, "small": {"false_suspicions": 0, "change": {"nodes": 4}}})
    assert "| false suspicions, loopback, N = 4 | **0** | 0 |" in shown
    assert "WAN" not in shown


def test_the_99th_percentile_is_a_number_that_was_seen() -> None:
    assert most([float(i) for i in range(1, 101)]) == 99.0
    assert most([1.0, 7.0]) == 7.0
    assert rounded({"a": 12.3456, "b": 4790.6, "c": 3, "d": "x"}) == {"a": 12.3, "b": 4791.0, "c": 3, "d": "x"}


def test_the_first_word_on_each_node_counts() -> None:
    fates = [(5, "a", "suspect"), (6, "b", "alive"), (7, "a", "down"), (8, "a", "suspect")]
    assert first_seen(fates, frozenset({"suspect", "down"})) == {"a": 5}
    assert first_seen(fates, frozenset({"down"})) == {"a": 7}
