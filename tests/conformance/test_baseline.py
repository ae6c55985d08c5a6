"""The baseline excuses what it names and nothing else, and says when it excuses nothing any more."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conformance import baseline
from tests.conformance.baseline import Entry
from tests.conformance.cells import Cell, Outcome
from tests.conformance.report import verdict
from tests.conformance.suite import Check, Run

NEAR = Cell("one", "both", "2026-07-28")
FAR = Cell("two", "both", "2026-07-28")
BROKEN = Check("caching", "ttl", "FAILURE", "no ttlMs")
MILD = Check("caching", "scope", "WARNING", "no cacheScope")
FINE = Check("ping", "ping", "SUCCESS", "")
OTHERS = Check("caching", "skipped", "SKIPPED", "")


def judged(entries: list[Entry], *runs: tuple[Cell, list[Check]]) -> list[str]:
    outcomes = [Outcome(cell, Run(checks), baseline.excused(entries, cell, checks)) for cell, checks in runs]
    return verdict(outcomes, entries)


def test_our_own_entries_each_have_a_reason() -> None:
    assert all(len(entry.reason) > 40 for entry in baseline.load())


@pytest.mark.parametrize("given", [{"reason": " "}, {}, {"reason": "known", "chck": "ttl"}])
def test_an_entry_without_a_reason_or_with_a_misspelt_field_is_refused(tmp_path: Path, given: dict[str, str]) -> None:
    file = tmp_path / "baseline.yml"
    file.write_text(yaml.safe_dump([{"cells": "*", "scenario": "caching", **given}]))
    with pytest.raises(ValueError, match="needs a reason"):
        baseline.load(file)


def test_a_failure_that_no_entry_knows_stands_against_success_and_so_does_a_warning() -> None:
    assert judged([], (NEAR, [FINE, OTHERS])) == []
    assert judged([], (NEAR, [BROKEN, MILD])) == [
        "one/both/2026-07-28 caching:ttl failure: no ttlMs",
        "one/both/2026-07-28 caching:scope warning: no cacheScope",
    ]


def test_an_entry_excuses_its_check_in_its_cells_only() -> None:
    entry = Entry("one/*", "caching", "ttl", "known")
    assert judged([entry], (NEAR, [BROKEN])) == []
    assert judged([entry], (NEAR, [BROKEN]), (FAR, [BROKEN])) == ["two/both/2026-07-28 caching:ttl failure: no ttlMs"]
    assert judged([entry], (NEAR, [BROKEN, MILD])) == ["one/both/2026-07-28 caching:scope warning: no cacheScope"]


def test_an_entry_that_excuses_nothing_any_more_must_go() -> None:
    entry = Entry("one/*", "caching", "*", "known")
    mended = Check("caching", "ttl", "SUCCESS", "")
    assert judged([entry], (NEAR, [mended])) == [
        "baseline entry one/* caching:* excuses nothing any more; remove it",
    ]
    assert judged([entry], (FAR, [mended])) == []
