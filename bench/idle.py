"""What agents cost that have a session and a stream open, and say nothing."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from yarl import URL

from bench.caller import LEGACY, ready
from bench.rig import Rig, raise_descriptors, rss_mb
from bench.size import Size

OPEN_S = 120.0


async def idle(rig: Rig, size: Size) -> dict[str, Any]:
    """Resident memory of a node before and with all of them."""
    gc.collect()
    raise_descriptors()
    servers = {"bench": {"url": await rig.upstream(LEGACY), "stateless": True}}
    node, url, _ = await rig.node(servers=servers)
    await rig.until(lambda: ready(rig.session, f"{url}/mcp/bench", LEGACY))
    before_mb = rss_mb(node)
    at = URL(url)
    # One session more is open: that of the test above.
    count = size.sessions - 1
    await rig.spawn("bench.sleepers", str(at.host), str(at.port), "/mcp/bench", str(count), stdout=-1)
    output = rig.processes[-1].stdout
    assert output is not None
    async with asyncio.timeout(OPEN_S):
        if await output.readline() != b"open\n":
            raise RuntimeError(f"the sessions could not be opened; see the logs in {rig.directory}")
    async with rig.session.get(f"{url}/readyz") as response:
        assert response.status == 200
    with_all_mb = rss_mb(node)
    return {
        "sessions": count,
        "rss_before_mb": round(before_mb, 1),
        "rss_mb": round(with_all_mb, 1),
        "kb_per_session": round((with_all_mb - before_mb) * 1024 / count, 1),
    }
