"""Workers as a measurement sees them: started, told, frozen, killed; on this machine's loopback or in a lab."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from bench.federation.words import MESH
from federation.ca import init_ca, issue
from proto.names import NodeId

ROOT = Path(__file__).parents[2]
ANSWER_S = 120.0
STARTED_AT_ONCE = 4
MET_AT_ONCE = 5
LINE_BYTES_MAX = 1 << 24

Spawn = Callable[..., Awaitable[asyncio.subprocess.Process]]


class Node:
    """One worker process at a time; `start` after `kill` is the same node, its disk kept."""

    def __init__(self, fleet: Fleet, name: str, region: str, host: str) -> None:
        self.name = name
        self.region = region
        self.host = host
        self.port = 0
        self.restored: dict[str, Any] = {}
        self._fleet = fleet
        self._directory = fleet.directory / name
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}

    def __repr__(self) -> str:
        return f"Node({self.name} {'up' if self._process else 'down'})"

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def hint(self) -> tuple[str, str]:
        """(id, address): what a discovery finds."""
        return NodeId.of(MESH, self.region, self.name).uri, self.address

    async def start(self) -> None:
        """Up and listening, where it listened before if it did."""
        if not self._directory.exists():
            issue(self._fleet.ca, NodeId.of(MESH, self.region, self.name), self._directory, hosts=[self.host])
        argv = [sys.executable, "-m", "bench.federation.worker", self.name, self.region, str(self._directory)]
        with (self._directory / "log").open("ab") as log:
            self._process = await self._fleet.spawn(
                self.name, [*argv, self.address], stdin=-1, stdout=-1, stderr=log, cwd=ROOT, limit=LINE_BYTES_MAX
            )
        self._reading = asyncio.create_task(self._read(self._process))
        self.restored = await self.ask("start")
        self.port = self.restored["port"]

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            answer = json.loads(line)
            if (asked := self._asked.pop(answer["id"], None)) is not None and not asked.done():
                asked.set_result(answer)
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(RuntimeError(f"{self!r} has ended; see {self._directory / 'log'}"))

    async def ask(self, word: str, limit_s: float = ANSWER_S, **more: Any) -> dict[str, Any]:
        """Raises `TimeoutError`, or `RuntimeError` if the worker ends first."""
        assert self._process is not None
        assert self._process.stdin is not None
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps({"id": number, "do": word, **more}).encode() + b"\n")
        try:
            return await asyncio.wait_for(answer, limit_s)
        except TimeoutError:
            raise TimeoutError(f"{self.name} has not answered {word!r} {more} within {limit_s:g} s") from None
        finally:
            self._asked.pop(number, None)

    def signal(self, number: signal.Signals) -> int:
        """When it was sent."""
        assert self._process is not None
        at = time.monotonic_ns()
        os.kill(self._process.pid, number)
        return at

    async def kill(self) -> int:
        """As a power cut would. When."""
        at = self.signal(signal.SIGKILL)
        await self.ended()
        return at

    async def stop(self) -> None:
        """With a goodbye, everything saved."""
        await self.ask("stop")
        self.signal(signal.SIGKILL)
        await self.ended()

    async def ended(self) -> None:
        assert self._process is not None
        assert self._reading is not None
        await self._process.wait()
        self._reading.cancel()
        with suppress(asyncio.CancelledError, RuntimeError):
            await self._reading
        self._process, self._asked = None, {}

    @property
    def up(self) -> bool:
        return self._process is not None and self._process.returncode is None


async def _here(_name: str, argv: Sequence[str], **popen: Any) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(*argv, **popen)


class Fleet:
    """Nodes of one mesh. `places`: (name, region, host) of each; `spawn` runs a program where a node is.

    `disturbed`: to whom something was done, from when to when.
    """

    def __init__(self, directory: Path, places: Iterable[tuple[str, str, str]], spawn: Spawn = _here) -> None:
        self.directory = directory
        self.ca = directory / "ca"
        self.spawn = spawn
        self.whole_at = 0
        self.disturbed: list[tuple[int, int, str]] = []
        init_ca(self.ca, MESH)
        self.nodes = [Node(self, *place) for place in places]

    @classmethod
    def of(cls, directory: Path, size: int) -> Fleet:
        """On this machine's loopback."""
        return cls(directory, ((f"n-{i}", "eu", "127.0.0.1") for i in range(size)))

    async def __aenter__(self) -> Self:
        try:
            # A few at a time: forty interpreters that start at once on two cores outlast every limit.
            for i in range(0, len(self.nodes), STARTED_AT_ONCE):
                await asyncio.gather(*(n.start() for n in self.nodes[i : i + STARTED_AT_ONCE]))
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Everyone at once: survivors would spend the time asking each other who is still there."""
        up = [node for node in self.nodes if node.up]
        for node in up:
            node.signal(signal.SIGKILL)
        for node in up:
            await node.ended()

    def others(self, *nodes: Node) -> list[Node]:
        return [n for n in self.nodes if n not in nodes]

    async def meet(self) -> None:
        """Everyone is told of everyone, owns a few tools, and hears all the others.

        A few at a time, each of whom those before hear before the next come: forty nodes that meet at once make some
        fifteen hundred connections, and while two cores do that attempts time out and make more of them.
        """
        await self.each("load", tools=5, body_bytes=1000)
        for i in range(0, len(self.nodes), MET_AT_ONCE):
            there = self.nodes[: i + MET_AT_ONCE]
            await self.each("peers", self.nodes[i : i + MET_AT_ONCE], found=[n.hint for n in there])
            await self.each("until", there, alive=len(there) - 1)
        self.whole_at = time.monotonic_ns()

    async def whole(self, limit_s: float = ANSWER_S) -> list[dict[str, Any]]:
        """Everyone hears everyone, and lacks nothing."""
        return await self.each("until", limit_s=limit_s, alive=len(self.nodes) - 1)

    async def each(self, word: str, nodes: Sequence[Node] | None = None, **more: Any) -> list[dict[str, Any]]:
        return await asyncio.gather(*(n.ask(word, **more) for n in (self.nodes if nodes is None else nodes)))
