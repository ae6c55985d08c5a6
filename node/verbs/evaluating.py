"""`toolmesh eval`: how well search finds the right tools of sets of queries, beside plain retrievers in one run."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from node.settings.endpoint import HTTP
from node.verbs.tables import safe
from proto import jsons
from proto.errors import Invalid
from router.embedders.onnx_runner import Precision
from router.evaluation import figures, report, sets
from router.evaluation.models import make_models
from router.evaluation.running import RETRIEVERS, Plan, run

ALL = "all"
_SWITCH: dict[str, bool | Path] = {"true": True, "false": False}


def evaluate(
    data: Path,
    *,
    retrievers: str = ALL,
    names: str = "",
    crowd: bool = False,
    limit: int = 0,
    embedder: str,
    adapter: str = "true",
    precision: Precision = "int8",
    vectors: Path | None = None,
    json: Path | None = None,
) -> str:
    """The table. Progress goes to stderr, the figures as JSON to the file `json`; vectors are kept in `vectors`.

    `adapter` is `true` (the one that ships), `false` or a file. Raises `Invalid` before anything is measured.
    """
    if embedder == HTTP:
        raise Invalid("--embedder 'http' is a node's; name a model, or 'none'")
    if json is not None and not json.parent.is_dir():
        raise Invalid(f"--json: {json.parent} is not a directory; make it, or name another file")
    if vectors is not None:
        _make(vectors)
    model = make_models(embedder, vectors, adapter=_SWITCH.get(adapter, Path(adapter)), precision=precision)
    plan = Plan(chosen(retrievers), crowd=crowd, limit=limit)
    reading = sets.read(data, _split(names))
    for remark in reading.remarks:
        _say(f"note: {remark}")
    found = asyncio.run(run(reading, model, plan, _say))
    if json:
        json.write_bytes(jsons.dumps(figures.as_json(found)) + b"\n")
    return safe(report.text(found))


def chosen(retrievers: str) -> tuple[str, ...]:
    """Of a list with commas, in the order in which they are shown."""
    asked = _split(retrievers)
    if unknown := [name for name in asked if name not in (*RETRIEVERS, ALL)]:
        raise Invalid(f"--retriever {unknown[0]!r} is unknown; choose of {', '.join((*RETRIEVERS, ALL))}")
    return RETRIEVERS if ALL in asked or not asked else tuple(name for name in RETRIEVERS if name in asked)


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise Invalid(f"--vectors: {directory} is not a directory, nor can be made one: {e.strerror}") from None


def _split(names: str) -> list[str]:
    return [name for part in names.split(",") if (name := part.strip())]


def _say(line: str) -> None:
    print(safe(line), file=sys.stderr, flush=True)
