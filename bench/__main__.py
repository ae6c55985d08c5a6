"""`make bench`: what one node costs, beside bare parts in the same run. Writes bench/results/mcp.json.

Machines differ and are noisy: read the ratios. Every figure is the median of several rounds taken in turn. `--quick`
measures a little of everything, in half a minute, and writes nothing; `--only PART` one part. A part that could not be
measured says why, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import uvloop

from bench.doors import doors
from bench.guard import guard
from bench.hops import forwarding
from bench.hot_path import hot_path
from bench.idle import idle
from bench.pipes import pipes
from bench.rig import Rig
from bench.size import QUICK, Size
from bench.starting import memory, starting
from bench.table import table

RESULTS = Path(__file__).parent / "results" / "mcp.json"

Part = Callable[[Rig, Size], Awaitable[dict[str, Any]]]
PARTS: tuple[Part, ...] = (doors, guard, hot_path, forwarding, pipes, idle, starting, memory)


async def main() -> int:
    parser = argparse.ArgumentParser("bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a little of everything; writes nothing")
    parser.add_argument("--only", choices=[p.__name__ for p in PARTS], action="append", help="a part; writes nothing")
    asked = parser.parse_args()
    figures: dict[str, Any] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": psutil.cpu_count(),
    }
    for part in PARTS:
        if asked.only and part.__name__ not in asked.only:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="toolmesh-bench-") as directory:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
                rig = Rig(Path(directory), session)
                try:
                    figures[part.__name__] = await part(rig, QUICK if asked.quick else Size())
                except (TimeoutError, RuntimeError, AssertionError) as e:
                    # The other parts are worth having all the same.
                    figures[part.__name__] = {"failed": f"{type(e).__name__}: {e}"}
                finally:
                    await rig.stop()
        took = time.monotonic() - began
        print(f"{part.__name__:10} {took:5.1f} s ", json.dumps(figures[part.__name__]), flush=True)
    print(table(figures))
    if not asked.quick and not asked.only:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(figures, indent=2) + "\n")
    return int(any("failed" in found for found in figures.values() if isinstance(found, dict)))


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
