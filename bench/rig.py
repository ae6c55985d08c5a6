"""Processes that are measured: started in a directory of their own, watched, stopped."""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml

from federation.ca import issue
from node.demo.world import free_port
from proto.names import NodeId

MESH = "bench.toolmesh"
UNTIL_S = 60.0


class Rig:
    """What one part of the bench has running."""

    def __init__(self, directory: Path, session: aiohttp.ClientSession) -> None:
        self.directory = directory
        self.session = session
        self.processes: list[asyncio.subprocess.Process] = []

    async def spawn(self, *command: str, **more: Any) -> psutil.Process:
        """`python -m COMMAND`, with as many descriptors as this machine gives."""
        log = (self.directory / f"process-{len(self.processes)}.log").open("wb")
        more = {"stdout": log, "stderr": log, **more}
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", *command, **more)
        log.close()
        self.processes.append(process)
        return psutil.Process(process.pid)

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(UNTIL_S):
            while True:
                try:
                    if await holds():
                        return
                except aiohttp.ClientConnectionError:
                    pass
                await asyncio.sleep(0.005)

    def config(
        self, region: str, *, embedder: str, servers: dict[str, Any], ca: Path | None = None, peer: int = 0
    ) -> tuple[Path, str, int]:
        """(path, URL, gRPC port) of a node's configuration; federated where a CA is given."""
        name = f"{region}-1"
        home = Path(tempfile.mkdtemp(prefix=name, dir=self.directory))
        http, grpc = free_port(0), free_port(0)
        config: dict[str, Any] = {
            "node": {"name": name, "region": region, "mesh": MESH, "data_dir": str(home / "data")},
            "http": {"listen": f"127.0.0.1:{http}", "connections_per_address_max": 16_384},
            "search": {"embedder": embedder},
            "servers": servers,
        }
        if ca is not None:
            files = issue(ca, NodeId.of(MESH, region, name), home / "tls", hosts=["127.0.0.1"])
            tls = {"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)}
            config["federation"] = {"listen": f"127.0.0.1:{grpc}", "tls": tls, "mdns": {"enabled": False}}
            if peer:
                config["federation"]["static"] = [f"127.0.0.1:{peer}"]
        path = home / "node.yaml"
        path.write_text(yaml.safe_dump(config))
        return path, f"http://127.0.0.1:{http}", grpc

    async def node(self, region: str = "eu", **settings: Any) -> tuple[psutil.Process, str, int]:
        """(process, URL, gRPC port) of a node that has been started."""
        path, url, port = self.config(region, **{"embedder": "none", "servers": {}, **settings})
        return await self.spawn("node.cli", "up", "-c", str(path)), url, port

    async def upstream(self, era: str, tools: int = 1) -> str:
        """The URL of a bare server."""
        port = free_port(0)
        await self.spawn("bench.upstream", era, str(tools), str(port))
        return f"http://127.0.0.1:{port}/mcp"

    async def stop(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.terminate()
        await asyncio.gather(*(p.wait() for p in self.processes))


def cpu_s(process: psutil.Process) -> float:
    """Processor time of all its threads, to the nanosecond where ticks would give 10 ms."""
    # Linux: the clock of another process, ~pid in the upper bits, CPUCLOCK_SCHED in the lower (clock_getcpuclockid).
    return time.clock_gettime((~process.pid << 3) | 2)


def rss_mb(process: psutil.Process) -> float:
    return process.memory_info().rss / 2**20


def raise_descriptors() -> None:
    """To what this machine allows; what is spawned inherits it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
