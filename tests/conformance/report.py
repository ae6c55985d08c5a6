"""What the runs come to: a table for people, a summary for `bench/results/conformance.json`, and a verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conformance import baseline
from tests.conformance.cells import Outcome
from tests.conformance.suite import version

SUMMARY = Path(__file__).parents[2] / "bench" / "results" / "conformance.json"


def summary(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    return {
        "suite": f"@modelcontextprotocol/conformance {version()}",
        "seconds": round(seconds, 1),
        "cells": [_cell(outcome) for outcome in outcomes],
    }


def _cell(outcome: Outcome) -> dict[str, Any]:
    counted = outcome.run.count()
    failing = {check.scenario for check in outcome.run.checks if check.failed}
    required = outcome.cell.required
    counting = required if required is not None else frozenset(outcome.run.scenarios)
    return {
        "place": outcome.cell.place,
        "server": outcome.cell.server,
        "revision": outcome.cell.revision,
        "scenarios": len(outcome.run.scenarios),
        "required": len(counting & set(outcome.run.scenarios)),
        "required_failing": sorted(failing & counting),
        "not_required_failing": sorted(failing - counting),
        "checks_passed": counted["SUCCESS"],
        "checks_failed": counted["FAILURE"],
        "warnings": counted["WARNING"],
        "baseline": dict(sorted(outcome.excused.items())),
        "seconds": round(outcome.run.seconds, 1),
    }


def table(told: dict[str, Any]) -> str:
    head = f"{'asked':<8}{'server':<8}{'revision':<12}{'required':>10}{'checks':>10}{'failed':>8}{'warned':>8}{'s':>7}"
    rows = [
        f"{c['place']:<8}{c['server']:<8}{c['revision']:<12}"
        f"{c['required'] - len(c['required_failing']):>6}/{c['required']:<3}"
        f"{c['checks_passed']:>6}/{c['checks_passed'] + c['checks_failed']:<3}"
        f"{c['checks_failed']:>8}{c['warnings']:>8}{c['seconds']:>7.1f}"
        for c in told["cells"]
    ]
    return "\n".join([head, *rows])


def verdict(outcomes: Sequence[Outcome], entries: Sequence[baseline.Entry]) -> list[str]:
    """What stands against success, a line each: failures that the baseline does not know, entries that are stale."""
    lines = []
    for outcome in outcomes:
        known = set(outcome.excused)
        for check in outcome.run.checks:
            if check.failed and f"{check.scenario}:{check.id}" not in known:
                said = " ".join(check.message.split())[:240]
                lines.append(f"{outcome.cell} {check.scenario}:{check.id} {check.status.lower()}: {said}")
    runs = {outcome.cell: outcome.run.checks for outcome in outcomes}
    lines += [f"baseline entry {entry} excuses nothing any more; remove it" for entry in baseline.stale(entries, runs)]
    return lines


def write(told: dict[str, Any]) -> None:
    SUMMARY.write_text(json.dumps(told, indent=2) + "\n")
