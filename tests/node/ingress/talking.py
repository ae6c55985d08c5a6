"""An agent at the other end of a WebSocket: raw messages out, raw messages in."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
import pytest

from tests.node.ingress.conftest import MODERN, Served

WAIT_S = 10
PREFIX = "io.modelcontextprotocol/"
META = {f"{PREFIX}protocolVersion": MODERN, f"{PREFIX}clientCapabilities": {}}


class Agent:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, message: Any) -> None:
        await self.socket.send_str(message if isinstance(message, str) else json.dumps(message))

    async def hear(self) -> Any:
        """The next message."""
        frame = await self.socket.receive(WAIT_S)
        assert frame.type is aiohttp.WSMsgType.TEXT, frame
        return json.loads(frame.data)

    async def ask(self, method: str, params: dict[str, Any] | None = None, request_id: Any = 1) -> Any:
        """One request and what comes next, its answer unless something was said before."""
        await self.say(Served.call(method, params, request_id))
        return await self.hear()

    async def initialize(self, version: str = "2025-11-25", capabilities: dict[str, Any] | None = None) -> Any:
        client = {"name": "t", "version": "1"}
        params = {"protocolVersion": version, "capabilities": capabilities or {}, "clientInfo": client}
        answer = await self.ask("initialize", params, "init")
        await self.say({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return answer

    async def cancel(self, request_id: Any) -> None:
        await self.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": request_id}})

    async def closed(self) -> int | None:
        """The code with which the node closes; what it still says is passed over."""
        async with asyncio.timeout(WAIT_S):
            while (await self.socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        return self.socket.close_code


def modern(method: str, request_id: Any = 1, /, **params: Any) -> dict[str, Any]:
    """A well-formed request of 2026-07-28."""
    return Served.call(method, {**params, "_meta": {**META, **params.pop("_meta", {})}}, request_id)


@asynccontextmanager
async def dialled(edge: Served, path: str = "/ws", **options: Any) -> AsyncIterator[Agent]:
    base = edge.url.removesuffix("/mcp")
    async with edge.http.ws_connect(base + path, max_msg_size=0, **options) as socket:
        yield Agent(socket)


async def gone(edge: Served) -> None:
    """Until the node has no connection any more; nothing of one is left then."""
    await edge.wait(edge.ingress.connections.none_left)
    stats = edge.ingress.stats()
    assert (stats["connections"], stats["sessions"], stats["streams"]) == (0, 0, 0)


pulls_cables = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and nft to pull the cable"
)


@contextmanager
def cut(port: int | None) -> Iterator[None]:
    """Nothing to or from `port` of this machine arrives."""
    table = f"toolmesh_test_{os.getpid()}"
    rules = f"""
        table inet {table} {{
            chain cut {{
                type filter hook input priority 0;
                tcp dport {port} drop
                tcp sport {port} drop
            }}
        }}
    """
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", table], check=True)
