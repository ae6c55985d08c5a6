"""What the suite is pointed at: three conformance servers, the node that owns them, and a second node of its mesh.

All are processes of their own, on free ports of 127.0.0.1, under one directory that keeps their logs:

    both, legacy, modern   the fixture as a server of both eras, or of one
    near-1                 owns the three; the suite asks it for the cells of one node
    far-1                  owns nothing; the suite asks it for the cells of two nodes
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from federation.ca import init_ca, issue
from node.demo.world import free_port, tail
from proto.names import NodeId
from tests.conformance.suite import MODERN

MESH = "conformance.toolmesh"
LOOPBACK = "127.0.0.1"
ERAS = ("both", "legacy", "modern")
NEAR, FAR = "near-1", "far-1"
READY_S = 60.0
STOP_S = 15.0
POLL_S = 0.1

LIST = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/list",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    },
}
HEADERS = {
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": MODERN,
    "Mcp-Method": "tools/list",
}


class World:
    """`async with World(directory) as world`: everything serves within; everything has ended after."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fixtures: dict[str, str] = {}
        self._nodes: dict[str, str] = {}
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._exits = AsyncExitStack()

    def fixture(self, era: str) -> str:
        """The server's own address."""
        return self._fixtures[era]

    def node(self, name: str, era: str) -> str:
        """Where that node serves that server."""
        return f"{self._nodes[name]}/mcp/{era}"

    async def __aenter__(self) -> World:
        try:
            # One more of both eras, asked directly only: what changes there is no news to a node.
            kinds = {"direct": "both", **{era: era for era in ERAS}}
            urls = await asyncio.gather(*(self._fixture(name, era) for name, era in kinds.items()))
            self._fixtures = dict(zip(kinds, urls, strict=True))
            await self._mesh()
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def _fixture(self, name: str, era: str) -> str:
        process = await self._spawn(f"fixture-{name}", "tests.conformance.fixture", "--era", era, piped=True)
        assert process.stdout is not None
        async with asyncio.timeout(READY_S):
            url = (await process.stdout.readline()).decode().strip()
        if not url:
            raise RuntimeError(f"fixture {name} did not start:\n{tail(self._directory / f'fixture-{name}.log')}")
        return url

    async def _mesh(self) -> None:
        init_ca(self._directory / "ca", MESH)
        servers = {era: {"url": self._fixtures[era]} for era in ERAS}
        port = free_port(0)
        await self._node(NEAR, port, servers=servers)
        await self._node(FAR, free_port(0), static=[f"{LOOPBACK}:{port}"])
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(self._lists(session, name, era) for name in (NEAR, FAR) for era in ERAS))

    async def _node(self, name: str, port: int, *, static: list[str] | None = None, **more: Any) -> None:
        home = self._directory / name
        region = name.split("-")[0]
        files = issue(self._directory / "ca", NodeId.of(MESH, region, name), home / "tls", hosts=[LOOPBACK])
        http = free_port(0)
        config = {
            "node": {"name": name, "region": region, "mesh": MESH, "data_dir": str(home / "data")},
            "http": {"listen": f"{LOOPBACK}:{http}"},
            "search": {"embedder": "none"},
            "federation": {
                "listen": f"{LOOPBACK}:{port}",
                "tls": {"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)},
                "static": static or [],
                "mdns": {"enabled": False},
            },
            **more,
        }
        (home / "node.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        await self._spawn(name, "node.cli", "up", "-c", str(home / "node.yaml"))
        self._nodes[name] = f"http://{LOOPBACK}:{http}"

    async def _lists(self, session: aiohttp.ClientSession, name: str, era: str) -> None:
        """Until that node lists that server's tools. Raises `RuntimeError` with the end of the node's log."""
        deadline = asyncio.get_running_loop().time() + READY_S
        while not await _answered(session, self.node(name, era)):
            if self._running[name].returncode is not None or asyncio.get_running_loop().time() > deadline:
                said = tail(self._directory / f"{name}.log")
                raise RuntimeError(f"node {name} does not list server {era!r}; its log ends:\n{said}")
            await asyncio.sleep(POLL_S)

    async def _spawn(self, name: str, module: str, *args: str, piped: bool = False) -> asyncio.subprocess.Process:
        with (self._directory / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, *args,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if piped else log,
                stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._running[name] = process
        self._exits.push_async_callback(_end, process)
        return process


async def _answered(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.post(url, json=LIST, headers=HEADERS) as response:
            return response.status == 200 and bool((await response.json()).get("result", {}).get("tools"))
    except aiohttp.ClientError:
        return False


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
