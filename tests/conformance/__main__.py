"""`make conformance`: the pinned suite against the fixture, one node, two nodes, and our upstream client.

Exit status: 0 when no check fails that the baseline does not know; 1 otherwise, or when the baseline is stale.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from fnmatch import fnmatchcase
from pathlib import Path

from tests.conformance import baseline, report, suite
from tests.conformance.cells import CLIENTS, LANES, Cell, Outcome
from tests.conformance.world import FAR, NEAR, World

CLIENT = f"{sys.executable} -m tests.conformance.client"
TIMEOUT_MS = 60_000
"""For one scenario, on a machine that does other things too; twice of what the suite gives by itself."""


async def run(cell: Cell, world: World, out: Path) -> suite.Run:
    where = out / str(cell).replace("/", "-")
    if cell.place == "client":
        return await suite.run("client", cell.revision, where, "--command", CLIENT, "--timeout", str(TIMEOUT_MS))
    urls = {
        "direct": lambda: world.fixture("direct"),
        "one": lambda: world.node(NEAR, cell.server),
        "two": lambda: world.node(FAR, cell.server),
    }
    return await suite.run("server", cell.revision, where, "--url", urls[cell.place](), "--timeout", str(TIMEOUT_MS))


async def measure(wanted: str, out: Path) -> list[Outcome]:
    entries = baseline.load()
    asked = [[cell for cell in lane if fnmatchcase(str(cell), wanted)] for lane in LANES]

    async def drive(lane: list[Cell]) -> list[Outcome]:
        outcomes = []
        for cell in lane:
            done = await run(cell, world, out)
            print(f"{cell!s:<28} {done.seconds:5.1f} s", file=sys.stderr, flush=True)
            outcomes.append(Outcome(cell, done, baseline.excused(entries, cell, done.checks)))
        return outcomes

    async with World(suite.emptied(out / "world")) as world:
        async with asyncio.TaskGroup() as tasks:
            driven = [tasks.create_task(drive(lane)) for lane in asked]
        outcomes = [outcome for lane in driven for outcome in lane.result()]
        # By itself: the suite starts dozens of clients at once, beside which nothing else comes to its turn.
        return outcomes + await drive([cell for cell in CLIENTS if fnmatchcase(str(cell), wanted)])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--cells", default="*", help="pattern of PLACE/SERVER/REVISION, such as 'one/*'")
    parser.add_argument("--out", type=Path, help="keep what each scenario saw, and the logs, in this directory")
    args = parser.parse_args()
    if not suite.installed():
        print("the suite is not installed: npm install --prefix tests/conformance", file=sys.stderr)
        return 1
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="conformance-") as temporary:
        outcomes = asyncio.run(measure(args.cells, args.out or Path(temporary)))
    told = report.summary(outcomes, time.monotonic() - began)
    if args.cells == "*":
        report.write(told)
    print(report.table(told))
    against = report.verdict(outcomes, baseline.load())
    print("\n".join(against) or "every check passes, or is in the baseline with its reason")
    return 1 if against else 0


sys.exit(main())
