"""Whole nodes that know of each other by etcd alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from federation.ca import init_ca, issue
from federation.discovery.etcd import EtcdDiscovery
from federation.driver import Federation
from federation.etcd.settings import Endpoint, EtcdSettings
from federation.events import Liveness
from federation.memory import MemoryViewStore
from federation.tls import MeshTls
from proto.calls import Answer, Call, Exchange
from proto.errors import Unavailable
from proto.names import NodeId
from proto.records import Kind, Record, RecordKey
from tests.wire.etcd_server import Etcd

pytestmark = pytest.mark.timeout(60)
WAIT_S = 20.0


class Heard:
    """A `ViewListener`: ids of records by owner, and whether it is alive."""

    def __init__(self) -> None:
        self.records: dict[str, set[str]] = {}
        self.alive: set[str] = set()
        self._change = asyncio.Event()

    def changed(self, owner: NodeId, puts: Sequence[Record], deletes: Sequence[RecordKey]) -> None:
        self.records.setdefault(owner.name, set()).update(r.id for r in puts)
        self._change.set()

    def liveness(self, owner: NodeId, state: Liveness, *, listed: bool) -> None:
        (self.alive.add if state is Liveness.ALIVE else self.alive.discard)(owner.name)
        self._change.set()

    async def until(self, condition: Callable[[Heard], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition(self):
                self._change.clear()
                await self._change.wait()


async def nothing_runs(call: Call, exchange: Exchange, peer: NodeId) -> Answer:
    raise Unavailable("nothing runs here")


class Mesh:
    def __init__(self, etcd: Etcd, directory: Path) -> None:
        self.etcd = etcd
        self.directory = directory
        self.running: list[Federation] = []
        init_ca(directory / "ca", "mesh.test")

    async def node(self, name: str, mesh: str = "mesh.test") -> tuple[Federation, Heard]:
        me = NodeId.of("mesh.test", "eu", name)
        files = issue(self.directory / "ca", me, self.directory / name)
        discovery = EtcdDiscovery(
            mesh, EtcdSettings((Endpoint.parse(self.etcd.url),)), prefix=f"/{self.directory.name}", lease_s=30
        )
        heard = Heard()
        node = Federation(
            me=me,
            mesh=mesh,
            listen="127.0.0.1:0",
            advertise="",
            tls=MeshTls.load(files.ca, files.cert, files.key),
            discoveries=[discovery],
            store=MemoryViewStore(),
            listener=heard,
            answer=nothing_runs,
            software="test",
        )
        self.running.append(node)
        await node.start()
        node.publish([Record.of(Kind.TOOL, f"time/{name}", {"name": name})], ())
        node.set_loaded()
        return node, heard

    def listed(self) -> str:
        return self.etcd.ctl("get", "--prefix", "--keys-only", f"/{self.directory.name}/").strip()


@pytest.fixture
async def mesh(shared_etcd: Etcd, tmp_path: Path) -> AsyncIterator[Mesh]:
    mesh = Mesh(shared_etcd, tmp_path)
    yield mesh
    await asyncio.gather(*(node.stop() for node in mesh.running))
    assert mesh.listed() == ""


async def test_nodes_that_know_etcd_alone_find_each_other_and_share_their_tools(mesh: Mesh) -> None:
    stranger, _ = await mesh.node("x", mesh="other.mesh")
    (one, at_one), (two, at_two) = await mesh.node("a"), await mesh.node("b")
    await at_one.until(lambda heard: heard.records.get("b") == {"time/b"} and "b" in heard.alive)
    await at_two.until(lambda heard: heard.records.get("a") == {"time/a"} and "a" in heard.alive)
    assert [str(p.node) for p in one.peers()] == ["b"]
    assert [str(p.node) for p in two.peers()] == ["a"]
    assert stranger.peers() == ()


async def test_a_peer_that_leaves_etcd_is_kept_while_its_stream_lives(mesh: Mesh) -> None:
    (one, at_one), _ = await mesh.node("a"), await mesh.node("b")
    await at_one.until(lambda heard: "b" in heard.alive)
    mesh.etcd.ctl("del", "--prefix", f"/{mesh.directory.name}/mesh.test/nodes/mesh.test/region/eu/node/b")
    late, at_late = await mesh.node("c")
    await at_late.until(lambda heard: {"a", "b"} <= heard.alive)
    assert "b" in at_one.alive
    assert late.peers()
    assert len(one.peers()) == 2


async def test_a_node_that_stops_at_once_leaves_nothing_in_etcd(mesh: Mesh) -> None:
    before = asyncio.all_tasks()
    node, _ = await mesh.node("a")
    await node.stop()
    assert mesh.listed() == ""
    assert {t for t in asyncio.all_tasks() - before if "etcd" in t.get_name()} == set()
