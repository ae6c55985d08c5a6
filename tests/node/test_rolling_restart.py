"""Two owners under load: restarted in turn, no call fails and each runs once; killed, what is safe runs again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from federation.ca import init_ca, issue
from federation.events import Liveness
from node.app import App
from node.config import parse
from node.demo.world import free_port
from proto.names import NodeId
from tests.node.waiting import WAIT_S, until

MESH = "mesh.test"
LEDGER = Path(__file__).parent / "servers" / "ledger.py"
WORKERS = 6
CALLS_BETWEEN = 60
"""So many calls are made in peace before and after each restart."""

_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
_HEADERS = {
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/call",
    "Mcp-Name": "enter",
}


@dataclass
class Owner:
    """A node in a process of its own, which owns one member of the service."""

    name: str
    config: Path
    directory: Path
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.config.with_suffix(".log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "node.cli", "up", "-c", str(self.config), stdout=log, stderr=log
            )

    async def stop(self) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WAIT_S):
            return await self.process.wait()

    async def hold(self, service: str) -> str:
        """From now on its member answers no call. Waits for the first that runs there, and returns its mark."""
        gate = self.directory / f"{service}.gate"
        os.mkfifo(gate)
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        fd = os.open(gate, os.O_RDWR | os.O_NONBLOCK)
        loop.add_reader(fd, told.set)
        try:
            async with asyncio.timeout(WAIT_S):
                await told.wait()
            return os.read(fd, 64).decode().split()[0]
        finally:
            loop.remove_reader(fd)
            os.close(fd)

    def entered(self, service: str) -> list[str]:
        """What ran at its member of the service, in order."""
        ledger = self.directory / service
        return ledger.read_text().split() if ledger.exists() else []


@dataclass
class Load:
    """Calls of the service without a pause, by several workers, through one entry node."""

    entry: App
    service: str
    session: aiohttp.ClientSession
    sent: int = 0
    answered: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self) -> None:
        while True:
            self.sent += 1
            mark = f"m{self.sent}"
            params: dict[str, Any] = {"name": "enter", "arguments": {"mark": mark}, "_meta": _META}
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            async with self.session.post(
                f"{self.entry.url}/mcp/{self.service}", json=body, headers=_HEADERS
            ) as response:
                text = await response.text()
            if mark in text and '"result"' in text:
                self.answered.append(mark)
            else:
                self.failed.append(f"{mark}: {text}")
            self._ended.set()

    async def ended(self, mark: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while mark not in self.answered and not self.failed:
                self._ended.clear()
                await self._ended.wait()

    async def peace(self) -> None:
        """Until so many more calls have ended."""
        enough = len(self.answered) + CALLS_BETWEEN
        async with asyncio.timeout(WAIT_S):
            while len(self.answered) < enough and not self.failed:
                self._ended.clear()
                await self._ended.wait()


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[tuple[App, list[Owner]]]:
    """eu-1 is in this process; us-1 and ap-1 dial it, and own `ledger` and `safe`, whose tool may be run twice."""
    init_ca(tmp_path / "ca", MESH)

    def settings(region: str, static: list[str], grpc: int, **more: Any) -> dict[str, Any]:
        name = f"{region}-1"
        files = issue(tmp_path / "ca", NodeId.of(MESH, region, name), tmp_path / name, hosts=["127.0.0.1"])
        return {
            "node": {"name": name, "region": region, "mesh": MESH, "data_dir": str(tmp_path / name / "data")},
            "http": {"listen": "127.0.0.1:0"},
            "search": {"embedder": "none"},
            "federation": {
                "listen": f"127.0.0.1:{grpc}",
                "tls": {"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)},
                "static": static,
                "mdns": {"enabled": False},
            },
            **more,
        }

    async with AsyncExitStack() as stack:
        entry = App(parse(settings("eu", [], 0), tmp_path))
        stack.push_async_callback(entry.stop)
        await entry.start()
        assert entry.federation is not None
        owners = []
        for region in ("us", "ap"):
            directory = tmp_path / f"{region}-1"
            directory.mkdir(exist_ok=True)
            servers = {
                name: {
                    "command": [sys.executable, "-S", "-E", str(LEDGER), str(directory / name)],
                    "service": name,
                    "stateless": True,
                    "retry_safe": name == "safe",
                }
                for name in ("ledger", "safe")
            }
            # The same port after a restart, as it would be anywhere.
            static = [f"127.0.0.1:{entry.federation.bound_port}"]
            config = tmp_path / f"{region}.yaml"
            config.write_text(yaml.safe_dump(settings(region, static, free_port(0), servers=servers)))
            owner = Owner(f"{region}-1", config, directory)
            await owner.start()
            stack.push_async_callback(owner.stop)
            owners.append(owner)
        await until(entry, lambda: all(since(entry, o) for o in owners))
        yield entry, owners


def since(entry: App, owner: Owner) -> int:
    """Since when the entry node has known both servers of the owner to be up, Unix ms; 0 where they are not."""
    found = [entry.catalog.find(owner.name, name) for name in ("ledger", "safe")]
    return min(int(s.health["since"]) if s is not None and s.up and s.tools else 0 for s in found)


@asynccontextmanager
async def loaded(entry: App, service: str) -> AsyncIterator[Load]:
    """The service is called all the while, and was for a while before."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=WORKERS)) as session:
        load = Load(entry, service, session)
        workers = [asyncio.create_task(load.work()) for _ in range(WORKERS)]
        try:
            await load.peace()
            yield load
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)


async def test_a_rolling_restart_fails_no_call_and_runs_each_once(mesh: tuple[App, list[Owner]]) -> None:
    entry, owners = mesh
    async with loaded(entry, "ledger") as load:
        for owner in owners:
            before_ms = time.time() * 1000
            assert await owner.stop() == 0
            await owner.start()
            await until(entry, lambda: since(entry, owner) > before_ms)  # noqa: B023  # awaited here
            await load.peace()
    assert load.failed == []
    entered = Counter(mark for owner in owners for mark in owner.entered("ledger"))
    assert [mark for mark, n in entered.items() if n > 1] == []
    assert set(load.answered) <= entered.keys()
    assert all(owner.entered("ledger") for owner in owners)
    assert len(load.answered) >= 3 * CALLS_BETWEEN


async def test_an_owner_that_is_killed_fails_no_call_of_what_may_run_twice(mesh: tuple[App, list[Owner]]) -> None:
    entry, owners = mesh
    dies, stays = owners
    async with loaded(entry, "safe") as load:
        assert dies.process is not None
        held = await dies.hold("safe")
        dies.process.kill()
        await until(entry, lambda: entry.catalog.owners[dies.name].liveness is not Liveness.ALIVE)
        await load.ended(held)
        await load.peace()
    assert load.failed == []
    entered = Counter(mark for owner in owners for mark in owner.entered("safe"))
    assert held in dies.entered("safe")
    assert held in stays.entered("safe")
    assert set(load.answered) <= entered.keys()
    twice = {mark for mark, n in entered.items() if n > 1}
    assert twice <= set(dies.entered("safe")) & set(stays.entered("safe"))
    assert entry.gateway.counters.retries > 0
