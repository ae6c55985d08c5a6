"""bench/results/search.json: the figures of each part, as of the last time that it was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from router.evaluation.running import RETRIEVERS

RESULTS = Path(__file__).parents[1] / "results" / "search.json"

PARTS = ("starting", "latency", "hidden", "freshness", "indexing", "answers")
ABOUT = ("python", "machine", "core")
QUALITY = "quality"

_OF_A_REPORT = ("sets", "mean", "honesty", "crowd", "embedder")


def read(path: Path = RESULTS) -> dict[str, Any]:
    """What is known by its name; nothing where there is no file."""
    kept = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return {name: kept[name] for name in (*ABOUT, *PARTS, QUALITY) if name in kept}


def merge(found: Mapping[str, Any], path: Path = RESULTS) -> dict[str, Any]:
    """All that is known now. What has just been measured takes the place of what was, unless it failed."""
    kept = read(path)
    sound = {name: part for name, part in found.items() if not (isinstance(part, dict) and "failed" in part)}
    if QUALITY in sound:
        before = kept.get(QUALITY, {})
        sound[QUALITY] = {**before, **{way: _joined(before.get(way), r) for way, r in sound[QUALITY].items()}}
    kept.update(sound)
    path.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    return kept


def quality(reports: Sequence[Path]) -> dict[str, Any]:
    """What `toolmesh eval --json` wrote, by whether the sets were searched alone or as a crowd. Raises `ValueError`."""
    found: dict[str, Any] = {}
    for path in reports:
        report = json.loads(path.read_text("utf-8"))
        if not isinstance(report, dict) or not set(_OF_A_REPORT) <= set(report):
            raise ValueError(f"{path}: not a report; have one written by `toolmesh eval --data DIR --json FILE`")
        way = "crowd" if report["crowd"] else "alone"
        found[way] = _joined(found.get(way), report)
    return found


def _joined(before: dict[str, Any] | None, report: dict[str, Any]) -> dict[str, Any]:
    """Retrievers that only `before` has are kept where both asked the same queries of the same sets."""
    if before is None or _asked(before) != _asked(report):
        return report
    pairs = zip(before["sets"], report["sets"], strict=True)
    sets = [{**b, **r, "retrievers": _in_order({**b["retrievers"], **r["retrievers"]})} for b, r in pairs]
    routed = report if "router" in report["mean"] else before
    mean = _in_order({**before["mean"], **report["mean"]})
    return {**report, "sets": sets, "mean": mean, "honesty": routed["honesty"], "embedder": routed["embedder"]}


def _asked(report: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    return [(one["name"], one["queries"], one["tools"]) for one in report["sets"]]


def _in_order(retrievers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: retrievers[name] for name in RETRIEVERS if name in retrievers}
