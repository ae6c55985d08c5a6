"""A wide-area network on one machine: regions of nodes, each in a network namespace, and what lies between them.

    async with await Lab.up({"eu": ["eu-1", "eu-2"], "us": ["us-1"]}, {frozenset({"eu", "us"}): 40}) as lab:
        await lab.start("eu-1", ["toolmesh", "up"])
        lab.cut_region("us")

The kernel's own substitute for a bad network, `sch_netem`, is missing from many kernels; a relay in user space
(`relay.py`) does the same for what one machine can load it with. Commands to it have taken effect when they return.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import aiohttp

from tests.lab import netns

WITHIN_MS = 0.3
"""One way between two nodes of a region, unless `delays` has an entry for `frozenset({region})`."""

MTU = 1500
ANSWER_S = 10.0
DOWN_S = 15.0
ROOT = Path(__file__).parents[2]
_numbers = itertools.count(1)


class Carried(NamedTuple):
    """What went from some nodes to others since the lab is up: packets and bytes (IP headers included) that arrived,
    packets lost by chance, by a cut, by a full queue."""

    packets: int
    size_bytes: int
    lost: int
    cut_off: int
    overflowed: int


class Lab:
    """Made by `up`. A *place* is the name of a node or of a region, which stands for all of its nodes."""

    def __init__(self, regions: Mapping[str, Sequence[str]]) -> None:
        self.regions = {region: tuple(nodes) for region, nodes in regions.items()}
        self.nodes = tuple(node for nodes in self.regions.values() for node in nodes)
        if len(set(self.nodes) | set(self.regions)) < len(self.nodes) + len(self.regions):
            raise ValueError("names of nodes and regions must differ from each other")
        self._address = {
            node: f"10.88.{i}.{j}"
            for i, nodes in enumerate(self.regions.values(), 1)
            for j, node in enumerate(nodes, 1)
        }  # fmt: skip
        number = next(_numbers)
        self._namespace = {node: f"{netns.prefix_of(os.getpid())}{number}-{node}" for node in self.nodes}
        self._relay: subprocess.Popen[bytes] | None = None

    @classmethod
    async def up(
        cls, regions: Mapping[str, Sequence[str]], delays: Mapping[frozenset[str], float], mtu: int = MTU
    ) -> Lab:
        """Regions with their nodes, and one-way delays in ms by pair of regions.

        Raises `RuntimeError` where this machine cannot hold a lab.
        """
        if reason := netns.lacking():
            raise RuntimeError(reason)
        lab = cls(regions)
        await asyncio.to_thread(netns.remove_stale)
        atexit.register(lab._end)
        try:
            await asyncio.to_thread(lab._begin, mtu)
            for pair, ms in delays.items():
                a, b = (*pair, *pair)[:2]
                lab.delay(a, b, ms)
        except BaseException:
            await lab.down()
            raise
        return lab

    async def down(self) -> None:
        """Everything that runs in the lab is killed, and every trace of it removed."""
        await asyncio.to_thread(self._end)
        atexit.unregister(self._end)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()

    def __repr__(self) -> str:
        shape = ", ".join(f"{region}: {len(nodes)}" for region, nodes in self.regions.items())
        return f"Lab({shape})"

    # ---- nodes ----------------------------------------------------------------------------------

    def address(self, node: str) -> str:
        """The node's IPv4 address, the only one it has beside its loopback."""
        return self._address[node]

    def namespace(self, node: str) -> str:
        return self._namespace[node] if node in self._namespace else _unknown(node)

    def region(self, node: str) -> str:
        return next(region for region, nodes in self.regions.items() if node in nodes)

    def others(self, region: str) -> tuple[str, ...]:
        """Every node that is not of the region."""
        return tuple(node for node in self.nodes if node not in self.regions[region])

    async def start(self, node: str, argv: Sequence[str], **popen: Any) -> asyncio.subprocess.Process:
        """Run a program on a node; the process is the program's own."""
        return await asyncio.create_subprocess_exec("ip", "netns", "exec", self.namespace(node), *argv, **popen)

    def signal(self, node: str, number: signal.Signals) -> None:
        """To every process on a node at once: SIGKILL is a power cut, SIGSTOP a frozen machine."""
        for pid in netns.pids_in(self.namespace(node)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def socket(self, node: str) -> socket.socket:
        """A TCP socket that stands on the node, for use by this process: its 127.0.0.1 is the node's loopback."""
        return netns.socket_in(self.namespace(node))

    def connector(self, node: str) -> aiohttp.TCPConnector:
        """For an HTTP session that dials as if from the node. No cut reaches the node's loopback."""
        return aiohttp.TCPConnector(socket_factory=lambda _: self.socket(node))

    # ---- the network ----------------------------------------------------------------------------

    def cut(self, a: str, b: str) -> None:
        """Nothing passes between two places, either way: packets vanish, nobody is told."""
        self._set(self._both_ways(a, b), cut=True)

    def cut_one_way(self, hearing: str, deaf: str) -> None:
        """`deaf` gets nothing from `hearing` any more; `hearing` still hears `deaf`."""
        self._set(self._pairs(hearing, deaf), cut=True)

    def cut_region(self, region: str) -> None:
        """Nothing passes between a region and the rest of the world; within it all goes on."""
        for other in self.regions:
            if other != region:
                self.cut(region, other)

    def heal(self) -> None:
        """No cuts and no losses any more; delays stay."""
        self._ask("heal")

    def loss(self, a: str, b: str, percent: float) -> None:
        """Of the packets each way."""
        self._set(self._both_ways(a, b), loss_percent=percent)

    def delay(self, a: str, b: str, ms: float, jitter: float = 0.0) -> None:
        """One way, the same both ways; each packet takes up to `jitter` ms longer, and none overtakes another."""
        self._set(self._both_ways(a, b), delay_ms=ms, jitter_ms=jitter)

    def carried(self, source: str, to: str) -> Carried:
        """What went from one place to another since the lab is up."""
        pairs = {tuple(pair) for pair in self._pairs(source, to)}
        links = [link for a, b, link in self._ask("stats") if (a, b) in pairs]
        fields = ("carried", "carried_bytes", "lost", "cut_off", "overflowed")
        return Carried(*(sum(link[name] for link in links) for name in fields))

    def _nodes_at(self, place: str) -> tuple[str, ...]:
        if place in self._address:
            return (place,)
        return self.regions[place] if place in self.regions else _unknown(place)

    def _pairs(self, source: str, to: str) -> list[tuple[str, str]]:
        return [(a, b) for a in self._nodes_at(source) for b in self._nodes_at(to) if a != b]

    def _both_ways(self, a: str, b: str) -> list[tuple[str, str]]:
        return [*self._pairs(a, b), *self._pairs(b, a)]

    def _set(self, pairs: Iterable[tuple[str, str]], **values: float) -> None:
        self._ask("set", list(pairs), values)

    # ---- the relay ------------------------------------------------------------------------------

    @property
    def relay_pid(self) -> int | None:
        """The process that every packet goes through; None while the lab is down."""
        return None if self._relay is None else self._relay.pid

    def _ask(self, *command: object) -> Any:
        """One command and its answer, in a fraction of a millisecond; so it is worth no coroutine."""
        if self._relay is None:
            raise RuntimeError("the lab is down")
        return _exchange(self._relay, list(command))

    def _begin(self, mtu: int) -> None:
        for name in self._namespace.values():
            netns.make(name)
        # A session of its own: Ctrl-C is for the tests, whose end it then notices, and cleans up after.
        self._relay = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.relay"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        _exchange(self._relay, {"namespaces": self._namespace, "addresses": self._address, "prefix": 16, "mtu": mtu})
        for region, nodes in self.regions.items():
            if len(nodes) > 1:
                self.delay(region, region, WITHIN_MS)

    def _end(self) -> None:
        relay, self._relay = self._relay, None
        if relay is not None:
            assert relay.stdin is not None
            assert relay.stdout is not None
            relay.stdin.close()
            try:
                relay.wait(DOWN_S)
            except subprocess.TimeoutExpired:
                relay.kill()
                relay.wait()
            relay.stdout.close()
        netns.remove(self._namespace.values())


def _exchange(relay: subprocess.Popen[bytes], command: object) -> Any:
    """Raises `RuntimeError` if the relay has died or is silent for `ANSWER_S`."""
    assert relay.stdin is not None
    assert relay.stdout is not None
    with suppress(BrokenPipeError):
        relay.stdin.write(json.dumps(command).encode() + b"\n")
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([relay.stdout], (), (), ANSWER_S)
        more = os.read(relay.stdout.fileno(), 1 << 20) if ready else b""
        if not more:
            raise RuntimeError(
                f"the relay of the lab {'has ended' if ready else 'does not answer'}; its stderr says why"
            )
        line += more
    return json.loads(line)


def _unknown(place: str) -> Any:
    raise KeyError(f"{place!r} is neither a node nor a region of this lab")
