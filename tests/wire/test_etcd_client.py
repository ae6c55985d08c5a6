"""The etcd client against real servers: fences, leases, watches, and what it does when members fail."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from federation.etcd.client import EtcdClient, Lease
from federation.etcd.cluster import Cluster
from federation.etcd.errors import Compacted
from federation.etcd.pairs import Change
from federation.etcd.settings import Endpoint, EtcdSettings
from proto.errors import Unavailable, Unknown
from tests.wire.etcd_server import Etcd, cluster, need_etcd, single
from tests.wire.lines import Lines

pytestmark = pytest.mark.timeout(60)
_numbers = itertools.count()


@pytest.fixture
def prefix() -> bytes:
    return b"/client-%d/" % next(_numbers)


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[Etcd]:
    """A server to be killed and frozen."""
    need_etcd()
    server = single(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def members(tmp_path: Path) -> Iterator[list[Etcd]]:
    need_etcd()
    servers = cluster(tmp_path)
    yield servers
    for server in servers:
        server.stop()


def settings(*servers: Etcd, call_s: float = 1.0, quiet_s: float = 0.5) -> EtcdSettings:
    return EtcdSettings(tuple(Endpoint.parse(s.url) for s in servers), call_s=call_s, quiet_s=quiet_s)


@asynccontextmanager
async def dialled(*servers: Etcd, call_s: float = 1.0) -> AsyncIterator[EtcdClient]:
    """A client that asks the first of the servers first."""
    async with EtcdClient(settings(*servers, call_s=call_s)) as etcd:
        etcd._cluster.current = next(m for m in etcd._cluster.members if m.at == servers[0].url)
        yield etcd


async def next_of(batches: AsyncGenerator[Sequence[Change], None]) -> Sequence[Change]:
    async with asyncio.timeout(20):
        return await anext(batches)


async def after(etcd: EtcdClient) -> int:
    """The revision that the next change will have."""
    return (await etcd.list(b"/", 1)).revision + 1


def seen(batch: Sequence[Change]) -> list[tuple[bytes, bytes | None]]:
    return [(c.key, c.pair.value if c.pair else None) for c in batch]


async def test_a_key_is_created_once_and_the_second_is_told_who_holds_it(shared_etcd: Etcd, prefix: bytes) -> None:
    async with dialled(shared_etcd) as etcd:
        lease, other = await etcd.grant(60), await etcd.grant(60)
        assert await etcd.create(prefix + b"a", b"mine", lease) is None
        holder = await etcd.create(prefix + b"a", b"yours", other)
        assert holder is not None
        assert (holder.value, holder.lease) == (b"mine", lease.id)
        assert (await etcd.list(prefix, 10)).pairs == (holder,)


async def test_a_key_is_replaced_only_by_whoever_has_seen_its_latest_value(shared_etcd: Etcd, prefix: bytes) -> None:
    async with dialled(shared_etcd) as etcd:
        lease = await etcd.grant(60)
        await etcd.create(prefix + b"a", b"1", lease)
        (old,) = (await etcd.list(prefix, 10)).pairs
        assert await etcd.replace(old, b"2", lease)
        assert not await etcd.replace(old, b"3", lease)
        assert [p.value for p in (await etcd.list(prefix, 10)).pairs] == [b"2"]


async def test_a_list_is_cut_at_its_limit_and_says_so(shared_etcd: Etcd, prefix: bytes) -> None:
    async with dialled(shared_etcd) as etcd:
        lease = await etcd.grant(60)
        for i in range(3):
            await etcd.create(prefix + b"%d" % i, b"", lease)
        assert (await etcd.list(prefix, 2)).more
        assert not (await etcd.list(prefix, 3)).more
        assert (await etcd.list(prefix + b"none/", 3)).pairs == ()


async def test_a_lease_that_has_ended_is_unknown_and_takes_its_keys_along(shared_etcd: Etcd, prefix: bytes) -> None:
    async with dialled(shared_etcd) as etcd:
        lease = await etcd.grant(60)
        await etcd.create(prefix + b"a", b"1", lease)
        await etcd.keep_alive(lease)
        shared_etcd.ctl("lease", "revoke", str(lease))
        with pytest.raises(Unknown, match="has ended"):
            await etcd.keep_alive(lease)
        with pytest.raises(Unknown):
            await etcd.revoke(lease)
        with pytest.raises(Unknown):
            await etcd.create(prefix + b"a", b"1", lease)
        assert (await etcd.list(prefix, 10)).pairs == ()


async def test_a_watch_tells_every_change_since_a_revision_in_order(shared_etcd: Etcd, prefix: bytes) -> None:
    async with dialled(shared_etcd) as etcd:
        start = await after(etcd)
        lease = await etcd.grant(60)
        await etcd.create(prefix + b"a", b"1", lease)
        shared_etcd.ctl("put", "/elsewhere", "x")
        async with aclosing(etcd.watch(prefix, start)) as batches:
            assert seen(await next_of(batches)) == [(prefix + b"a", b"1")]
            await etcd.create(prefix + b"b", b"2", lease)
            assert seen(await next_of(batches)) == [(prefix + b"b", b"2")]
            await etcd.revoke(lease)
            gone = list(await next_of(batches))
            while len(gone) < 2:
                gone += await next_of(batches)
            assert sorted(seen(gone)) == [(prefix + b"a", None), (prefix + b"b", None)]


async def test_a_quiet_watch_outlives_many_signs_of_life(
    shared_etcd: Etcd, prefix: bytes, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    signs = asyncio.Semaphore(0)
    monkeypatch.setattr(Cluster, "serves", lambda *_: signs.release())
    quiet = EtcdSettings((Endpoint.parse(shared_etcd.url),), call_s=10.0, quiet_s=0.05)
    async with EtcdClient(quiet) as etcd, aclosing(etcd.watch(prefix, await after(etcd))) as batches:
        waiting = asyncio.ensure_future(next_of(batches))
        async with asyncio.timeout(20):
            for _ in range(5):
                await signs.acquire()
        shared_etcd.ctl("put", (prefix + b"a").decode(), "1")
        assert seen(await waiting) == [(prefix + b"a", b"1")]
    assert lines.lines == []


async def test_a_watch_from_a_compacted_revision_says_so(own_etcd: Etcd, prefix: bytes) -> None:
    for i in range(3):
        own_etcd.ctl("put", (prefix + b"a").decode(), str(i))
    own_etcd.ctl("compact", str(own_etcd.revision()))
    async with dialled(own_etcd) as etcd, aclosing(etcd.watch(prefix, 1)) as batches:
        with pytest.raises(Compacted):
            await next_of(batches)


async def test_a_watch_goes_on_after_its_server_was_killed_and_started_again(own_etcd: Etcd, prefix: bytes) -> None:
    key = (prefix + b"a").decode()
    async with dialled(own_etcd) as etcd:
        async with aclosing(etcd.watch(prefix, await after(etcd))) as batches:
            own_etcd.ctl("put", key, "1")
            assert seen(await next_of(batches)) == [(key.encode(), b"1")]
            own_etcd.kill()
            with pytest.raises(Unavailable, match=r"Connection refused|does not serve|in time"):
                await etcd.list(prefix, 1)
            own_etcd.start().ready()
            own_etcd.ctl("put", key, "2")
            assert seen(await next_of(batches)) == [(key.encode(), b"2")]
        assert len((await etcd.list(prefix, 5)).pairs) == 1


async def test_a_frozen_server_is_unavailable_and_is_asked_again_when_it_thaws(own_etcd: Etcd, prefix: bytes) -> None:
    key = (prefix + b"a").decode()
    async with dialled(own_etcd, call_s=0.3) as etcd, aclosing(etcd.watch(prefix, await after(etcd))) as batches:
        waiting = asyncio.ensure_future(next_of(batches))
        own_etcd.freeze()
        with pytest.raises(Unavailable, match="in time"):
            await etcd.grant(5)
        own_etcd.thaw()
        own_etcd.ctl("put", key, "1")
        assert seen(await waiting) == [(key.encode(), b"1")]


async def test_a_frozen_member_is_left_for_another_by_calls_and_by_watches(members: list[Etcd], prefix: bytes) -> None:
    # A follower, so that nobody elects anew; the leader's turn comes below.
    frozen, *others = sorted(members, key=Etcd.leads)
    key = (prefix + b"a").decode()
    async with dialled(frozen, *others, call_s=0.5) as etcd:
        async with aclosing(etcd.watch(prefix, await after(etcd))) as batches:
            waiting = asyncio.ensure_future(next_of(batches))
            frozen.ctl("put", key, "1")
            assert seen(await waiting) == [(key.encode(), b"1")]
            frozen.freeze()
            others[0].ctl("put", key, "2")
            assert seen(await next_of(batches)) == [(key.encode(), b"2")]
            lease = await etcd.grant(5)
            await etcd.keep_alive(lease)
            assert etcd._cluster.current.at != frozen.url
            assert "silent" in frozen_problem(etcd, frozen) or "in time" in frozen_problem(etcd, frozen)
        frozen.thaw()


def frozen_problem(etcd: EtcdClient, server: Etcd) -> str:
    return next(m.problem for m in etcd._cluster.members if m.at == server.url)


async def test_the_loss_of_the_leader_costs_no_change_and_no_lease(members: list[Etcd], prefix: bytes) -> None:
    *followers, leader = sorted(members, key=Etcd.leads)
    key = (prefix + b"a").decode()
    async with dialled(leader, *followers) as etcd:
        lease = await etcd.grant(30)
        start = await after(etcd)
        async with aclosing(etcd.watch(prefix, start)) as batches:
            await etcd.create(prefix + b"mine", b"1", lease)
            assert seen(await next_of(batches)) == [(prefix + b"mine", b"1")]
            until_now = len(followers[0].log)
            leader.kill()
            await asyncio.to_thread(followers[0].until_logged, "elected leader", until_now)
            followers[0].ctl("put", key, "2")
            assert seen(await next_of(batches)) == [(key.encode(), b"2")]
            await until_kept_alive(etcd, lease)
            assert {p.value for p in (await etcd.list(prefix, 5)).pairs} == {b"1", b"2"}


async def until_kept_alive(etcd: EtcdClient, lease: Lease) -> None:
    async with asyncio.timeout(15):
        while True:
            try:
                return await etcd.keep_alive(lease)
            except Unavailable:
                continue  # no leader yet; each attempt has a deadline of its own


async def list_for_ever(etcd: EtcdClient, prefix: bytes) -> None:
    async with asyncio.timeout(15):
        while True:
            await etcd.list(prefix, 1)


async def until_listed(etcd: EtcdClient, prefix: bytes) -> None:
    async with asyncio.timeout(15):
        while True:
            try:
                await etcd.list(prefix, 1)
                return
            except Unavailable:
                continue


async def test_a_member_cut_off_from_the_others_is_left(members: list[Etcd], prefix: bytes) -> None:
    lone, *others = members
    async with dialled(lone) as alone, dialled(lone, *others) as etcd:
        for other in others:
            other.freeze()
        with pytest.raises(Unavailable, match=r"no leader|in time|timed out"):
            await list_for_ever(alone, prefix)
        lone.freeze()
        for other in others:
            other.thaw()
        await until_listed(etcd, prefix)
        assert etcd._cluster.current.at in {o.url for o in others}
        lone.thaw()


async def test_a_watch_at_a_member_without_a_leader_is_taken_elsewhere(
    members: list[Etcd], prefix: bytes, lines: Lines
) -> None:
    lone, *others = members
    key = (prefix + b"a").decode()
    async with dialled(lone, *others) as etcd, aclosing(etcd.watch(prefix, await after(etcd))) as batches:
        waiting = asyncio.ensure_future(next_of(batches))
        lone.ctl("put", key, "1")
        await waiting
        waiting = asyncio.ensure_future(next_of(batches))
        for other in others:
            other.freeze()
        await lines.until("no leader")
        for other in others:
            other.thaw()
        others[0].ctl("put", key, "2")
        assert seen(await waiting)[-1] == (key.encode(), b"2")


async def test_nothing_is_left_behind(shared_etcd: Etcd, prefix: bytes) -> None:
    before = asyncio.all_tasks()
    async with dialled(shared_etcd) as etcd, aclosing(etcd.watch(prefix, await after(etcd))) as batches:
        waiting = asyncio.ensure_future(anext(batches))
        shared_etcd.ctl("put", (prefix + b"a").decode(), "1")
        await waiting
    if ending := asyncio.all_tasks() - before:
        # What gRPC has been told to end needs a turn or two for it.
        _, left = await asyncio.wait(ending, timeout=10)
        assert left == set()
