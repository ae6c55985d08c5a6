"""How well the right tools are found on sets of queries: `toolmesh eval`, as part of the bench."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from router.evaluation import figures, report, sets
from router.evaluation.models import make_models
from router.evaluation.running import Plan, run


async def quality(data: Path, vectors: Path | None) -> dict[str, Any]:
    """Both ways: each set among its own tools, and all among the tools of all."""
    reading = sets.read(data)
    found: dict[str, Any] = {}
    for name, crowd in (("alone", False), ("crowd", True)):
        measured = await run(
            reading, make_models(directory=vectors), Plan(crowd=crowd), lambda line: print(line, file=sys.stderr)
        )
        print(report.text(measured), flush=True)
        found[name] = figures.as_json(measured)
    return found
