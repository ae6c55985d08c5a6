"""Tests with the marker `models` need torch: `make models` runs them, in a venv of their own."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "models: needs sentence-transformers and torch; run by 'make models' (-m models)"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Left out, not skipped: a skip says that something is missing here that should be there."""
    if config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("models")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
