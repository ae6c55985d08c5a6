"""A mesh of three regions on loopback: certificates, configurations and processes, all under one directory."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from node.verbs.authority import init, issue_for
from proto.errors import Unavailable

READY_S = 90.0
CERTIFICATE_DAYS = 365
LOOPBACK = "127.0.0.1"


def samples() -> Path:
    """Where our own sample servers lie: inside the wheel, or in a checkout."""
    installed = Path(__file__).parent / "servers"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "deploy" / "examples" / "servers"


def sample(name: str, **more: Any) -> dict[str, Any]:
    return {"command": [sys.executable, str(samples() / f"{name}.py")], **more}


def regions(directory: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Region → its servers, as in the `servers` section. `units` is one service with replicas in us and ap."""
    units = sample("units", service="units", stateless=True, description="Unit conversion, the same on every replica")
    layout: dict[str, dict[str, dict[str, Any]]] = {
        "eu": {
            "text": sample("text", stateless=True),
            "ledger": sample("ledger"),
        },
        "us": {
            "finance": sample("finance", stateless=True),
            "calendar": sample("calendar_tools", stateless=True),
            "units": units,
        },
        "ap": {
            "weather": sample("weather_station", stateless=True),
            "geo": sample("geo", stateless=True),
            "units": units,
        },
    }
    if find_spec("mcp_server_time"):
        command = [sys.executable, "-m", "mcp_server_time", "--local-timezone", "UTC"]
        layout["eu"]["time"] = {"command": command, "stateless": True, "description": "Current time and time zones"}
    if find_spec("mcp_server_git") and shutil.which("git"):
        command = [sys.executable, "-m", "mcp_server_git", "--repository", str(directory / "repository")]
        layout["us"]["git"] = {"command": command, "description": "Read and change a git repository"}
    return layout


def free_port(preferred: int) -> int:
    """The preferred port, or any free one where it is taken."""
    for port in (preferred, 0):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(s.getsockname()[1])
    raise Unavailable("no free port on 127.0.0.1")


@dataclass(slots=True)
class DemoNode:
    region: str
    config: Path
    url: str
    log: Path
    servers: tuple[str, ...]
    process: asyncio.subprocess.Process | None = None

    @property
    def name(self) -> str:
        return f"{self.region}-1"


@dataclass(slots=True)
class World:
    """Three nodes as separate processes. `start` brings one up (again); `kill` ends one without a goodbye.

    Several worlds may run on one machine: each has a mesh name, an authority and ports of its own.
    """

    directory: Path
    nodes: dict[str, DemoNode] = field(default_factory=dict)
    # mDNS on loopback is shared by all who run here; announcements of other meshes are ignored.
    mesh: str = field(default_factory=lambda: f"demo-{secrets.token_hex(3)}.toolmesh")
    claims: list[socket.socket] = field(default_factory=list)

    async def prepare(self) -> None:
        """Write a CA, three certificates and three configurations."""
        self.directory.mkdir(parents=True, exist_ok=True)
        ca = self.directory / "ca"
        init(ca, self.mesh)
        if shutil.which("git"):
            await self._repository()
        for i, (region, servers) in enumerate(regions(self.directory).items()):
            name = f"{region}-1"
            home = self.directory / name
            _, files, mesh_key = issue_for(
                ca, name, region, home / "tls", hosts=[LOOPBACK, "localhost"], days=CERTIFICATE_DAYS, roles=()
            )
            http, grpc = self._claim(7400 + 10 * i), self._claim(7401 + 10 * i)
            config = {
                "node": {"name": name, "region": region, "mesh": self.mesh, "data_dir": str(home / "data")},
                "http": {"listen": f"{LOOPBACK}:{http}"},
                "federation": {
                    "listen": f"{LOOPBACK}:{grpc}",
                    "tls": {"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)},
                    "mesh_keys": [str(mesh_key)],
                    "mdns": {"enabled": True, "interface": LOOPBACK},
                },
                "servers": servers,
            }
            path = home / "node.yaml"
            path.write_text(yaml.safe_dump(config, sort_keys=False))
            self.nodes[region] = DemoNode(region, path, f"http://{LOOPBACK}:{http}", home / "node.log", tuple(servers))

    async def start(self, region: str) -> None:
        node = self.nodes[region]
        with node.log.open("ab") as log:
            node.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "node.cli", "up", "-c", str(node.config),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )  # fmt: skip

    async def ready(self, region: str, session: aiohttp.ClientSession) -> None:
        """Until the node serves and its servers have started.

        Raises `Unavailable` with the end of its log if it dies or takes too long.
        """
        node = self.nodes[region]
        try:
            async with asyncio.timeout(READY_S):
                while not await _answers(f"{node.url}/readyz", session):
                    if node.process is not None and node.process.returncode is not None:
                        raise Unavailable(f"node {node.name} ended with {node.process.returncode}:\n{tail(node.log)}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise Unavailable(f"node {node.name} did not serve within {READY_S:g} s:\n{tail(node.log)}") from None

    async def kill(self, region: str) -> None:
        """SIGKILL the node and the servers that it runs: no goodbye, as when a machine dies."""
        process = self.nodes[region].process
        if process is not None and process.returncode is None:
            _signal(process, signal.SIGKILL)
            await process.wait()

    async def stop(self) -> None:
        running = [n.process for n in self.nodes.values() if n.process is not None and n.process.returncode is None]
        for process in running:
            _signal(process, signal.SIGTERM)
        for process in running:
            try:
                async with asyncio.timeout(10):
                    await process.wait()
            except TimeoutError:
                _signal(process, signal.SIGKILL)
                await process.wait()

        for claim in self.claims:
            claim.close()
        self.claims.clear()

    def _claim(self, preferred: int) -> int:
        """A free TCP port that no other world takes before its node listens there."""
        while True:
            port = free_port(preferred)
            # Nodes use TCP, so the UDP port of the same number serves as the mark, and dies with this process.
            mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                mark.bind((LOOPBACK, port))
            except OSError:
                mark.close()
                preferred = 0
                continue
            self.claims.append(mark)
            return port

    async def _repository(self) -> None:
        repository = self.directory / "repository"
        repository.mkdir(exist_ok=True)
        (repository / "README.md").write_text("A repository for the demo's git server.\n")
        identity = ["-c", "user.name=demo", "-c", "user.email=demo@example.invalid"]
        for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "First commit of the demo"]):
            process = await asyncio.create_subprocess_exec("git", "-C", str(repository), *command)
            if await process.wait() != 0:
                raise Unavailable(f"git {command[0]} failed in {repository}")


async def _answers(url: str, session: aiohttp.ClientSession) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    # The node leads its own session; the servers it starts have process groups of their own and end with their
    # pipes, but a SIGKILL must look like a dead machine at once.
    try:
        process.send_signal(number)
    except ProcessLookupError:
        return


def tail(log: Path, lines: int = 12) -> str:
    if not log.is_file():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
