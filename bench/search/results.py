"""bench/results/search.json: the figures of each part, as of the last time that it was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results" / "search.json"

PARTS = ("starting", "latency", "hidden", "freshness", "indexing", "answers")
ABOUT = ("python", "machine", "core")
QUALITY = "quality"

_OF_A_REPORT = ("sets", "mean", "honesty", "crowd")


def read(path: Path = RESULTS) -> dict[str, Any]:
    """What is known by its name; nothing where there is no file."""
    kept = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return {name: kept[name] for name in (*ABOUT, *PARTS, QUALITY) if name in kept}


def merge(found: Mapping[str, Any], path: Path = RESULTS) -> dict[str, Any]:
    """All that is known now. What has just been measured takes the place of what was, unless it failed."""
    kept = read(path)
    sound = {name: part for name, part in found.items() if not (isinstance(part, dict) and "failed" in part)}
    if QUALITY in sound:
        sound[QUALITY] = {**kept.get(QUALITY, {}), **sound[QUALITY]}
    kept.update(sound)
    path.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    return kept


def quality(reports: list[Path]) -> dict[str, Any]:
    """What `toolmesh eval --json` wrote, by whether the sets were searched alone or as a crowd. Raises `ValueError`."""
    found = {}
    for path in reports:
        report = json.loads(path.read_text("utf-8"))
        if not isinstance(report, dict) or not set(_OF_A_REPORT) <= set(report):
            raise ValueError(f"{path}: not a report; have one written by `toolmesh eval --data DIR --json FILE`")
        found["crowd" if report["crowd"] else "alone"] = report
    return found
