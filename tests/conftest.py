"""What is missing on this machine is skipped, loudly; with TOOLMESH_TESTS_STRICT=1 a skip is a failure."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

STRICT = os.environ.get("TOOLMESH_TESTS_STRICT") == "1"
_skipped: list[str] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if STRICT:
            report.outcome = "failed"
            report.longrepr = f"skipped, which is not allowed here: {reason}"
        else:
            _skipped.append(f"{item.nodeid}: {reason}")
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skipped:
        terminalreporter.section("NOT TESTED on this machine", sep="!", red=True, bold=True)
        for line in _skipped:
            terminalreporter.write_line(line, red=True)
