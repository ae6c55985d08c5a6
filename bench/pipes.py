"""A server over pipes, called directly and through a node by the same client.

Two clients: the SDK's, which is what agents have, and a bare one, which shows what the way itself takes. The SDK's
comes by pipes as well (`toolmesh stdio`: the same client on the same transport) and by HTTP.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from bench.caller import LEGACY, Caller, ready
from bench.rig import Rig
from bench.size import Size

ROUNDS = 3
SERVER = ["-m", "bench.upstream", LEGACY, "1"]
TEXT = "x" * 200


async def pipes(rig: Rig, size: Size) -> dict[str, Any]:
    _, base, _ = await rig.node(servers={"bench": {"command": [sys.executable, *SERVER], "stateless": True}})
    url = f"{base}/mcp/bench"
    await rig.until(lambda: ready(rig.session, url, LEGACY))
    sdk, bare = await _sdk(base, url, size.pipe_calls), await _bare(rig, url, size.pipe_calls)
    return {
        "sdk_direct_p50_ms": round(statistics.median(d for d, _, _ in sdk), 3),
        "sdk_by_pipes_p50_ms": round(statistics.median(p for _, p, _ in sdk), 3),
        "sdk_by_pipes_ratio": round(statistics.median(p / d for d, p, _ in sdk), 2),
        "sdk_by_http_p50_ms": round(statistics.median(h for _, _, h in sdk), 3),
        "sdk_by_http_ratio": round(statistics.median(h / d for d, _, h in sdk), 2),
        "bare_direct_p50_ms": round(statistics.median(d for d, _ in bare), 3),
        "bare_through_p50_ms": round(statistics.median(t for _, t in bare), 3),
        "bare_added_ms": round(statistics.median(t - d for d, t in bare), 3),
    }


async def _sdk(base: str, url: str, calls: int) -> list[tuple[float, float, float]]:
    """(direct, through a node by pipes, through it by HTTP), p50 in milliseconds, by the SDK's client."""

    async def p50_ms(client: Client) -> float:
        took = []
        for _ in range(calls):
            began = time.perf_counter()
            await client.call_tool("echo", {"text": TEXT})
            took.append((time.perf_counter() - began) * 1e3)
        return statistics.median(took)

    async with AsyncExitStack() as stack:
        server = StdioServerParameters(command=sys.executable, args=SERVER)
        toolmesh = str(Path(sys.executable).with_name("toolmesh"))
        pipe = StdioServerParameters(command=toolmesh, args=["stdio", "--url", base, "--server", "bench"])
        direct = await stack.enter_async_context(Client(server, mode="legacy"))
        by_pipes = await stack.enter_async_context(Client(pipe, mode="legacy"))
        by_http = await stack.enter_async_context(Client(url, mode="legacy"))
        for client in (direct, by_pipes, by_http):
            await client.list_tools()
            await p50_ms(client)
        return [(await p50_ms(direct), await p50_ms(by_pipes), await p50_ms(by_http)) for _ in range(ROUNDS)]


async def _bare(rig: Rig, url: str, calls: int) -> list[tuple[float, float]]:
    """The same by lines on a pipe, and by bare HTTP."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *SERVER, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    params = {"name": "echo", "arguments": {"text": TEXT}}
    line = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}) + b"\n"

    async def direct() -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        took = []
        for _ in range(calls):
            began = time.perf_counter()
            process.stdin.write(line)
            orjson.loads(await process.stdout.readline())
            took.append((time.perf_counter() - began) * 1e3)
        return statistics.median(took)

    caller = await Caller.of(rig.session, url, LEGACY)
    try:
        await direct()
        return [(await direct(), await caller.p50_ms(calls)) for _ in range(ROUNDS)]
    finally:
        process.stdin.close()
        await process.wait()
