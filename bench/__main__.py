"""`make bench`: what one node costs, beside a bare proxy in the same run. Writes bench/results/spine.json.

Machines differ and are noisy: read the ratios. Every figure is the median of several rounds taken in turn.
"""

from __future__ import annotations

import asyncio
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psutil
import uvloop
import yaml

from bench.echo import bare_stream
from federation.ca import init_ca, issue
from federation.tls import MeshTls
from node.demo.world import free_port
from proto.names import NodeId

RESULTS = Path(__file__).parent / "results"
ROUNDS, CALLS, PARALLEL = 7, 1500, 16
LATENCY_CALLS = 400
STARTS = 5
MESH = "bench.toolmesh"
MODERN = "2026-07-28"


def call_body(tool: str = "echo") -> tuple[bytes, dict[str, str]]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": {"text": "x" * 200}, "_meta": meta}
    body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
    }
    return body, headers


class Bench:
    def __init__(self, directory: Path, session: aiohttp.ClientSession) -> None:
        self.directory = directory
        self.session = session
        self.processes: list[asyncio.subprocess.Process] = []
        self.body, self.headers = call_body()

    async def spawn(self, *command: str) -> psutil.Process:
        log = (self.directory / f"process-{len(self.processes)}.log").open("wb")
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", *command, stdout=log, stderr=log)
        log.close()
        self.processes.append(process)
        return psutil.Process(process.pid)

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(60):
            while True:
                try:
                    if await holds():
                        return
                except aiohttp.ClientConnectionError:
                    pass
                await asyncio.sleep(0.005)

    async def answers(self, url: str) -> bool:
        async with self.session.post(url, data=self.body, headers=self.headers) as response:
            text = await response.read()
            return response.status == 200 and b'"content"' in text and b'"isError":true' not in text

    async def load(self, url: str) -> float:
        """Seconds for `CALLS` calls with `PARALLEL` at a time."""
        left = CALLS

        async def worker() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                async with self.session.post(url, data=self.body, headers=self.headers) as response:
                    await response.read()
                    assert response.status == 200, await response.text()

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(PARALLEL)))
        return time.perf_counter() - began

    async def cpu_us(self, process: psutil.Process, url: str) -> float:
        """CPU microseconds of the process per call."""
        before = process.cpu_times()
        await self.load(url)
        after = process.cpu_times()
        return (after.user - before.user + after.system - before.system) / CALLS * 1e6

    async def p50_ms(self, url: str) -> float:
        took = []
        for _ in range(LATENCY_CALLS):
            began = time.perf_counter()
            async with self.session.post(url, data=self.body, headers=self.headers) as response:
                await response.read()
            took.append((time.perf_counter() - began) * 1e3)
        return statistics.median(took)

    def config(
        self, region: str, *, embedder: str, servers: dict[str, Any], ca: Path | None = None, peer: int = 0
    ) -> tuple[Path, str, int]:
        """(path, URL, gRPC port) of a node's configuration; federated where a CA is given."""
        name = f"{region}-1"
        home = Path(tempfile.mkdtemp(prefix=name, dir=self.directory))
        http, grpc = free_port(0), free_port(0)
        config: dict[str, Any] = {
            "node": {"name": name, "region": region, "mesh": MESH, "data_dir": str(home / "data")},
            "http": {"listen": f"127.0.0.1:{http}"},
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

    async def status(self, url: str) -> dict[str, Any]:
        async with self.session.get(f"{url}/api/v1/status") as response:
            found: dict[str, Any] = await response.json()
            return found

    async def stop(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.terminate()
        await asyncio.gather(*(p.wait() for p in self.processes))


async def hot_path(bench: Bench) -> dict[str, Any]:
    upstream, proxy = free_port(0), free_port(0)
    await bench.spawn("bench.upstream", str(upstream))
    target = f"http://127.0.0.1:{upstream}/mcp"
    bare = await bench.spawn("bench.proxy", str(proxy), target)
    servers = {"bench": {"url": target, "stateless": True}}
    path, url, _ = bench.config("eu", embedder="none", servers=servers)
    node = await bench.spawn("node.cli", "up", "-c", str(path))
    bare_url, node_url = f"http://127.0.0.1:{proxy}/mcp", f"{url}/mcp/bench"
    for each in (bare_url, node_url):
        await bench.until(lambda each=each: bench.answers(each))
        await bench.load(each)
    pairs = []
    for _ in range(ROUNDS):
        pairs.append((await bench.cpu_us(node, node_url), await bench.cpu_us(bare, bare_url)))
    return {
        "node_cpu_us_per_call": round(statistics.median(n for n, _ in pairs), 1),
        "bare_proxy_cpu_us_per_call": round(statistics.median(b for _, b in pairs), 1),
        "ratio": round(statistics.median(n / b for n, b in pairs), 2),
        "ratio_min_max": [round(min(n / b for n, b in pairs), 2), round(max(n / b for n, b in pairs), 2)],
        "rss_mb_without_model": round(node.memory_info().rss / 2**20, 1),
    }


async def forwarding(bench: Bench) -> dict[str, Any]:
    """What a hop to another node adds, beside the round trip of a bare gRPC stream over the same mutual TLS."""
    ca = bench.directory / "ca"
    init_ca(ca, MESH)
    upstream, echo = free_port(0), free_port(0)
    await bench.spawn("bench.upstream", str(upstream))
    servers = {"bench": {"url": f"http://127.0.0.1:{upstream}/mcp", "stateless": True}}
    owner, owner_url, port = bench.config("ap", embedder="none", servers=servers, ca=ca)
    entry, entry_url, _ = bench.config("eu", embedder="none", servers={}, ca=ca, peer=port)
    for path in (owner, entry):
        await bench.spawn("node.cli", "up", "-c", str(path))
    near, far = f"{owner_url}/mcp/bench", f"{entry_url}/mcp/bench"
    for each in (near, far):
        await bench.until(lambda each=each: bench.answers(each))
        await bench.p50_ms(each)
    files = issue(ca, NodeId.of(MESH, "us", "us-1"), bench.directory / "us-1", hosts=["127.0.0.1"])
    await bench.spawn("bench.echo", str(echo), *map(str, files))
    rounds = []
    async with bare_stream(echo, MeshTls.load(*files), LATENCY_CALLS) as bare:
        await bare()
        for _ in range(ROUNDS):
            rounds.append((await bench.p50_ms(near), await bench.p50_ms(far), await bare()))
    return {
        "owner_p50_ms": round(statistics.median(n for n, _, _ in rounds), 3),
        "forwarded_p50_ms": round(statistics.median(f for _, f, _ in rounds), 3),
        "added_p50_ms": round(statistics.median(f - n for n, f, _ in rounds), 3),
        "added_min_max_ms": [
            round(min(f - n for n, f, _ in rounds), 3),
            round(max(f - n for n, f, _ in rounds), 3),
        ],
        "bare_grpc_round_trip_p50_ms": round(statistics.median(b for _, _, b in rounds), 3),
        "added_over_bare": round(statistics.median((f - n) / b for n, f, b in rounds), 2),
    }


async def starting(bench: Bench) -> dict[str, Any]:
    took = []
    for _ in range(STARTS):
        path, url, _ = bench.config("eu", embedder="minilm", servers={})
        began = time.perf_counter()
        await bench.spawn("node.cli", "up", "-c", str(path))
        await bench.until(lambda url=url: _serves(bench, url))
        took.append(time.perf_counter() - began)
        bench.processes[-1].terminate()
        await bench.processes[-1].wait()
    return {
        "start_to_serving_s": round(statistics.median(took), 2),
        "min_max_s": [round(min(took), 2), round(max(took), 2)],
    }


async def _serves(bench: Bench, url: str) -> bool:
    async with bench.session.get(f"{url}/readyz") as response:
        return response.status == 200


async def memory(bench: Bench) -> dict[str, Any]:
    upstream = free_port(0)
    await bench.spawn("bench.upstream", str(upstream))
    servers = {"bench": {"url": f"http://127.0.0.1:{upstream}/mcp", "stateless": True}}
    path, url, _ = bench.config("eu", embedder="minilm", servers=servers)
    node = await bench.spawn("node.cli", "up", "-c", str(path))

    async def indexed() -> bool:
        search = (await bench.status(url))["search"]
        return bool(search["embedded"]) and not search["pending"]

    await bench.until(indexed)
    async with bench.session.get(f"{url}/api/v1/search", params={"q": "repeat what I say"}) as response:
        assert response.status == 200
    return {"rss_mb_with_model": round(node.memory_info().rss / 2**20, 1)}


async def main() -> None:
    figures: dict[str, Any] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": psutil.cpu_count(),
    }
    for part in (hot_path, forwarding, starting, memory):
        with tempfile.TemporaryDirectory(prefix="toolmesh-bench-") as directory:
            async with aiohttp.ClientSession() as session:
                bench = Bench(Path(directory), session)
                try:
                    figures[part.__name__] = await part(bench)
                finally:
                    await bench.stop()
        print(f"{part.__name__:12}", json.dumps(figures[part.__name__]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "spine.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    uvloop.run(main())
