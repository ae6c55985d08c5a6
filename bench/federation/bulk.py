"""A hundred thousand records: fetched for the first time, and found on disk after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from bench.federation.figures import rounded
from bench.federation.fleet import Fleet

OWNERS_LOADING = 4


async def bulk(directory: Path, owners: int, tools: int, body_bytes: int, changed: int) -> dict[str, Any]:
    """`owners` nodes of `tools` tools each, which do not know each other, and one that comes to know them all.

    It is then stopped and started again; meanwhile `changed` tools of each owner have changed.
    """
    fleet = Fleet.of(directory, owners + 1)
    wanted = owners * (tools + 1)
    async with fleet:
        receiver, sources = fleet.nodes[0], fleet.nodes[1:]
        for i in range(0, owners, OWNERS_LOADING):
            await fleet.each("load", sources[i : i + OWNERS_LOADING], tools=tools, body_bytes=body_bytes)
        await receiver.ask("load", tools=0, body_bytes=body_bytes)
        before = await receiver.ask("status")
        found = [n.hint for n in sources]
        await receiver.ask("peers", found=found)
        after = await receiver.ask("until", alive=owners, records=wanted)
        cold = {
            "owners": owners,
            "records": after["records"],
            "took_s": (after["at"] - before["at"]) / 1e9,
            "cpu_s": after["cpu_s"] - before["cpu_s"],
            "received_mb": after["received_bytes"] / 1e6,
            "rss_before_mb": before["rss_mb"],
            "rss_after_mb": after["rss_mb"],
        }
        await receiver.stop()
        for i in range(changed):
            await fleet.each("change", sources, name=f"t{i}", body_bytes=body_bytes)
        await receiver.start()
        restored = receiver.restored
        await receiver.ask("load", tools=0, body_bytes=body_bytes)
        await receiver.ask("peers", found=found)
        again = await receiver.ask("until", alive=owners, records=wanted)
        warm = {
            "restored_records": restored["records"],
            "restored_s": restored["took_s"],
            "whole_again_s": (again["at"] - restored["at"]) / 1e9,
            "changed_meanwhile": changed * owners,
            "snapshots": again["snapshots"],
            "received_kb": again["received_bytes"] / 1e3,
            "rss_mb": again["rss_mb"],
        }
    return {"cold": rounded(cold), "restart": rounded(warm)}


async def idle(fleet: Fleet, seconds: float) -> dict[str, Any]:
    """Processor time of nodes that only hear each other, all their own work included."""
    before = await fleet.each("status")
    await asyncio.sleep(seconds)
    after = await fleet.each("status")
    pairs = list(zip(before, after, strict=True))
    peers, nodes = len(fleet.nodes) - 1, len(fleet.nodes)
    percent = sum(100 * (b["cpu_s"] - a["cpu_s"]) / ((b["at"] - a["at"]) / 1e9) for a, b in pairs) / nodes
    received = sum(b["received_bytes"] - a["received_bytes"] for a, b in pairs) / nodes / peers
    return rounded(
        {
            "peers": peers,
            "seconds": seconds,
            "core_percent": percent,
            "core_percent_per_peer": percent / peers,
            "bytes_per_s_per_peer": received / seconds,
        }
    )
