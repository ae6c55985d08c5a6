"""Real toolmesh nodes in a lab: certificates, configurations and processes, and what their logs say of each other."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import yaml

from federation.ca import init_ca, issue
from proto.names import NodeId
from tests.lab.api import PORT, Api
from tests.lab.judging import GOOD, RELAY, Became, Judged, judged
from tests.lab.net import ROOT, Lab
from tests.lab.standstill import Standstill
from tests.lab.waiting import ENOUGH_S, until

MESH = "lab.toolmesh"
MESH_PORT = 7401
READY_S = 300.0
"""Nine nodes that start at once on two idle cores take 25 s; where others have most of these, two minutes and more."""

SERVER = Path(__file__).parent / "servers" / "stamping.py"
_LINE = re.compile(r"^(\d\S+ \S+) ([A-Z]+) +\S+: ")
_BECAME = re.compile(r"^(\S+ \S+) INFO +toolmesh\.federation: (\S+) is (\w+)(?:: (.*))?$")

Servers = Mapping[str, Mapping[str, Any]]


def told(text: str) -> None:
    """One line of what a scenario measured; `make lab` shows it."""
    print(f"\n  {text}", end="", flush=True)


def stamping(who: str, file: Path, tools: int = 0, **more: Any) -> dict[str, Any]:
    """The configuration of one stamping server."""
    return {"command": [sys.executable, str(SERVER), who, str(file), str(tools)], **more}


class Fleet:
    """A toolmesh node on each of `nodes` (all of the lab's unless given). Nothing is started until `start`.

    `servers` says what each of them owns, `discovery` how it finds the others: by a list of all addresses unless given.
    Those in `authorities` hold that role; `more` is configured everywhere, and `key` is what its operator shows.
    """

    def __init__(
        self,
        lab: Lab,
        directory: Path,
        servers: Callable[[str], Servers],
        discovery: Callable[[str], Mapping[str, Any]] | None = None,
        nodes: Sequence[str] = (),
        *,
        authorities: Collection[str] = (),
        more: Mapping[str, Any] | None = None,
        key: str = "",
    ) -> None:
        self.lab = lab
        self.nodes = tuple(nodes) or lab.nodes
        self.api = {node: Api(lab, node, key) for node in self.nodes}
        self._directory = directory
        self._authorities = frozenset(authorities)
        self._more = dict(more or {})
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._standstill = Standstill(self._watched)
        everyone = [f"{lab.address(node)}:{MESH_PORT}" for node in self.nodes]
        init_ca(directory / "ca", MESH)
        for node in self.nodes:
            found_by = discovery(node) if discovery else {"static": everyone}
            self._configure(node, servers(node), found_by)

    def _configure(self, node: str, servers: Servers, found_by: Mapping[str, Any]) -> None:
        home, lab = self._directory / node, self.lab
        node_id = NodeId.of(MESH, lab.region(node), node)
        roles = ["authority"] if node in self._authorities else []
        files = issue(self._directory / "ca", node_id, home / "tls", hosts=[lab.address(node)], roles=roles)
        config = {
            "node": {"name": node, "region": lab.region(node), "mesh": MESH, "data_dir": str(home / "data")},
            "http": {"listen": f"127.0.0.1:{PORT}"},
            "federation": {
                "listen": f"{lab.address(node)}:{MESH_PORT}",
                "tls": {"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)},
                "mdns": {"enabled": False},
                **found_by,
            },
            "servers": {name: dict(server) for name, server in servers.items()},
            # A model in each of nine nodes would take more memory than it tells about the mesh.
            "search": {"embedder": "none"},
            **self._more,
        }
        (home / "node.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    async def __aenter__(self) -> Self:
        self._standstill.__enter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._standstill.__exit__()
        for api in self.api.values():
            await api.close()
        for node in self._processes:
            await self.kill(node)

    def _watched(self) -> dict[str, int]:
        nodes = {node: process.pid for node, process in self._processes.items() if process.returncode is None}
        return nodes if self.lab.relay_pid is None else {**nodes, RELAY: self.lab.relay_pid}

    # ---- processes ------------------------------------------------------------------------------

    async def start(self, *nodes: str) -> None:
        """Start them (all by default), and wait until each serves."""
        chosen = nodes or self.nodes
        for node in chosen:
            with self.log_file(node).open("ab") as log:
                self._processes[node] = await self.lab.start(
                    node,
                    [sys.executable, "-m", "node.cli", "up", "-c", str(self._directory / node / "node.yaml")],
                    stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                )  # fmt: skip
        await asyncio.gather(*(self._serving(node) for node in chosen))

    async def _serving(self, node: str) -> None:
        process = self._processes[node]

        async def serves() -> bool:
            if process.returncode is not None:
                raise AssertionError(f"{node} ended with {process.returncode}:\n{self.log(node)[-3_000:]}")
            return await self.api[node].ready()

        await until(serves, f"{node} serves", READY_S)

    async def kill(self, node: str) -> None:
        """As when a machine loses power, but for its kernel, which still closes the connections."""
        self.lab.signal(node, signal.SIGKILL)
        await self._processes[node].wait()

    async def stop(self, node: str) -> None:
        """As an operator does: SIGTERM to the node alone, and wait for its end."""
        self._processes[node].send_signal(signal.SIGTERM)
        async with asyncio.timeout(ENOUGH_S):
            status = await self._processes[node].wait()
        assert status == 0, f"{node} ended with {status}:\n{self.log(node)[-3_000:]}"

    def freeze(self, node: str) -> None:
        self.lab.signal(node, signal.SIGSTOP)

    def thaw(self, node: str) -> None:
        self.lab.signal(node, signal.SIGCONT)

    async def revive(self) -> None:
        """Whatever was frozen or has ended runs again."""
        for node in self._processes:
            self.thaw(node)
        if dead := [node for node, process in self._processes.items() if process.returncode is not None]:
            await self.start(*dead)

    # ---- what they say --------------------------------------------------------------------------

    def log_file(self, node: str) -> Path:
        return self._directory / node / "node.log"

    def log(self, node: str) -> str:
        file = self.log_file(node)
        return file.read_text(errors="replace") if file.exists() else ""

    def became(self, since: float, by: Iterable[str] | None = None) -> list[Became]:
        """What nodes have held each other for since a time (unix seconds), oldest first."""
        found = []
        for node in by or self.nodes:
            for line in self.log(node).splitlines():
                if (match := _BECAME.match(line)) and (at := _time(match[1])) >= since:
                    found.append(Became(at, node, match[2], match[3], match[4] or ""))
        return sorted(found)

    def noticed(self, since: float, peer: str) -> dict[str, float]:
        """Who doubts a peer: seconds from `since` to the first word of it in each log."""
        first: dict[str, float] = {}
        for b in self.became(since):
            if b.peer == peer and b.state not in GOOD:
                first.setdefault(b.by, b.at - since)
        return first

    def doubts(self, since: float) -> list[Judged]:
        """Where a node has held a peer for anything but alive, and whether the machine is why."""
        return judged(self.became(since), self._standstill.held_s)

    def undisturbed(self, since: float, between: Callable[[str, str], bool] = lambda by, peer: True) -> None:
        """Since a time nobody has doubted whom nothing had happened to, and no node has written an error.

        `between` says of which pairs the former holds. What a measured standstill of the machine explains is told.
        """
        doubts = [j for j in self.doubts(since) if between(j.doubt.by, j.doubt.peer)]
        for j in doubts:
            if j.excused:
                told(f"the machine stood still: {j.told(since)}")
        problems = [j.told(since) for j in doubts if not j.excused] + self.complaints(since)
        if problems:
            excused = f"{sum(j.excused for j in doubts)} more doubts are explained by standstills"
            raise AssertionError("\n".join([f"of whom nothing had happened to ({excused}):", *problems]))

    def standstill(self, since: float) -> str:
        """Whom the machine kept from running most since a time, in words."""
        return self._standstill.worst(since)

    def complaints(self, since: float) -> list[str]:
        """Lines of errors, alarms among them, and of defects, which every log should be free of."""
        return [
            f"{node}: {line}"
            for node in self.nodes
            for line in self.log(node).splitlines()
            if (match := _LINE.match(line)) and match[2] in ("ERROR", "CRITICAL") and _time(match[1]) >= since
        ]

    async def state(self, by: str, peer: str) -> str:
        """What a node holds a peer for; empty if it does not answer or does not know it."""
        status = await self.api[by].status()
        return next((p["state"] for p in (status or {"peers": ()})["peers"] if p["name"] == peer), "")

    async def tools(self, by: str) -> dict[str, int]:
        """Tools that a node knows, by qualified name of their server; empty if it does not answer."""
        status = await self.api[by].status()
        return {s["qualified"]: s["tools"] for s in (status or {"servers": ()})["servers"]}

    async def whole(self, *nodes: str) -> bool:
        """Every one of the nodes (all by default) hears every other, and all of them know the same."""
        chosen = nodes or self.nodes
        views = []
        for status in await asyncio.gather(*(self.api[node].status() for node in chosen)):
            if status is None or not status["node"]["loaded"]:
                return False
            if sum(p["state"] == "alive" for p in status["peers"]) < len(chosen) - 1:
                return False
            views.append(sorted((s["qualified"], s["tools"], s["state"]) for s in status["servers"]))
        return all(view == views[0] for view in views)


def _time(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC).timestamp()
