"""`make bench-search`: what search costs on one core, how well it finds. Writes bench/results/search.json.

    python -m bench.search                      every part but quality, some ten minutes
    python -m bench.search --only PART          one part; the others keep their figures
    python -m bench.search --quality FILE       none; takes in what `toolmesh eval [--crowd] --json FILE` wrote
    python -m bench.search --all --data DIR     every part, and quality on the sets in DIR
    python -m bench.search --data DIR           quality alone, printed as `toolmesh eval` prints it; writes nothing
    python -m bench.search --tables             none; writes the tables in docs/ anew

All that write put their tables into docs/. Read the ratios, and processor times: machines differ, and some are busy.
`--quick` measures a little of everything and writes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.search import pages, results
from bench.search.answers import answers
from bench.search.freshness import freshness
from bench.search.hidden import hidden
from bench.search.indexing import indexing
from bench.search.latency import latency
from bench.search.quality import quality
from bench.search.rig import QUICK, Size, cpu_s, one_core, reference_ms
from bench.search.starting import starting
from bench.search.table import table
from node.verbs.evaluating import evaluate
from proto.errors import MeshError

Part = Callable[[Size], Awaitable[dict[str, Any]]]
PARTS: tuple[Part, ...] = (starting, latency, hidden, freshness, indexing, answers)
assert tuple(p.__name__ for p in PARTS) == results.PARTS


def main() -> int:
    asked = _arguments()
    try:
        if asked.tables or asked.quality:
            found = {results.QUALITY: results.quality(asked.quality)} if asked.quality else {}
            pages.write(results.merge(found) if found else results.read())
            return 0
        if asked.data and not asked.all:
            print(_evaluated(asked))
            return 0
    except (MeshError, OSError, ValueError) as e:
        sys.exit(f"bench.search: {e.message if isinstance(e, MeshError) else e}")
    return asyncio.run(_measured(asked))


async def _measured(asked: argparse.Namespace) -> int:
    about = {"python": platform.python_version(), "machine": platform.machine(), "core": one_core()}
    with tempfile.TemporaryDirectory(prefix="toolmesh-bench-") as temporary:
        kept = asked.kept or Path(temporary)
        kept.mkdir(parents=True, exist_ok=True)
        return await _parts(asked, about, replace(QUICK if asked.quick else Size(), real=asked.real, kept=str(kept)))


async def _parts(asked: argparse.Namespace, about: dict[str, Any], size: Size) -> int:
    found: dict[str, Any] = {}
    for part in PARTS:
        if not asked.only or part.__name__ in asked.only:
            found[part.__name__] = await _part(part, size)
            _keep(asked, about | found)
    if asked.data:
        found[results.QUALITY] = await quality(asked.data, asked.vectors)
        _keep(asked, about | found)
    print(table(found))
    return int(any("failed" in each for each in found.values()))


async def _part(part: Part, size: Size) -> dict[str, Any]:
    began, used = time.monotonic(), cpu_s()
    before = reference_ms()
    try:
        figures = await part(size)
    except (AssertionError, MeshError, OSError, RuntimeError, TimeoutError, subprocess.SubprocessError) as e:
        # The other parts are worth having all the same.
        figures = {"failed": f"{type(e).__name__}: {e}"}
    figures |= {"took_s": round(time.monotonic() - began, 1), "took_cpu_s": round(cpu_s() - used, 1)}
    figures |= {"references_ms": [round(before, 3), round(reference_ms(), 3)]}
    print(f"{part.__name__:10} {figures['took_s']:6.1f} s, {figures['took_cpu_s']:6.1f} s of the processor ", end="")
    print(json.dumps(figures), flush=True)
    return figures


def _keep(asked: argparse.Namespace, found: dict[str, Any]) -> None:
    """After each part: who stops the rest keeps what there is."""
    if not asked.quick:
        pages.write(results.merge(found))


def _evaluated(asked: argparse.Namespace) -> str:
    return evaluate(
        asked.data,
        retrievers=asked.retriever,
        names=asked.sets,
        crowd=asked.crowd,
        limit=asked.limit,
        embedder=asked.embedder,
        adapter=asked.adapter,
        precision=asked.precision,
        vectors=asked.vectors,
        json=asked.out,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench.search", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a little of everything; writes nothing")
    parser.add_argument("--only", choices=[p.__name__ for p in PARTS], action="append", help="a part, or several")
    parser.add_argument(
        "--kept", type=Path, help="folder where starting leaves its index for latency; else a passing one"
    )
    parser.add_argument("--real", action="store_true", help="no stand-ins: the model embeds every text, for an hour")
    parser.add_argument("--all", action="store_true", help="with --data: every figure, not quality alone")
    parser.add_argument("--quality", type=Path, action="append", help="a report of toolmesh eval --json, or several")
    parser.add_argument("--tables", action="store_true", help="measure nothing; write the tables in docs/")
    parser.add_argument("--data", type=Path, help="a set, or a folder of sets")
    parser.add_argument("--vectors", type=Path, help="folder where the sets' vectors are kept between runs")
    alone = parser.add_argument_group("with --data alone")
    alone.add_argument("--sets", default="", help="names of sets, separated by commas; all of them by default")
    alone.add_argument("--retriever", default="all", help="router, bm25, dense, rrf, separated by commas")
    alone.add_argument("--embedder", default="minilm")
    alone.add_argument("--adapter", default="true", help="true, false or a file")
    alone.add_argument("--precision", default="int8", choices=["int8", "float32"])
    alone.add_argument("--crowd", action="store_true", help="search all corpora at once")
    alone.add_argument("--limit", type=int, default=0, help="queries of each set at most")
    alone.add_argument("--out", type=Path, help="file for the figures as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
