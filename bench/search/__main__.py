"""`make bench-search`: what search costs on one core, how well it finds. Writes bench/results/search.json.

    python -m bench.search                      every figure but quality
    python -m bench.search --data DIR           quality alone, on the sets in DIR, as `toolmesh eval` tells it
    python -m bench.search --all --data DIR     both: writes bench/results/search.json and the tables in docs/
    python -m bench.search --tables             the tables in docs/ from bench/results/search.json

Read the ratios: machines differ. `--quick` measures a little of everything, `--only PART` one part; neither writes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.search import pages
from bench.search.answers import answers
from bench.search.freshness import freshness
from bench.search.indexing import indexing
from bench.search.latency import latency
from bench.search.quality import quality
from bench.search.rig import QUICK, Size, one_core
from bench.search.starting import starting
from bench.search.table import quality_table, table
from node.verbs.evaluating import evaluate
from proto.errors import MeshError

RESULTS = Path(__file__).parents[1] / "results" / "search.json"

Part = Callable[[Size], Awaitable[dict[str, Any]]]
PARTS: tuple[Part, ...] = (latency, freshness, indexing, answers, starting)


def main() -> int:
    asked = _arguments()
    if asked.tables:
        pages.write(json.loads(RESULTS.read_text()))
        return 0
    if asked.data and not asked.all:
        try:
            print(_evaluated(asked))
        except MeshError as e:
            sys.exit(f"bench.search: {e.message}")
        return 0
    return asyncio.run(_measured(asked))


async def _measured(asked: argparse.Namespace) -> int:
    figures: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine(), "core": one_core()}
    size = QUICK if asked.quick else Size(real=asked.real)
    for part in PARTS:
        if asked.only and part.__name__ not in asked.only:
            continue
        began = time.monotonic()
        try:
            figures[part.__name__] = await part(size)
        except (AssertionError, MeshError, OSError, RuntimeError, TimeoutError) as e:
            # The other parts are worth having all the same.
            figures[part.__name__] = {"failed": f"{type(e).__name__}: {e}"}
        print(f"{part.__name__:10} {time.monotonic() - began:6.1f} s ", json.dumps(figures[part.__name__]), flush=True)
    if asked.data:
        figures["quality"] = await quality(asked.data, asked.vectors)
        print(quality_table(figures["quality"]["alone"], figures["quality"]["crowd"]))
    print(table(figures))
    if not (asked.quick or asked.only):
        RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
        pages.write(figures)
    return int(any("failed" in found for found in figures.values() if isinstance(found, dict)))


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
    parser.add_argument("--only", choices=[p.__name__ for p in PARTS], action="append", help="a part; writes nothing")
    parser.add_argument("--real", action="store_true", help="no stand-ins: the model embeds every text, for an hour")
    parser.add_argument("--all", action="store_true", help="with --data: every figure, not quality alone")
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
