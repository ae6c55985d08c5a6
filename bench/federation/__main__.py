"""`make bench-federation`: what the federation costs and how fast it is. Writes bench/results/federation.json.

`--quick` measures a little of everything, in half a minute, and writes nothing; `--only PART` one part. A part that
could not be measured says why, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import uvloop

from bench.echo import bare_stream
from bench.federation.bulk import bulk, idle
from bench.federation.failing import disturbances, false_alarms, frozen, killed
from bench.federation.fleet import ROOT, Fleet
from bench.federation.spread import spread
from bench.federation.table import table
from bench.federation.words import MESH
from federation.ca import issue
from federation.tls import MeshTls
from node.demo.world import free_port
from proto.names import NodeId

RESULTS = Path(__file__).parents[1] / "results" / "federation.json"
PINGS = 400


@dataclass(frozen=True)
class Size:
    """How much of everything is measured."""

    small: int = 10
    large: int = 40
    changes: int = 120
    changes_large: int = 60
    kills: int = 3
    freezes: int = 2
    idle_s: float = 25.0
    wide_changes: int = 90
    cuts: int = 2
    owners: int = 20
    tools: int = 5_000
    changed: int = 10
    body_bytes: int = 1_000
    servers: int = 50


QUICK = Size(
    small=4, large=0, changes=12, kills=1, freezes=0, idle_s=2.0, wide_changes=0, owners=2, tools=300, servers=3
)


async def small(directory: Path, size: Size) -> dict[str, Any]:
    """Ten nodes on loopback: a change, idling, deaths; and what a bare stream does meanwhile."""
    async with Fleet.of(directory, size.small) as fleet:
        await fleet.meet()
        figures: dict[str, Any] = {"bare_round_trip_ms": await _bare_round_trip_ms(fleet)}
        figures["change"] = await spread(fleet, size.changes, 0.12)
        figures["idle"] = await idle(fleet, size.idle_s)
        figures["killed"] = await killed(fleet, size.kills)
        if size.freezes:
            figures["frozen"] = await frozen(fleet, size.freezes)
        figures["false_suspicions"] = await false_alarms(fleet, disturbances(fleet))
    return figures


async def large(directory: Path, size: Size) -> dict[str, Any]:
    """Forty nodes on as many cores as there are."""
    if not size.large:
        return {"skipped": "not in a quick run"}
    async with Fleet.of(directory, size.large) as fleet:
        await fleet.meet()
        figures: dict[str, Any] = {"bare_round_trip_ms": await _bare_round_trip_ms(fleet)}
        figures["change"] = await spread(fleet, size.changes_large, 0.35)
        figures["false_suspicions"] = await false_alarms(fleet, disturbances(fleet))
    return figures


async def regions(directory: Path, size: Size) -> dict[str, Any]:
    """Three regions of three, if this process may make networks."""
    if not size.wide_changes:
        return {"skipped": "not in a quick run"}
    # Late: it stands on the lab of the tests, which a machine without it need not have.
    from bench.federation.wide import wide

    return await wide(directory, size.wide_changes, size.cuts)


async def records(directory: Path, size: Size) -> dict[str, Any]:
    return await bulk(directory, size.owners, size.tools, size.body_bytes, size.changed)


async def catalogue(_directory: Path, size: Size) -> dict[str, Any]:
    shape = (size.owners, size.servers, size.tools // size.servers)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.federation.tools", *map(str, shape), stdout=-1, cwd=ROOT
    )
    output, _ = await process.communicate()
    found: dict[str, Any] = json.loads(output)
    return found


async def _bare_round_trip_ms(fleet: Fleet) -> float:
    """A frame there and one back over the same TLS, beside the running mesh: this machine at this moment."""
    port = free_port(0)
    files = issue(fleet.ca, NodeId.of(MESH, "eu", "echo"), fleet.directory / "echo", hosts=["127.0.0.1"])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.echo", str(port), *map(str, files), cwd=ROOT
    )
    try:
        async with bare_stream(port, MeshTls.load(*files), PINGS) as bare:
            await bare()
            return round(await bare(), 3)
    finally:
        process.kill()
        await process.wait()


Part = Callable[[Path, Size], Awaitable[dict[str, Any]]]
PARTS: tuple[Part, ...] = (small, large, regions, records, catalogue)


async def main() -> int:
    names = [part.__name__ for part in PARTS]
    parser = argparse.ArgumentParser("bench.federation", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a little of everything; writes nothing")
    parser.add_argument("--only", choices=names, action="append", help="a part; writes nothing")
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
            try:
                figures[part.__name__] = await part(Path(directory), QUICK if asked.quick else Size())
            except (TimeoutError, RuntimeError) as e:
                # The other parts are worth having all the same.
                figures[part.__name__] = {"failed": str(e)}
        took = time.monotonic() - began
        print(f"{part.__name__:10} {took:5.1f} s ", json.dumps(figures[part.__name__]), flush=True)
    print(table(figures))
    if not asked.quick and not asked.only:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(figures, indent=2) + "\n")
    return int(any("failed" in found for found in figures.values() if isinstance(found, dict)))


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
