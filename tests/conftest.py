"""What is missing on this machine is skipped, loudly; with TOOLMESH_TESTS_STRICT=1 a skip is a failure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is: that is a benchmark's to measure.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

# What helpers of tests assert tells what it saw, as what tests themselves assert does.
pytest.register_assert_rewrite(*(f"tests.{part.name}" for part in Path(__file__).parent.iterdir() if part.is_dir()))

MARKERS = {
    "browser": "drives Debian's Chromium",
    "lab": "needs network namespaces, so root",
    "models": "needs sentence-transformers and torch",
    "oauth": "asks a real authorization server",
    "servers": "runs servers of npm and PyPI",
}
"""Of tests that `make MARKER` runs and a plain run leaves out."""

STRICT = os.environ.get("TOOLMESH_TESTS_STRICT") == "1"


def pytest_configure(config: pytest.Config) -> None:
    for marker, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{marker}: {meaning}; run by 'make {marker}' (-m {marker})")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Left out, not skipped: a skip says that something is missing here that should be there."""
    if config.option.markexpr:
        return
    left_out = [item for item in items if any(item.get_closest_marker(marker) for marker in MARKERS)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if STRICT:
            report.outcome = "failed"
            report.longrepr = f"skipped, which is not allowed here: {reason}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # Of its own reports, since tests may run in other processes than the one that tells.
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if not hasattr(r, "wasxfail")]
    if skipped:
        terminalreporter.section("NOT TESTED on this machine", sep="!", red=True, bold=True)
        for report in skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            terminalreporter.write_line(f"{report.nodeid}: {reason}", red=True)
