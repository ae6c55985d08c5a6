"""What the doors, and limits, cost: processor time of one request with them over the same without."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from aiohttp import web

from bench.rig import Rig
from bench.size import Size
from node.doors.door import DoorSettings
from node.doors.listener import Listener
from node.guard.measuring import MeasuredLimits
from node.settings.limits import LimitsSection
from proto.records import Principal

REQUEST = (
    b"POST /mcp HTTP/1.1\r\nHost: localhost:7400\r\nAuthorization: Bearer x\r\nContent-Type: application/json\r\n"
    b"Accept: application/json, text/event-stream\r\nContent-Length: 2\r\n\r\n{}"
)
_LIMIT = {"requests_per_s": 1_000_000, "burst": 1_000_000, "concurrency": 100}


async def _answer(_: web.Request) -> web.Response:
    return web.Response(body=b"{}", content_type="application/json")


def _application() -> web.Application:
    app = web.Application()
    app.router.add_post("/mcp", _answer)
    return app


async def _cpu_us(port: int, requests: int) -> float:
    """Of a request and its answer, both sides of the socket."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began_s = 0.0
    for i in range(requests + requests // 10):
        if i == requests // 10:
            began_s = time.process_time()
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n{}")
    spent_s = time.process_time() - began_s
    writer.close()
    return spent_s / requests * 1e6


def _limits_us(calls: int) -> float:
    section = LimitsSection.model_validate({"principal": _LIMIT, "server": _LIMIT, "pair": _LIMIT})
    limits, principal = MeasuredLimits(section, "mesh"), Principal("agent", "mesh")
    began_s = time.process_time()
    for _ in range(calls):
        limits.enter(principal, "server", 100).leave()
    return (time.process_time() - began_s) / calls * 1e6


async def doors(_: Rig, size: Size) -> dict[str, Any]:
    """The same trivial handler bare and behind doors, in turn; and one call's three limits with a lease."""
    bare = web.AppRunner(_application(), access_log=None)
    await bare.setup()
    await web.TCPSite(bare, "127.0.0.1", 0).start()
    guarded = Listener(_application(), DoorSettings(), "127.0.0.1", 0)
    await guarded.start()
    requests = size.calls * 10
    rounds = []
    try:
        for _ in range(size.rounds):
            without_us, with_us = await _cpu_us(bare.addresses[0][1], requests), await _cpu_us(guarded.port, requests)
            rounds.append((without_us, with_us, with_us - without_us, _limits_us(requests)))
    finally:
        await guarded.stop()
        await bare.cleanup()
    bare_us, guarded_us, door_us, limits_us = map(statistics.median, zip(*rounds, strict=True))
    return {
        "bare_us": round(bare_us, 1),
        "guarded_us": round(guarded_us, 1),
        "door_us": round(door_us, 1),
        "limits_us": round(limits_us, 1),
    }
