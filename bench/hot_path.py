"""What one call costs a node, beside a bare proxy in the same run: processor time and calls a second."""

from __future__ import annotations

import statistics
from typing import Any

import aiohttp
import psutil

from bench.caller import ERAS, LEGACY, Caller, ready
from bench.rig import Rig, cpu_s, rss_mb
from bench.size import Size
from node.demo.world import free_port


async def hot_path(rig: Rig, size: Size) -> dict[str, Any]:
    """By era, number of tools and connections: `legacy-1-16` is a session, one tool listed, 16 calls at once."""
    figures: dict[str, Any] = {}
    for era in ERAS:
        for tools in size.tools:
            found = await _beside_the_proxy(rig, size, era, tools)
            figures |= {f"{'legacy' if era == LEGACY else 'modern'}-{tools}-{n}": f for n, f in found.items()}
    ratios = [found["cpu_ratio"] for found in figures.values()]
    throughputs = [found["throughput_ratio"] for found in figures.values()]
    figures["worst"] = {"cpu_ratio": max(ratios), "throughput_ratio": min(throughputs)}
    figures["median"] = {
        "cpu_ratio": round(statistics.median(ratios), 2),
        "throughput_ratio": round(statistics.median(throughputs), 2),
    }
    return figures


async def _beside_the_proxy(rig: Rig, size: Size, era: str, tools: int) -> dict[int, dict[str, Any]]:
    url = await rig.upstream(era, tools)
    port = free_port(0)
    bare = await rig.spawn("bench.proxy", str(port), url)
    node, node_url, _ = await rig.node(servers={"bench": {"url": url, "stateless": True}})
    urls = {node: f"{node_url}/mcp/bench", bare: f"http://127.0.0.1:{port}/mcp"}
    for each in urls.values():
        await rig.until(lambda each=each: ready(rig.session, each, era))
    callers = {process: await Caller.of(rig.session, each, era) for process, each in urls.items()}
    for caller in callers.values():
        await caller.load(size.calls, max(size.connections))
    found = {}
    for at_once in size.connections:
        connector = aiohttp.TCPConnector(limit=at_once)
        async with aiohttp.ClientSession(connector=connector) as session:
            own = {p: Caller(session, c.url, c.body, c.headers) for p, c in callers.items()}
            found[at_once] = await _rounds(size, at_once, own, node, bare)
    found[size.connections[0]]["rss_mb"] = round(rss_mb(node), 1)
    await rig.stop()
    return found


async def _rounds(
    size: Size, at_once: int, callers: dict[psutil.Process, Caller], node: psutil.Process, bare: psutil.Process
) -> dict[str, Any]:
    """Node and proxy in turn; the medians of what each round found."""
    cpu: dict[psutil.Process, list[float]] = {node: [], bare: []}
    took: dict[psutil.Process, list[float]] = {node: [], bare: []}
    for number in range(size.rounds):
        # Neither always has the quieter half of a round.
        for process in (node, bare) if number % 2 else (bare, node):
            before = cpu_s(process)
            took[process].append(await callers[process].load(size.calls, at_once))
            cpu[process].append((cpu_s(process) - before) / size.calls * 1e6)
    ratios = [n / b for n, b in zip(cpu[node], cpu[bare], strict=True)]
    return {
        "node_cpu_us": round(statistics.median(cpu[node]), 1),
        "bare_cpu_us": round(statistics.median(cpu[bare]), 1),
        "cpu_ratio": round(statistics.median(ratios), 2),
        "cpu_ratio_min_max": [round(min(ratios), 2), round(max(ratios), 2)],
        "calls_per_s": round(size.calls / statistics.median(took[node])),
        "throughput_ratio": round(statistics.median(b / n for n, b in zip(took[node], took[bare], strict=True)), 2),
    }
