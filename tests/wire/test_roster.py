"""Who is a peer and who is not, over real gRPC and mTLS: twins, names, and what status tells of them."""

from __future__ import annotations

import pytest

from federation.events import Liveness
from federation.refusals import Reason
from proto.frames import Farewell
from tests.wire.meshes import Mesh, at, node_id, refusal_where, status_where, tool


async def test_a_node_issued_anew_in_another_region_takes_the_place_of_its_old_id(mesh: Mesh) -> None:
    b, heard = await mesh.node("b")
    old, _ = await mesh.node("a", at(b), records=[tool("one")])
    await heard.until(lambda: heard.ids("a") == {"time/one"})
    await old.stop(Farewell.LEAVE)
    await heard.until(lambda: heard.state("a") is Liveness.LEFT)
    await mesh.node("a", at(b), region="us", records=[tool("two")])
    await heard.until(lambda: heard.ids("a") == {"time/two"})
    assert [s.node for s in b.peers()] == [node_id("a", region="us")]


async def test_a_live_node_keeps_its_name_until_it_is_gone(mesh: Mesh) -> None:
    b, heard = await mesh.node("b")
    old, _ = await mesh.node("a", at(b), records=[tool("one")])
    await heard.until(lambda: heard.ids("a") == {"time/one"})
    await mesh.node("a", at(b), region="us", records=[tool("two")])
    refusal = await refusal_where(b, lambda r: r.reason is Reason.NAME)
    assert (refusal.side, refusal.who) == ("here", node_id("a", region="us").uri)
    assert "bears the name of spiffe://mesh.test/region/eu/node/a, which is alive" in refusal.message
    assert heard.ids("a") == {"time/one"}
    await old.stop()
    await heard.until(lambda: heard.ids("a") == {"time/two"})
    assert [s.node for s in b.peers()] == [node_id("a", region="us")]


async def test_one_who_never_knew_a_node_is_no_witness_of_its_death(mesh: Mesh) -> None:
    a, _ = await mesh.node("a")
    b, heard = await mesh.node("b", at(a))
    c, other = await mesh.node("c", at(b))
    await heard.until(lambda: (heard.state("a"), heard.state("c")) == (Liveness.ALIVE, Liveness.ALIVE))
    await a.stop()
    status = await status_where(b, lambda s: s.node == node_id("a") and s.state is Liveness.UNREACHABLE)
    assert status.cause.endswith("nobody else could be asked")
    again, _ = await mesh.node("a", at(b), at(c))
    await other.until(lambda: other.state("a") is Liveness.ALIVE)
    await heard.until(lambda: heard.state("a") is Liveness.ALIVE)
    await again.stop()
    status = await status_where(b, lambda s: s.node == node_id("a") and s.state is Liveness.DOWN)
    assert status.cause.endswith("not heard by c either")


async def test_status_tells_what_became_of_a_peer_and_what_it_speaks(mesh: Mesh) -> None:
    a, _ = await mesh.node("a", records=[tool("one"), tool("two")])
    b, heard = await mesh.node("b", at(a))
    await heard.until(lambda: len(heard.ids("a")) == 2)
    status = await status_where(b, lambda s: s.heard_ms is not None and s.protocol > 0)
    assert (status.tools, status.lag_seq, status.lag_s) == (2, 0, 0.0)
    assert status.certificate_expires is not None
    assert [t.state for t in status.history] == [Liveness.ALIVE]
    await a.stop()
    gone = await status_where(b, lambda s: s.state is Liveness.UNREACHABLE)
    assert [t.state for t in gone.history] == [Liveness.ALIVE, Liveness.SUSPECT, Liveness.UNREACHABLE]
    assert gone.history[1].cause == "it said that it restarts"
    assert gone.history[0].at_ms <= gone.history[2].at_ms
    assert (gone.tools, gone.stale) == (2, True)
    # What an owner that is not heard may have changed is not known: that is told as lag.
    await status_where(b, lambda s: s.lag_s > gone.lag_s)


async def test_a_second_process_of_one_identity_is_refused_named_and_told_and_the_first_goes_on(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.bearers.OVERLAP_MS", 200)
    b, heard = await mesh.node("b")
    first, _ = await mesh.node("a", at(b), records=[tool("one")])
    await heard.until(lambda: heard.ids("a") == {"time/one"})
    second, _ = await mesh.node("a", at(b), records=[tool("two")])
    told = await refusal_where(second, lambda r: r.reason is Reason.CLONE)
    assert told.side == "there"
    assert f"one at {at(first)}, and later one at {at(second)}, which is refused" in told.message
    (alarm,) = b.alarms
    assert (alarm.about, alarm.name) == (node_id("a").uri, "identity_contested")
    assert (await refusal_where(b, lambda r: r.reason is Reason.CLONE)).side == "here"
    assert heard.ids("a") == {"time/one"}
    assert heard.states["a"] == [Liveness.ALIVE]


async def test_a_living_node_behind_hundreds_of_dead_addresses_is_found(mesh: Mesh) -> None:
    a, _ = await mesh.node("a")
    # Nobody listens on a machine's port 1; each address of the loopback range is one of its own.
    dead = [f"127.9.{i // 200}.{1 + i % 200}:1" for i in range(400)]
    b, heard = await mesh.node("b", *dead, at(a))
    await heard.until(lambda: heard.state("a") is Liveness.ALIVE)
    assert sum(s.node is None for s in b.peers()) > 0
