"""Nodes find each other by etcd, whatever becomes of it: fences, lost leases, rivals, rubbish, compaction."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from federation.discovery.entries import Entry, folder, key_of
from federation.discovery.etcd import EtcdDiscovery
from federation.etcd.settings import Endpoint, EtcdSettings
from federation.ports import Found
from proto.errors import Invalid
from proto.names import NodeId
from tests.federation.discoveries import A, B, DiscoveryContract, Finder, stop_all
from tests.wire.etcd_server import Etcd, cluster, need_etcd, single
from tests.wire.lines import Lines

pytestmark = pytest.mark.timeout(60)
_numbers = itertools.count()
RELIST_S = 600.0
"""Of no help within a test, unless it asks for it."""


def settings(*servers: Etcd) -> EtcdSettings:
    return EtcdSettings(tuple(Endpoint.parse(s.url) for s in servers), call_s=1.0, quiet_s=0.5)


class World:
    """Discoveries of one test, below a prefix of its own; all stopped at the end."""

    def __init__(self, *servers: Etcd) -> None:
        self.servers = servers
        self.prefix = f"/test-{next(_numbers)}"
        self.finders: list[Finder] = []

    def node(self, mesh: str = "blue", *, lease_s: int = 30, relist_s: float = RELIST_S) -> Finder:
        discovery = EtcdDiscovery(
            mesh, settings(*self.servers), prefix=self.prefix, lease_s=lease_s, relist_s=relist_s, software="test/1"
        )
        self.finders.append(Finder(discovery))
        return self.finders[-1]

    def key(self, node: NodeId) -> str:
        return key_of(folder(self.prefix, "blue"), node).decode()

    def put(self, node: NodeId, value: bytes) -> None:
        self.servers[0].ctl("put", self.key(node), value.decode())

    def entry(self, node: NodeId, server: Etcd | None = None) -> dict[str, str] | None:
        """What stands under the node's key."""
        text = (server or self.servers[0]).ctl("get", "--print-value-only", self.key(node))
        return json.loads(text) if text else None

    def lease(self, node: NodeId) -> str:
        kvs = json.loads(self.servers[0].ctl("get", self.key(node), "-w", "json"))["kvs"]
        return f"{kvs[0]['lease']:x}"


@pytest.fixture
async def world(shared_etcd: Etcd) -> AsyncIterator[World]:
    world = World(shared_etcd)
    yield world
    await stop_all(world.finders)
    assert not shared_etcd.ctl("get", "--prefix", "--keys-only", world.prefix).strip()


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[Etcd]:
    """A server to be killed and frozen."""
    need_etcd()
    server = single(tmp_path)
    yield server
    server.stop()


@pytest.fixture
async def own_world(own_etcd: Etcd) -> AsyncIterator[World]:
    world = World(own_etcd)
    yield world
    own_etcd.thaw()
    await stop_all(world.finders)


def discovery_of(finder: Finder) -> EtcdDiscovery:
    assert isinstance(finder.discovery, EtcdDiscovery)
    return finder.discovery


class TestEtcd(DiscoveryContract):
    @pytest.fixture
    def make(self, world: World) -> Callable[[str], Finder]:
        return world.node


async def test_an_entry_says_where_who_and_which_software(world: World, lines: Lines) -> None:
    one = world.node()
    await one.discovery.announce(A, "127.0.0.1:7001", "blue")
    await lines.until("a is registered in etcd at 127.0.0.1:7001")
    entry = world.entry(A)
    assert entry is not None
    assert (entry["address"], entry["software"], len(entry["instance"])) == ("127.0.0.1:7001", "test/1", 32)
    assert f"under lease {world.lease(A)}" in repr(one.discovery)
    await one.discovery.withdraw()
    assert world.entry(A) is None


async def test_what_cannot_be_announced_is_invalid(world: World) -> None:
    one = world.node()
    with pytest.raises(Invalid, match="host:port"):
        await one.discovery.announce(A, "nowhere", "blue")
    with pytest.raises(Invalid, match="'red' is not 'blue'"):
        await one.discovery.announce(A, "127.0.0.1:1", "red")


async def test_a_previous_life_at_the_same_address_is_taken_over(world: World) -> None:
    world.put(A, Entry("127.0.0.1:7001", "before").value())
    one, other = world.node(), world.node()
    await other.until(Found("127.0.0.1:7001", A))
    await one.discovery.announce(A, "127.0.0.1:7001", "blue")
    await other.until(Found("127.0.0.1:7001", A))
    entry = world.entry(A)
    assert entry is not None
    assert entry["instance"] != "before"
    assert int(world.lease(A), 16)


async def test_a_second_holder_is_told_off_and_comes_in_when_the_first_has_gone(world: World, lines: Lines) -> None:
    first, second, other = world.node(), world.node(lease_s=30), world.node()
    await first.discovery.announce(A, "127.0.0.1:7001", "blue")
    await other.until(Found("127.0.0.1:7001", A))
    await second.discovery.announce(A, "127.0.0.1:7002", "blue")
    line = await lines.until("two processes hold the identity")
    assert A.uri in line
    assert "another at 127.0.0.1:7001, and this one at 127.0.0.1:7002; stop one of them" in line
    assert "two processes" in discovery_of(second).problem
    entry = world.entry(A)
    assert entry is not None
    assert entry["address"] == "127.0.0.1:7001"
    await first.discovery.withdraw()
    await other.until(Found("127.0.0.1:7002", A))
    await lines.until("a is registered in etcd at 127.0.0.1:7002")
    assert discovery_of(second).problem == ""


async def test_whoever_was_replaced_at_the_same_address_says_so_and_does_not_fight_back(
    world: World, lines: Lines
) -> None:
    first, second = world.node(), world.node()
    await first.discovery.announce(A, "127.0.0.1:7001", "blue")
    await lines.until("a is registered in etcd")
    await second.discovery.announce(A, "127.0.0.1:7001", "blue")
    line = await lines.until("two processes hold the identity")
    assert "another at the same address" in line
    entry, own = world.entry(A), discovery_of(second)._own
    assert entry is not None
    assert own is not None
    assert entry["instance"] == own.entry.instance


async def test_rubbish_under_our_own_key_is_not_overwritten(world: World, lines: Lines) -> None:
    world.put(A, b"rubbish")
    one, other = world.node(), world.node()
    await one.discovery.announce(A, "127.0.0.1:7001", "blue")
    assert "etcdctl del" in await lines.until("etcd holds something else under")
    world.servers[0].ctl("del", world.key(A))
    await other.until(Found("127.0.0.1:7001", A))


async def test_a_lease_that_is_revoked_behind_our_back_is_replaced(world: World, lines: Lines) -> None:
    one, other = world.node(lease_s=30), world.node()
    await one.discovery.announce(A, "127.0.0.1:7001", "blue")
    await other.until(Found("127.0.0.1:7001", A))
    world.servers[0].ctl("lease", "revoke", world.lease(A))
    await other.until(Found("127.0.0.1:7001", A))
    await lines.until("has ended behind our back")


async def test_a_key_that_is_deleted_behind_our_back_is_put_again(world: World) -> None:
    one, other = world.node(), world.node()
    await one.discovery.announce(A, "127.0.0.1:7001", "blue")
    await other.until(Found("127.0.0.1:7001", A))
    world.servers[0].ctl("del", world.key(A))
    await other.until(Found("127.0.0.1:7001", A))


async def test_an_entry_stays_as_long_as_its_node_keeps_it_alive_and_no_longer(world: World, lines: Lines) -> None:
    one, other = world.node(lease_s=1), world.node()
    await one.discovery.announce(A, "127.0.0.1:7001", "blue")
    await other.until(Found("127.0.0.1:7001", A))
    lease = world.lease(A)
    # Three lives of a lease that is not kept: the server lets each of these end.
    for _ in range(3):
        granted = world.servers[0].ctl("lease", "grant", "1").split()[1]
        gone = f"{world.prefix}/blue/nodes/{granted}"
        world.servers[0].ctl("put", gone, "x", f"--lease={granted}")
        await lines.until(f"etcd no longer lists {gone!r}")
    assert world.lease(A) == lease
    one.task.cancel()
    await lines.until(f"etcd no longer lists {world.key(A)!r}")


async def test_what_makes_no_sense_is_skipped_with_one_line_each(world: World, lines: Lines) -> None:
    foreign = NodeId.of("other.test", "eu", "x")
    world.put(A, b"rubbish")
    world.put(foreign, Entry("h:1", "").value())
    one = world.node()
    await one.discovery.announce(B, "127.0.0.1:7002", "blue")
    await lines.until("/node/a' in etcd is not used")
    for _ in range(3):
        world.put(A, b'{"address": "h"}')
        world.put(A, b"rubbish")
    world.put(A, Entry("127.0.0.1:7001", "").value())
    await one.until(Found("127.0.0.1:7001", A))
    assert "another trust domain" in await lines.until("/node/x' in etcd is not used")
    assert len([line for line in lines.lines if "in etcd is not used" in line]) == 3
    for node in (A, foreign):
        world.servers[0].ctl("del", world.key(node))


async def test_a_node_starts_without_etcd_and_registers_when_it_comes(own_world: World, lines: Lines) -> None:
    (server,) = own_world.servers
    server.kill()
    one = own_world.node()
    await one.discovery.announce(A, "127.0.0.1:7001", "blue")
    await lines.until("etcd does not answer, the node runs on without")
    server.start().ready()
    await own_world.node().until(Found("127.0.0.1:7001", A))
    await lines.until("a is registered in etcd")
    assert discovery_of(one).problem == ""
    assert any("etcd answers again" in line for line in lines.lines)
    assert len([line for line in lines.lines if "etcd does not answer" in line]) <= 2


async def test_who_runs_through_a_restart_of_etcd_keeps_its_entry_and_hears_of_the_others(own_world: World) -> None:
    (server,) = own_world.servers
    one, other = own_world.node(), own_world.node()
    await one.discovery.announce(A, "127.0.0.1:7001", "blue")
    await other.until(Found("127.0.0.1:7001", A))
    lease = own_world.lease(A)
    server.kill()
    server.start().ready()
    await other.discovery.announce(B, "127.0.0.1:7002", "blue")
    await one.until(Found("127.0.0.1:7002", B))
    assert own_world.lease(A) == lease


async def test_a_frozen_etcd_delays_a_goodbye_by_little_and_hides_nobody(own_world: World, lines: Lines) -> None:
    (server,) = own_world.servers
    one, other = own_world.node(lease_s=1), own_world.node()
    await one.discovery.announce(A, "127.0.0.1:7001", "blue")
    await other.until(Found("127.0.0.1:7001", A))
    server.freeze()
    await lines.until("etcd does not answer")
    # Whichever notices first: a request that runs out of time, or the watch.
    problem = discovery_of(one).problem
    assert "did not answer in time" in problem or "has fallen silent" in problem
    async with asyncio.timeout(10):
        await one.discovery.withdraw()
    await lines.until("the entry of a is left to its lease")
    server.thaw()
    await lines.until(f"etcd no longer lists {own_world.key(A)!r}")


async def test_changes_that_were_compacted_away_are_listed_again(tmp_path: Path, lines: Lines) -> None:
    need_etcd()
    members = cluster(tmp_path)
    world = World(members[0])
    try:
        follower, *others = sorted(members, key=Etcd.leads)
        world.servers = (follower,)
        one = world.node()
        world.servers = (others[0],)
        world.put(A, Entry("127.0.0.1:7001", "").value())
        await one.until(Found("127.0.0.1:7001", A))
        follower.kill()
        world.put(A, Entry("127.0.0.1:7002", "").value())
        world.put(A, Entry("127.0.0.1:7003", "").value())
        others[0].ctl("compact", str(others[0].revision()))
        follower.start().ready()
        await one.until(Found("127.0.0.1:7003", A))
        await lines.until("everything is listed again")
        world.put(A, Entry("127.0.0.1:7004", "").value())
        await one.until(Found("127.0.0.1:7004", A))
    finally:
        await stop_all(world.finders)
        for member in members:
            member.stop()


async def test_a_store_that_lost_its_past_is_noticed_by_the_next_list(tmp_path: Path) -> None:
    need_etcd()
    server = single(tmp_path)
    world = World(server)
    try:
        for i in range(20):
            server.ctl("put", "/revisions", str(i))
        one, other = world.node(relist_s=1.0), world.node(relist_s=1.0)
        await one.discovery.announce(A, "127.0.0.1:7001", "blue")
        await other.until(Found("127.0.0.1:7001", A))
        server.kill()
        server.directory = tmp_path / "emptied"
        server.directory.mkdir()
        server.start().ready()
        await other.until(Found("127.0.0.1:7001", A))
        await other.discovery.announce(B, "127.0.0.1:7002", "blue")
        await one.until(Found("127.0.0.1:7002", B))
    finally:
        await stop_all(world.finders)
        server.stop()
