"""One node of a mesh under measurement: a `Federation` and nothing else, told what to do in JSON lines on stdin.

`python -m bench.federation.worker NAME REGION DIRECTORY LISTEN`: certificates and the store lie in the directory.
Each line `{"id": n, "do": WORD, ...}` is answered by `{"id": n, ...}` on stdout. Times are CLOCK_MONOTONIC
nanoseconds, which processes of one machine share.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop

from bench.federation.words import CHANGE, MESH
from federation.driver import Federation
from federation.events import Liveness
from federation.ports import Found
from federation.store import SqliteViewStore
from federation.tls import MeshTls
from proto.calls import Answer, Call, Exchange
from proto.errors import Unknown
from proto.frames import Delta, Down, Snapshot
from proto.names import NodeId
from proto.records import Kind, Record, RecordKey

SERVER = "bench"
SEEN_PUTS_MAX = 1_000
"""Larger batches are loads, among which no single change is looked for."""


class Told:
    """A `Discovery` that finds what it is told."""

    def __init__(self) -> None:
        self._told: asyncio.Queue[Found] = asyncio.Queue()

    def tell(self, found: Found) -> None:
        self._told.put_nowait(found)

    async def run(self, found: Callable[[Found], None]) -> None:
        while True:
            found(await self._told.get())

    async def announce(self, me: NodeId, address: str, mesh: str) -> None:
        """Nothing."""

    async def withdraw(self) -> None:
        """Nothing."""

    @property
    def problem(self) -> str:
        return ""


class Stamps:
    """A `ViewListener` that notes when it was told what."""

    def __init__(self) -> None:
        self.changes: dict[str, int] = {}
        self.fates: list[tuple[int, str, str]] = []
        self.stirred = asyncio.Event()

    def changed(self, owner: NodeId, puts: Sequence[Record], deletes: Sequence[RecordKey]) -> None:
        now = time.monotonic_ns()
        if len(puts) <= SEEN_PUTS_MAX:
            self.changes.update((r.id, now) for r in puts if r.id.startswith(CHANGE))
        self.stirred.set()

    def liveness(self, owner: NodeId, state: Liveness, *, listed: bool) -> None:
        self.fates.append((time.monotonic_ns(), owner.name, state.value))
        self.stirred.set()


class Counted(Federation):
    """Counts what came down the owner streams."""

    snapshots = bodies = deltas = 0

    def link_received(self, peer: NodeId, frame: Down) -> None:
        match frame:
            case Snapshot():
                self.snapshots += 1
                self.bodies += len(frame.bodies)
            case Delta():
                self.deltas += 1
        super().link_received(peer, frame)


async def _no_calls(_call: Call, _exchange: Exchange, _peer: NodeId) -> Answer:
    raise Unknown("this node owns nothing that runs")


class Worker:
    def __init__(self, me: NodeId, directory: Path, listen: str) -> None:
        self.me = me
        self.told = Told()
        self.stamps = Stamps()
        name = me.name
        self.federation = Counted(
            me=me,
            mesh=MESH,
            listen=listen,
            advertise="",
            tls=MeshTls.load(*(directory / f for f in ("ca.pem", f"{name}.pem", f"{name}-key.pem"))),
            discoveries=[self.told],
            store=SqliteViewStore(directory / "data"),
            listener=self.stamps,
            answer=_no_calls,
            software="bench",
        )

    async def start(self) -> dict[str, Any]:
        """What was held before a peer was heard; `took_s` until all of it was there again."""
        began = time.monotonic_ns()
        await self.federation.start()
        while not self.federation.restored:  # noqa: ASYNC110 nothing tells of it
            await asyncio.sleep(0.002)
        ready = time.monotonic_ns()
        return {"port": self.federation.bound_port, "took_s": (ready - began) / 1e9, "began": began, **self.status()}

    def peers(self, found: list[tuple[str, str]]) -> dict[str, Any]:
        """(id, address) of each, as etcd or mDNS would give them."""
        for node, address in found:
            self.told.tell(Found(address, NodeId.parse(node)))
        return {}

    def load(self, tools: int, body_bytes: int) -> dict[str, Any]:
        """Own that many tools of about so many bytes, and say that this is all."""
        server = Record.of(Kind.SERVER, SERVER, {"capabilities": {"tools": {}}, "health": {"state": "up"}})
        self.federation.publish([server, *(_tool(f"t{i}", body_bytes) for i in range(tools))], ())
        self.federation.set_loaded()
        return {}

    def change(self, name: str, body_bytes: int = 300) -> dict[str, Any]:
        record = _tool(name, body_bytes)
        at = time.monotonic_ns()
        self.federation.publish([record], ())
        return {"at": at}

    def seen(self) -> dict[str, Any]:
        changes, self.stamps.changes = self.stamps.changes, {}
        return {"changes": changes}

    def fates(self) -> dict[str, Any]:
        return {"fates": self.stamps.fates}

    def status(self) -> dict[str, Any]:
        peers = [p for p in self.federation.peers() if p.node is not None]
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "alive": sum(p.state is Liveness.ALIVE and not p.stale for p in peers),
            "records": sum(p.records for p in peers),
            "lag": sum(p.lag_seq for p in peers),
            "received_bytes": sum(p.totals.received_bytes for p in peers),
            "snapshots": self.federation.snapshots,
            "bodies": self.federation.bodies,
            "deltas": self.federation.deltas,
            "cpu_s": used.ru_utime + used.ru_stime,
            "rss_mb": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20,
            "at": time.monotonic_ns(),
        }

    async def until(self, alive: int, records: int = 0, seen: Sequence[str] = ()) -> dict[str, Any]:
        """Answered once that many peers are alive and in step, and so much is held. The asker sets the limit."""
        while True:
            self.stamps.stirred.clear()
            status = self.status()
            enough = status["alive"] >= alive and status["records"] >= records and not status["lag"]
            if enough and all(s in self.stamps.changes for s in seen):
                return status
            try:
                # A stream's being up to date is told by no change: hence the look now and then.
                await asyncio.wait_for(self.stamps.stirred.wait(), 0.05)
            except TimeoutError:
                continue

    async def stop(self) -> dict[str, Any]:
        await self.federation.stop()
        return {}


def _tool(name: str, body_bytes: int) -> Record:
    """A definition as they are: most of it is schema."""
    prose = f"Does what {name} does, as told by its owner. "
    properties = {
        f"parameter_{i}": {"type": "string", "description": (prose * 4)[:120], "maxLength": 100 + i}
        for i in range(max(1, (body_bytes - 200) // 190))
    }
    schema = {"type": "object", "properties": properties, "required": ["parameter_0"]}
    return Record.of(
        Kind.TOOL, f"{SERVER}/{name}", {"name": name, "description": prose, "inputSchema": schema, "n": time.time_ns()}
    )


async def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    name, region, directory, listen = sys.argv[1:5]
    worker = Worker(NodeId.of(MESH, region, name), Path(directory), listen)
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    running: set[asyncio.Task[None]] = set()

    async def obey(order: dict[str, Any]) -> None:
        number, word = order.pop("id"), order.pop("do")
        answer = getattr(worker, word)(**order)
        if asyncio.iscoroutine(answer):
            answer = await answer
        sys.stdout.write(json.dumps({"id": number, **answer}) + "\n")
        sys.stdout.flush()

    # Until stdin ends: a worker does not outlive whoever measures it.
    while line := await lines.readline():
        task = asyncio.create_task(obey(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


if __name__ == "__main__":
    uvloop.run(main())
