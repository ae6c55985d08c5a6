"""A node whose one server works until the test lets it end, and an agent that has called it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp.client import Client

from federation.ca import issue
from node.app import App
from node.config import parse
from proto.names import NodeId

MESH = "mesh.test"

SLOW = """
import asyncio, sys
from mcp.server.mcpserver import MCPServer

server = MCPServer("slow", log_level="WARNING")

@server.tool()
async def work() -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]), limit=2**20)
    said = await reader.readline()
    writer.close()
    return said.decode().strip()

server.run()
"""
"""Its one tool dials the test and ends when it is told what to answer."""


class Work:
    """What the slow tool is at: `begun` is set once it runs, `end` lets it answer."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._came, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.server = {"command": [sys.executable, "-c", SLOW, str(port)]}

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.begun.set()

    def end(self, said: str) -> None:
        for writer in self._writers:
            writer.write(said.encode() + b"\n")

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
            await writer.wait_closed()


def app_of(settings: dict[str, Any], base: Path) -> App:
    return App(parse({"http": {"listen": "127.0.0.1:0"}, "search": {"embedder": "none"}, **settings}, base))


def up(app: App, owner: str) -> Callable[[], bool]:
    return lambda: (found := app.catalog.find(owner, "slow")) is not None and found.up


@asynccontextmanager
async def working(app: App, work: Work, mode: str = "auto") -> AsyncIterator[asyncio.Task[str]]:
    """An agent of this node has called the slow tool, which runs; the task is its answer, or why there is none."""

    async def use() -> str:
        async with Client(f"{app.url}/mcp/slow", mode=mode) as agent:
            # The SDK looks the tool's schema up when the answer is there, unless it knows it: the node is gone then.
            await agent.list_tools()
            return str((await agent.call_tool("work", {})).content)

    task = asyncio.create_task(use())
    await asyncio.wait((task, begun := asyncio.create_task(work.begun.wait())), return_when=asyncio.FIRST_COMPLETED)
    assert begun.done(), task
    yield task
    await asyncio.gather(task, return_exceptions=True)


def settings_of(region: str, tmp_path: Path, *, static: list[str] | None = None, **more: Any) -> dict[str, Any]:
    """Of the node REGION-1, with a certificate of the CA in `tmp_path / "ca"`."""
    name = f"{region}-1"
    files = issue(tmp_path / "ca", NodeId.of(MESH, region, name), tmp_path / name, hosts=["127.0.0.1"])
    tls = {"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)}
    return {
        "node": {"name": name, "region": region, "mesh": MESH, "data_dir": str(tmp_path / name / "data")},
        "federation": {"listen": "127.0.0.1:0", "tls": tls, "static": static or [], "mdns": {"enabled": False}},
        **more,
    }
