"""An agent that asks for a server while it starts, at its owner or at another node."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mcp.client import Client

from federation.ca import init_ca
from node.app import App
from tests.node.waiting import WAIT_S, until
from tests.node.working import MESH, app_of, settings_of

LATE = """
import socket, sys
from mcp.server.mcpserver import MCPServer

server = MCPServer("late", log_level="WARNING")
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as gate:
    if gate.recv(1) != b"+":
        sys.exit("told to fail")
server.run()
"""
"""Before it serves, it dials the test, which lets it go on or fail."""


class Gate:
    def __init__(self) -> None:
        self._told: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def tell(self, what: bytes) -> None:
        self._told.set_result(what)

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.wait((self._told,))
        if not self._told.cancelled():
            writer.write(self._told.result())
        writer.close()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[dict[str, Any]]:
        """The configuration of a server that waits at it."""
        server = await asyncio.start_server(self._came, "127.0.0.1", 0)
        try:
            port = server.sockets[0].getsockname()[1]
            yield {"command": [sys.executable, "-c", LATE, str(port)]}
        finally:
            self._told.cancel()
            server.close()


def state(app: App) -> str:
    found = app.catalog.find("ap-1", "late")
    return str(found.health.get("state")) if found is not None else ""


@pytest.fixture
async def gate() -> Gate:
    return Gate()


@asynccontextmanager
async def mesh(tmp_path: Path, gate: Gate) -> AsyncIterator[tuple[App, App]]:
    """The owner, whose server is starting, and a node that knows it."""
    init_ca(tmp_path / "ca", MESH)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(gate.open())
        patient = {"listen": "127.0.0.1:0", "start_wait_s": 120}
        owner = app_of(settings_of("ap", tmp_path, servers={"late": server}, http=patient), tmp_path)
        stack.push_async_callback(owner.stop)
        await owner.start()
        assert owner.federation is not None
        static = [f"127.0.0.1:{owner.federation.bound_port}"]
        entry = app_of(settings_of("eu", tmp_path, static=static, http=patient), tmp_path)
        stack.push_async_callback(entry.stop)
        await entry.start()
        await until(entry, lambda: state(entry) == "starting")
        yield owner, entry


def waits_at(app: App) -> asyncio.Event:
    """Set once somebody waits for what the node will learn. To be asked for before that."""
    waits = asyncio.Event()
    change = app.catalog.change

    async def then_wait() -> None:
        waits.set()
        await change()

    app.catalog.change = then_wait  # type: ignore[method-assign]
    return waits


async def waiting(asked: asyncio.Task[str], waits: asyncio.Event) -> None:
    """Until who asks waits. Fails if it is answered instead."""
    told = asyncio.create_task(waits.wait())
    async with asyncio.timeout(WAIT_S):
        await asyncio.wait((asked, told), return_when=asyncio.FIRST_COMPLETED)
    assert told.done(), asked


async def ask(app: App, mode: str) -> str:
    async with Client(f"{app.url}/mcp/late", mode=mode) as agent:
        info = agent.server_info
        return info.name if info is not None else ""


@pytest.mark.timeout(180)
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_an_agent_that_comes_while_a_server_starts_is_served_at_either_node(
    tmp_path: Path, gate: Gate, mode: str
) -> None:
    async with mesh(tmp_path, gate) as (owner, entry):
        waits = [waits_at(app) for app in (owner, entry)]
        asked = [asyncio.create_task(ask(app, mode)) for app in (owner, entry)]
        for task, its in zip(asked, waits, strict=True):
            await waiting(task, its)
        gate.tell(b"+")
        async with asyncio.timeout(WAIT_S):
            assert await asyncio.gather(*asked) == ["late", "late"]


@pytest.mark.timeout(180)
async def test_an_agent_is_told_as_soon_as_the_server_has_failed(tmp_path: Path, gate: Gate) -> None:
    async def refused(app: App) -> str:
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        async with aiohttp.ClientSession() as http, http.post(f"{app.url}/mcp/late", json=body) as response:
            return str((await response.json())["error"]["message"])

    async with mesh(tmp_path, gate) as (_, entry):
        waits = waits_at(entry)
        asked = asyncio.create_task(refused(entry))
        await waiting(asked, waits)
        gate.tell(b"-")
        async with asyncio.timeout(WAIT_S):
            assert "late on ap-1 is down (exited with status 1" in await asked
