"""Each scripted story ends as written. To write anew what is seen: TOOLMESH_SCENARIOS=write, then read the diff."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.simulation.scenario import Scenario, texts


@pytest.mark.parametrize("path", texts(), ids=lambda p: p.stem)
def test_the_story_goes_as_written(path: Path) -> None:
    expected = path.read_text("utf-8")
    seen = Scenario().play(expected)
    if os.environ.get("TOOLMESH_SCENARIOS") == "write":
        path.write_text(seen, "utf-8")
    assert seen == expected


def test_there_are_stories() -> None:
    assert len(texts()) >= 5
