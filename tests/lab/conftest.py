"""Tests with the marker `lab` build networks and need root: `make lab` runs them, a plain run leaves them out."""

from __future__ import annotations

import pytest

from tests.lab import netns


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lab: needs network namespaces, so root; run by 'make lab' (-m lab)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Left out, not skipped: a skip says that something is missing here that should be there."""
    if config.option.markexpr:
        return
    lab = [item for item in items if item.get_closest_marker("lab")]
    if lab:
        config.hook.pytest_deselected(items=lab)
        items[:] = [item for item in items if item not in lab]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("lab") and (reason := netns.lacking()):
        pytest.skip(reason)
