"""Three regions of three nodes, 40, 60 and 90 ms apart: a change, a region that is cut off, and its return."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from bench.federation.failing import cut_off, false_alarms
from bench.federation.figures import ms, rounded
from bench.federation.fleet import Fleet, Node
from bench.federation.spread import spread
from tests.lab import netns
from tests.lab.net import WITHIN_MS, Lab

REGIONS = {region: tuple(f"{region}-{i}" for i in (1, 2, 3)) for region in ("eu", "us", "ap")}
DELAYS = {frozenset({"eu", "us"}): 40.0, frozenset({"us", "ap"}): 60.0, frozenset({"eu", "ap"}): 90.0}
FAR = "ap"
CUT_S = 5.0


async def wide(directory: Path, changes: int, cuts: int) -> dict[str, Any]:
    """Needs root; says so instead of figures where it cannot."""
    if reason := netns.lacking():
        return {"skipped": reason}
    async with await Lab.up(REGIONS, DELAYS) as lab:
        places = [(node, region, lab.address(node)) for region, nodes in REGIONS.items() for node in nodes]
        async with Fleet(directory, places, lab.start) as fleet:
            await fleet.meet()
            figures: dict[str, Any] = {"change": await spread(fleet, changes, 0.2, one_way_ms)}
            cut_at = 0
            rounds = []
            for i in range(cuts):
                cut_at = cut_at or time.monotonic_ns()
                rounds.append(await _cut(lab, fleet, i))
            figures["cut"] = max((cut for cut, _ in rounds), key=lambda c: float(c["decided_max_ms"]))
            figures["heal"] = max((heal for _, heal in rounds), key=lambda h: float(h["took_s"]))
            sides = {node.name: node.region == FAR for node in fleet.nodes}
            figures["false_suspicions"] = await false_alarms(
                fleet, lambda at, observer, owner: at >= cut_at and sides[observer] != sides[owner]
            )
    return figures


def one_way_ms(a: Node, b: Node) -> float:
    return DELAYS.get(frozenset({a.region, b.region}), WITHIN_MS)


async def _cut(lab: Lab, fleet: Fleet, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cut the far region off, change something at every node, heal."""
    far = [n for n in fleet.nodes if n.region == FAR]
    before = await fleet.whole()
    at = time.monotonic_ns()
    lab.cut_region(FAR)
    pause = asyncio.create_task(asyncio.sleep(CUT_S))
    noticed = await cut_off(fleet, far, at)
    names = [f"cut{number}-{n.name}" for n in fleet.nodes]
    await asyncio.gather(*(n.ask("change", name=name) for n, name in zip(fleet.nodes, names, strict=True)))
    await pause
    at = time.monotonic_ns()
    lab.heal()
    changes = {n: [f"bench/{name}" for name in names if name != f"cut{number}-{n.name}"] for n in fleet.nodes}
    after = await asyncio.gather(
        *(n.ask("until", alive=len(fleet.nodes) - 1, seen=seen) for n, seen in changes.items())
    )
    healed = {
        "took_s": ms(max(a["at"] for a in after) - at) / 1e3,
        "changes_meanwhile": len(names),
        "snapshots": sum(a["snapshots"] - b["snapshots"] for a, b in zip(after, before, strict=True)),
        "received_kb_per_node": sum(
            a["received_bytes"] - b["received_bytes"] for a, b in zip(after, before, strict=True)
        )
        / len(fleet.nodes)
        / 1e3,
    }
    return noticed, rounded(healed)
