"""A mesh for tests: federations in one process, on ports of their own, with real gRPC and TLS; waited for by events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from federation.ca import init_ca, issue
from federation.discovery.static import StaticDiscovery
from federation.driver import Federation
from federation.events import Liveness
from federation.lending import Lender
from federation.memory import MemoryViewStore
from federation.ports import ViewStore
from federation.refusals import Refusal
from federation.status import PeerStatus
from federation.tls import MeshTls
from proto.calls import Answer, Call, Exchange
from proto.names import NodeId
from proto.records import Kind, Record, RecordKey

WAIT_S = 20.0
DOMAIN = "mesh.test"


def node_id(name: str, domain: str = DOMAIN, region: str = "eu") -> NodeId:
    return NodeId.of(domain, region, name)


def tool(name: str, text: str = "") -> Record:
    return Record.of(Kind.TOOL, f"time/{name}", {"name": name, "description": text})


class Heard:
    """A `ViewListener` that keeps what it was told, and wakes whoever waits for it."""

    def __init__(self) -> None:
        self.views: dict[str, dict[RecordKey, Record]] = {}
        self.states: dict[str, list[Liveness]] = {}
        self.listed: dict[str, bool] = {}
        self.puts: list[tuple[str, tuple[str, ...]]] = []
        self._change = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def changed(self, owner: NodeId, puts: Sequence[Record], deletes: Sequence[RecordKey]) -> None:
        view = self.views.setdefault(owner.name, {})
        for key in deletes:
            del view[key]
        view.update((r.key, r) for r in puts)
        self.puts.append((owner.name, tuple(r.id for r in puts)))
        self._wake()

    def liveness(self, owner: NodeId, state: Liveness, *, listed: bool) -> None:
        self.states.setdefault(owner.name, []).append(state)
        self.listed[owner.name] = listed
        self._wake()

    def _wake(self) -> None:
        task = asyncio.ensure_future(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _notify(self) -> None:
        async with self._change:
            self._change.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S), self._change:
            await self._change.wait_for(condition)

    def state(self, owner: str) -> Liveness | None:
        return self.states.get(owner, [None])[-1]

    def ids(self, owner: str) -> set[str]:
        return {k.id for k in self.views.get(owner, {})}


async def answer(call: Call, exchange: Exchange, peer: NodeId) -> Answer:
    return {"result": {"for": peer.name, "method": call.method}}


@dataclass
class Mesh:
    """Federations by name, all stopped at the end."""

    ca: Path
    out: Path
    running: list[Federation] = field(default_factory=list)
    issued: int = 0

    def tls(self, name: str, *, ca: Path | None = None, region: str = "eu", roles: Sequence[str] = ()) -> MeshTls:
        """A fresh certificate."""
        self.issued += 1
        node = node_id(name, region=region)
        return MeshTls.load(*issue(ca or self.ca, node, self.out / f"{name}-{self.issued}", roles=roles))

    async def node(
        self,
        name: str,
        *seeds: str,
        store: ViewStore | None = None,
        mesh: str = "lab",
        ca: Path | None = None,
        listen: str = "127.0.0.1:0",
        advertise: str = "",
        records: Sequence[Record] = (),
        region: str = "eu",
        roles: Sequence[str] = (),
        lender: Lender | None = None,
    ) -> tuple[Federation, Heard]:
        me = node_id(name, region=region)
        heard = Heard()
        federation = Federation(
            me=me,
            mesh=mesh,
            listen=listen,
            advertise=advertise,
            tls=self.tls(name, ca=ca, region=region, roles=roles),
            discoveries=[StaticDiscovery(list(seeds))] if seeds else [],
            store=store or MemoryViewStore(),
            listener=heard,
            answer=answer,
            software="toolmesh/test",
            lender=lender,
        )
        self.running.append(federation)
        await federation.start()
        federation.publish(records, ())
        federation.set_loaded()
        return federation, heard


def at(federation: Federation) -> str:
    return f"127.0.0.1:{federation.bound_port}"


async def refusal_where(federation: Federation, condition: Callable[[Refusal], bool]) -> Refusal:
    """The book of refusals has no events of its own either."""
    async with asyncio.timeout(WAIT_S):
        while True:
            for refusal in federation.refusals.latest():
                if condition(refusal):
                    return refusal
            await asyncio.sleep(0.02)


async def status_where(federation: Federation, condition: Callable[[PeerStatus], bool]) -> PeerStatus:
    """Status has no events of its own: look again whenever the loop has turned."""
    async with asyncio.timeout(WAIT_S):
        while True:
            for status in federation.peers():
                if condition(status):
                    return status
            await asyncio.sleep(0.02)


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    init_ca(tmp_path / "ca", DOMAIN)
    world = Mesh(tmp_path / "ca", tmp_path)
    yield world
    await asyncio.gather(*(f.stop() for f in world.running))
