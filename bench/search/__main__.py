"""`python -m bench.search --data DIR`: how well tools are found, as `toolmesh eval` measures it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from node.verbs.evaluating import evaluate
from proto.errors import MeshError


def main() -> None:
    parser = argparse.ArgumentParser("bench.search", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a set, or a folder of sets")
    parser.add_argument("--sets", default="", help="names of sets, separated by commas; all of them by default")
    parser.add_argument("--retriever", default="all", help="router, bm25, dense, rrf, separated by commas")
    parser.add_argument("--embedder", default="minilm")
    parser.add_argument("--vectors", type=Path, help="folder where vectors are kept between runs")
    parser.add_argument("--crowd", action="store_true", help="search all corpora at once")
    parser.add_argument("--limit", type=int, default=0, help="queries of each set at most")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON")
    asked = parser.parse_args()
    try:
        print(
            evaluate(
                asked.data,
                retrievers=asked.retriever,
                names=asked.sets,
                crowd=asked.crowd,
                limit=asked.limit,
                embedder=asked.embedder,
                vectors=asked.vectors,
                json=asked.out,
            )
        )
    except MeshError as e:
        sys.exit(f"bench.search: {e.message}")


if __name__ == "__main__":
    main()
