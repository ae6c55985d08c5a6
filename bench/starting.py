"""From the start of a process to its first answer, and what it holds then."""

from __future__ import annotations

import statistics
import time
from typing import Any

from bench.caller import LEGACY
from bench.rig import Rig, rss_mb
from bench.size import Size


async def starting(rig: Rig, size: Size) -> dict[str, Any]:
    """To the first 200 of `/readyz`, of a node alone, with the model configured (it loads after agents are served)."""
    took = []
    for _ in range(size.starts):
        path, url, _ = rig.config("eu", embedder="minilm", servers={})
        began = time.perf_counter()
        await rig.spawn("node.cli", "up", "-c", str(path))
        await rig.until(lambda url=url: _serves(rig, url))
        took.append(time.perf_counter() - began)
        rig.processes[-1].terminate()
        await rig.processes[-1].wait()
    return {
        "start_to_serving_s": round(statistics.median(took), 2),
        "min_max_s": [round(min(took), 2), round(max(took), 2)],
    }


async def _serves(rig: Rig, url: str) -> bool:
    async with rig.session.get(f"{url}/readyz") as response:
        return response.status == 200


async def memory(rig: Rig, _size: Size) -> dict[str, Any]:
    """With the model loaded, one tool embedded, a search answered."""
    servers = {"bench": {"url": await rig.upstream(LEGACY), "stateless": True}}
    node, url, _ = await rig.node(embedder="minilm", servers=servers)

    async def indexed() -> bool:
        async with rig.session.get(f"{url}/api/v1/status") as response:
            search = (await response.json())["search"]
            return bool(search["embedded"]) and not search["pending"]

    await rig.until(indexed)
    async with rig.session.get(f"{url}/api/v1/search", params={"q": "repeat what I say"}) as response:
        assert response.status == 200
    return {"rss_mb_with_model": round(rss_mb(node), 1)}
