"""One change, and when each peer has it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from bench.federation.figures import half, most, ms, rounded
from bench.federation.fleet import Fleet, Node

SETTLE_S = 2.0


async def spread(
    fleet: Fleet, changes: int, pause_s: float, one_way_ms: Callable[[Node, Node], float] = lambda _a, _b: 0.0
) -> dict[str, Any]:
    """Owners take turns; each change is one tool of some 300 bytes.

    `last_*`: from just before `publish` until the last peer's listener is told; `each_*`: until a peer's is.
    `beyond_*`: the same less the one-way delay between the two.
    """
    await fleet.each("seen")
    sent: dict[str, tuple[Node, int]] = {}
    for i in range(changes):
        owner = fleet.nodes[i % len(fleet.nodes)]
        answer = await owner.ask("change", name=f"c{i}")
        sent[f"bench/c{i}"] = owner, answer["at"]
        # Of no fixed length: else the changes keep step with the beats, or always miss them.
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
    await asyncio.sleep(SETTLE_S)
    arrived = {node: told["changes"] for node, told in zip(fleet.nodes, await fleet.each("seen"), strict=True)}
    each: list[float] = []
    beyond: list[float] = []
    last: list[float] = []
    for change, (owner, at) in sent.items():
        took = {node: ms(arrived[node][change] - at) for node in fleet.others(owner)}
        each += took.values()
        beyond += [t - one_way_ms(owner, node) for node, t in took.items()]
        last.append(max(took.values()))
    return rounded(
        {
            "nodes": len(fleet.nodes),
            "changes": changes,
            "last_p50_ms": half(last),
            "last_p99_ms": most(last),
            "each_p50_ms": half(each),
            "each_p99_ms": most(each),
            "beyond_p50_ms": half(beyond),
            "beyond_p99_ms": most(beyond),
        }
    )
