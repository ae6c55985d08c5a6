"""What a hop to another node adds, beside the round trip of a bare gRPC stream over the same mutual TLS."""

from __future__ import annotations

import statistics
from typing import Any

from bench.caller import LEGACY, MODERN, Caller, ready
from bench.echo import bare_stream
from bench.rig import MESH, Rig
from bench.size import Size
from federation.ca import init_ca, issue
from federation.tls import MeshTls
from node.demo.world import free_port
from proto.names import NodeId


async def forwarding(rig: Rig, size: Size) -> dict[str, Any]:
    ca = rig.directory / "ca"
    init_ca(ca, MESH)
    servers = {"bench": {"url": await rig.upstream(LEGACY), "stateless": True}}
    _, owner_url, port = await rig.node("ap", servers=servers, ca=ca)
    _, entry_url, _ = await rig.node("eu", ca=ca, peer=port)
    urls = [f"{url}/mcp/bench" for url in (owner_url, entry_url)]
    for url in urls:
        await rig.until(lambda url=url: ready(rig.session, url, MODERN))
    near, far = [await Caller.of(rig.session, url, MODERN) for url in urls]
    for caller in (near, far):
        await caller.p50_ms(size.hop_calls)
    echo = free_port(0)
    files = issue(ca, NodeId.of(MESH, "us", "us-1"), rig.directory / "us-1", hosts=["127.0.0.1"])
    await rig.spawn("bench.echo", str(echo), *map(str, files))
    rounds = []
    async with bare_stream(echo, MeshTls.load(*files), size.hop_calls) as bare:
        await bare()
        for _ in range(size.hop_rounds):
            rounds.append((await near.p50_ms(size.hop_calls), await far.p50_ms(size.hop_calls), await bare()))
    added = [f - n for n, f, _ in rounds]
    return {
        "owner_p50_ms": round(statistics.median(n for n, _, _ in rounds), 3),
        "forwarded_p50_ms": round(statistics.median(f for _, f, _ in rounds), 3),
        "added_p50_ms": round(statistics.median(added), 3),
        "added_min_max_ms": [round(min(added), 3), round(max(added), 3)],
        "bare_grpc_round_trip_p50_ms": round(statistics.median(b for _, _, b in rounds), 3),
        "added_over_bare": round(statistics.median((f - n) / b for n, f, b in rounds), 2),
    }
