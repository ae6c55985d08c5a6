"""What the driver is made of, apart from the wire: writing behind, finding peers, and refusing to start."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from federation.ca import init_ca, issue
from federation.clock import SystemClock
from federation.discovery.static import StaticDiscovery
from federation.driver import Federation
from federation.events import Liveness, Save
from federation.finding import ADDRESSES_MAX, UNNAMED_MS, Finder
from federation.log import RAISES_MAX, Subscriber
from federation.memory import MemoryViewStore
from federation.ports import Discovery, Found
from federation.saving import Saver
from federation.tasks import Tasks
from federation.tls import MeshTls
from proto.calls import Answer, Call, Exchange
from proto.errors import Invalid, Unavailable
from proto.frames import Hello
from proto.names import NodeId
from proto.records import Kind, Record, Version

ME, A, B = (NodeId.of("mesh.test", "eu", n) for n in ("me", "a", "b"))
FOREIGN = NodeId.of("other.test", "eu", "a")
X, Y = (Record.of(Kind.TOOL, f"srv/{n}", {"name": n}) for n in "xy")


class FullDisk(MemoryViewStore):
    """Refuses to save while `full`."""

    full = True
    saves = 0

    def save(self, changes: Mapping[NodeId, Save], heard_ms: int) -> None:
        self.saves += 1
        if self.full:
            raise Unavailable("no space left on device")
        super().save(changes, heard_ms)


def change(seq: int, *puts: Record, gone: Record | None = None) -> Save:
    return Save(Version(5, seq), b"i", True, {r.key: r for r in puts}, frozenset({gone.key} if gone else ()))


@pytest.fixture
def tls(tmp_path: Path) -> MeshTls:
    init_ca(tmp_path / "ca", "mesh.test")
    files = issue(tmp_path / "ca", ME, tmp_path / "me")
    return MeshTls.load(files.ca, files.cert, files.key)


async def test_changes_that_wait_for_the_disk_become_one_and_a_failed_write_loses_none() -> None:
    store = FullDisk()
    saver = Saver(store, lambda: 77)
    saver.save(A, change(1, X))
    assert await saver.flush() is False
    saver.save(A, change(2, Y, gone=X))
    saver.save(B, change(9, X))
    store.full = False
    assert await saver.flush() is True
    assert store.saves == 2
    views = {v.owner: (v.version.seq, set(v.records)) for v in store.views()}
    assert views == {A: (2, {Y.key}), B: (9, {X.key})}


async def test_a_write_that_fails_after_whoever_waited_was_cancelled_loses_nothing() -> None:
    loop, writing, fail = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    class Slow(FullDisk):
        def save(self, changes: Mapping[NodeId, Save], heard_ms: int) -> None:
            if self.full:
                loop.call_soon_threadsafe(writing.set)
                fail.wait(10)
            super().save(changes, heard_ms)

    store = Slow()
    saver = Saver(store, lambda: 77)
    saver.save(A, change(1, X))
    flush = asyncio.create_task(saver.flush())
    await asyncio.wait_for(writing.wait(), 10)
    flush.cancel()
    fail.set()
    with pytest.raises(asyncio.CancelledError):
        await flush
    store.full = False
    assert await saver.flush() is True
    assert [set(v.records) for v in store.views()] == [{X.key}]


async def test_what_is_forgotten_is_not_saved_again_but_its_return_is() -> None:
    store = FullDisk()
    saver = Saver(store, lambda: 77)
    saver.save(A, change(1, X))
    await saver.flush()
    saver.forget(A)
    saver.save(A, change(1, Y))
    store.full = False
    await saver.flush()
    (view,) = store.views()
    assert set(view.records) == {Y.key}


async def test_hints_are_refused_for_strangers_and_for_this_node_and_bounded(tls: MeshTls) -> None:
    reached: list[tuple[NodeId, str]] = []
    finder = Finder(ME, tls, lambda node, address: reached.append((node, address)))
    finder.own_address("10.0.0.1:1")
    finder.found(Found("10.0.0.1:1"))
    finder.found(Found("10.0.0.2:1", ME))
    finder.found(Found("10.0.0.3:1", FOREIGN))
    finder.found(Found("10.0.0.4:1", A))
    assert reached == [(A, "10.0.0.4:1")]
    (status,) = finder.unproved()
    assert "another trust domain" in status.last_error
    assert (status.node, status.state) == (None, Liveness.UNREACHABLE)
    for i in range(2 * ADDRESSES_MAX):
        finder.found(Found(f"not an address {i}"))
    assert len(finder._trials) == ADDRESSES_MAX
    await finder.close()


async def test_a_node_of_our_own_name_in_another_region_is_refused_with_the_mend(tls: MeshTls) -> None:
    reached: list[NodeId] = []
    finder = Finder(ME, tls, lambda node, address: reached.append(node))
    finder.found(Found("10.0.0.1:1", NodeId.of("mesh.test", "us", "me")))
    (status,) = finder.unproved()
    assert "us/node/me bears the name of this node" in status.last_error
    assert "issue one of them anew" in status.cause
    assert reached == []


async def test_an_address_says_how_long_it_has_been_refused_whatever_the_reasons(tls: MeshTls) -> None:
    class Stepped(SystemClock):
        now = 1_000

        def now_ms(self) -> int:
            return self.now

    clock = Stepped()
    finder = Finder(ME, tls, lambda node, address: None, clock)
    finder.found(Found("10.0.0.1:1", FOREIGN))
    clock.now = 6_000
    finder.found(Found("10.0.0.1:1", NodeId.of("mesh.test", "us", "me")))
    clock.now = 8_500
    (status,) = finder.unproved()
    assert status.since_ms == 7_500


async def test_an_address_that_nothing_names_any_longer_is_shown_no_more(tls: MeshTls) -> None:
    class Stepped(SystemClock):
        now = 1_000

        def now_ms(self) -> int:
            return self.now

    clock = Stepped()
    finder = Finder(ME, tls, lambda node, address: None, clock, met_at=lambda address: address == "10.0.0.9:1")
    finder.found(Found("10.0.0.1:1", FOREIGN))
    finder.found(Found("not an address"))
    finder.found(Found("10.0.0.9:1"))
    clock.now += UNNAMED_MS // 2
    finder.found(Found("10.0.0.1:1", FOREIGN))
    clock.now += UNNAMED_MS // 2
    assert [s.address for s in finder.unproved()] == ["10.0.0.1:1"]
    assert set(finder._trials) == {"10.0.0.1:1"}
    clock.now += UNNAMED_MS // 2
    assert list(finder.unproved()) == []
    await finder.close()


class Deaf:
    def changed(self, *_: object) -> None: ...

    def liveness(self, *_: object, listed: bool) -> None: ...


async def unanswered(call: Call, exchange: Exchange, peer: NodeId) -> Answer:
    raise Unavailable("nothing runs here")


def federation(
    tls: MeshTls, me: NodeId = ME, *, store: MemoryViewStore | None = None, discoveries: Sequence[Discovery] = ()
) -> Federation:
    return Federation(
        me=me, mesh="lab", listen="127.0.0.1:0", advertise="", tls=tls,
        discoveries=discoveries, store=store or MemoryViewStore(), listener=Deaf(), answer=unanswered, software="test",
    )  # fmt: skip


async def test_a_certificate_of_another_node_is_refused_at_the_start(tls: MeshTls) -> None:
    with pytest.raises(Invalid, match=r"not spiffe://mesh\.test/region/eu/node/a"):
        await federation(tls, A).start()


async def test_an_own_record_that_cannot_be_one_is_left_out_alone(tls: MeshTls) -> None:
    node = federation(tls)
    await node.start()
    node.publish([X, Record.of(Kind.SERVER, "Not_A_Name", {}), Y], ())
    assert "2 records" in repr(node)
    (refusal,) = node.refusals.latest()
    assert (refusal.who, refusal.reason) == (ME.uri, "record")
    assert refusal.message.startswith("server record 'Not_A_Name': ")
    await node.stop()
    await node.stop()


async def test_a_task_that_fails_is_logged_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    await asyncio.wait({Tasks().spawn(fail(), "doomed")})
    await asyncio.sleep(0)
    assert "'doomed' of the federation has failed" in caplog.text


async def test_an_epoch_that_the_disk_did_not_take_is_not_spoken_under(tls: MeshTls) -> None:
    class NoRaise(MemoryViewStore):
        full = True

        def raise_epoch(self, epoch: int) -> None:
            if self.full:
                raise Unavailable("no space left on device")
            super().raise_epoch(epoch)

    store = NoRaise()
    node = federation(tls, store=store)
    await node.start()
    try:
        before = node._log.epoch
        ahead = Hello("lab", Version(before + 5, 1))
        for _ in range(RAISES_MAX + 1):
            with pytest.raises(Unavailable, match="no space"):
                node.hello(Subscriber(A), ahead)
            assert node._log.epoch == before
        store.full = False
        node.hello(Subscriber(A), ahead)
        assert node._log.epoch > before + 5
    finally:
        await node.stop()


async def test_a_discovery_that_fails_in_its_own_way_neither_stops_the_search_nor_the_stop(
    tls: MeshTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = asyncio.Event()

    class Odd(StaticDiscovery):
        runs = 0

        async def run(self, found: Callable[[Found], None]) -> None:
            self.runs += 1
            if self.runs > 1:
                again.set()
            raise ZeroDivisionError

        async def withdraw(self) -> None:
            raise ZeroDivisionError

    monkeypatch.setattr("federation.finding.DISCOVERY_RETRY_S", 0)
    store = MemoryViewStore()
    closed: list[bool] = []
    monkeypatch.setattr(store, "close", lambda: closed.append(True))
    node = federation(tls, store=store, discoveries=(Odd([]),))
    await node.start()
    await asyncio.wait_for(again.wait(), 10)
    await node.stop()
    assert closed == [True]
    await node.stop()
