"""Owner streams over real gRPC and mTLS: nodes in one process, each on a port of its own, waited for by events."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from federation.ca import init_ca
from federation.events import Liveness
from federation.store import SqliteViewStore
from proto import mesh_pb2 as pb
from proto.calls import Answer, Call
from proto.errors import Unavailable
from proto.frames import Farewell
from proto.mesh_pb2_grpc import MeshStub
from tests.wire.meshes import DOMAIN, WAIT_S, Mesh, at, node_id, status_where, tool


async def test_changes_travel_both_ways_though_only_one_side_was_told_an_address(mesh: Mesh) -> None:
    a, a_heard = await mesh.node("a", records=[tool("now")])
    b, b_heard = await mesh.node("b", at(a), records=[tool("then")])
    await b_heard.until(lambda: b_heard.ids("a") == {"time/now"})
    await a_heard.until(lambda: a_heard.ids("b") == {"time/then"})
    a.publish([tool("now", "changed"), tool("later")], ())
    b.publish((), [tool("then").key])
    await b_heard.until(lambda: b_heard.ids("a") == {"time/now", "time/later"})
    await a_heard.until(lambda: a_heard.ids("b") == set())
    assert b_heard.views["a"][tool("now").key] == tool("now", "changed")
    assert a_heard.state("b") is Liveness.ALIVE
    status = next(s for s in b.peers() if s.node == node_id("a"))
    assert (status.tools, status.lag_seq, status.software, status.rejected) == (2, 0, "toolmesh/test", ())


async def test_calls_reach_a_live_owner_and_say_why_they_cannot_reach_another(mesh: Mesh) -> None:
    a, _ = await mesh.node("a")
    b, heard = await mesh.node("b", at(a))
    await heard.until(lambda: heard.state("a") is Liveness.ALIVE)

    class Nobody:
        def event(self, notification: dict[str, object]) -> None: ...

        async def request(self, request: dict[str, object]) -> Answer:
            raise Unavailable("nobody to ask")

    said = await b.target("a").call(Call("c1", "time", "tools/call", {}), Nobody())
    assert said == {"result": {"for": "b", "method": "tools/call"}}
    with pytest.raises(Unavailable, match="not known"):
        b.target("z")
    await a.stop()
    await heard.until(lambda: heard.state("a") is not Liveness.ALIVE)
    with pytest.raises(Unavailable, match="node 'a' is"):
        b.target("a")


async def test_a_restarted_receiver_serves_its_last_view_at_once_and_asks_only_for_the_difference(
    mesh: Mesh, tmp_path: Path
) -> None:
    a, _ = await mesh.node("a", records=[tool("one"), tool("two")])
    b, heard = await mesh.node("b", at(a), store=SqliteViewStore(tmp_path / "b"))
    await heard.until(lambda: heard.ids("a") == {"time/one", "time/two"})
    await b.stop()
    a.publish([tool("three")], [tool("one").key])
    again, heard = await mesh.node("b", at(a), store=SqliteViewStore(tmp_path / "b"))
    assert heard.puts[0] == ("a", ("time/one", "time/two"))
    assert heard.states["a"][0] is Liveness.SUSPECT
    assert again.peers()[0].stale
    await heard.until(lambda: heard.ids("a") == {"time/two", "time/three"})
    assert heard.puts[1:] == [("a", ("time/three",))]


async def test_a_restarted_owner_is_suspect_then_back_with_only_what_changed(mesh: Mesh) -> None:
    a, _ = await mesh.node("a", records=[tool("one"), tool("two")])
    port = at(a)
    b, heard = await mesh.node("b", port)
    await heard.until(lambda: len(heard.ids("a")) == 2)
    await a.stop()
    await heard.until(lambda: Liveness.UNREACHABLE in heard.states["a"])
    assert heard.states["a"][-2:] == [Liveness.SUSPECT, Liveness.UNREACHABLE]
    assert b.peers()[0].stale
    assert heard.ids("a") == {"time/one", "time/two"}
    before = len(heard.puts)
    await mesh.node("a", listen=port, records=[tool("one"), tool("three")])
    await heard.until(lambda: heard.ids("a") == {"time/one", "time/three"})
    await heard.until(lambda: heard.state("a") is Liveness.ALIVE)
    assert sorted(i for _, ids in heard.puts[before:] for i in ids) == ["time/three"]


async def test_a_witness_that_does_not_hear_it_either_makes_a_silent_node_down(mesh: Mesh) -> None:
    a, _ = await mesh.node("a")
    b, b_heard = await mesh.node("b", at(a))
    _c, c_heard = await mesh.node("c", at(a), at(b))
    for heard, others in ((b_heard, "ac"), (c_heard, "ab")):
        await heard.until(lambda h=heard, o=others: all(h.state(x) is Liveness.ALIVE for x in o))
    await a.stop()
    await b_heard.until(lambda: b_heard.state("a") is Liveness.DOWN)
    assert "not heard by c either" in next(s.cause for s in b.peers() if s.node == node_id("a"))


async def test_a_node_that_stops_is_not_taken_for_back_by_whoever_dials_it_meanwhile(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = await mesh.node("a")
    _, heard = await mesh.node("b", at(a))
    await heard.until(lambda: heard.state("a") is Liveness.ALIVE)
    dialled = asyncio.Event()
    enter, close = a._service._enter, a._forward.close

    def entered(context: Any) -> Any:
        dialled.set()
        return enter(context)

    async def close_late() -> None:
        """As where long answers are still owed."""
        async with asyncio.timeout(WAIT_S):
            await dialled.wait()
        await close()

    monkeypatch.setattr(a._service, "_enter", entered)
    monkeypatch.setattr(a._forward, "close", close_late)
    await a.stop()
    await heard.until(lambda: heard.state("a") is Liveness.UNREACHABLE)
    assert heard.states["a"] == [Liveness.ALIVE, Liveness.SUSPECT, Liveness.UNREACHABLE]


async def test_leaving_deletes_the_view_here_and_on_disk(mesh: Mesh, tmp_path: Path) -> None:
    a, _ = await mesh.node("a", records=[tool("one")])
    store = SqliteViewStore(tmp_path / "b")
    b, heard = await mesh.node("b", at(a), store=store)
    await heard.until(lambda: heard.ids("a") == {"time/one"})
    await a.stop(Farewell.LEAVE)
    await heard.until(lambda: heard.state("a") is Liveness.LEFT)
    assert heard.ids("a") == set()
    await b.stop()
    store.open()
    assert store.views() == ()
    store.close()


async def test_who_leaves_knows_which_peers_took_its_goodbye(mesh: Mesh) -> None:
    a, _ = await mesh.node("a")
    b, heard = await mesh.node("b", at(a))
    await heard.until(lambda: heard.state("a") is Liveness.ALIVE)
    assert a.parted == frozenset()
    await a.stop(Farewell.LEAVE)
    assert a.parted == {node_id("b")}
    await b.stop(Farewell.LEAVE)
    assert b.parted == frozenset()


async def test_a_peer_that_dials_a_node_while_it_leaves_does_not_take_it_for_back(mesh: Mesh) -> None:
    a, _ = await mesh.node("a", records=[tool("one")])
    await a._service.farewell(Farewell.LEAVE, WAIT_S)
    _, heard = await mesh.node("late", at(a))
    await heard.until(lambda: heard.state("a") is Liveness.LEFT)
    assert heard.ids("a") == set()


async def test_draining_is_told_at_once_and_taken_back(mesh: Mesh) -> None:
    a, _ = await mesh.node("a")
    _, heard = await mesh.node("b", at(a))
    await heard.until(lambda: heard.state("a") is Liveness.ALIVE)
    a.set_draining(True)
    await heard.until(lambda: heard.state("a") is Liveness.DRAINING)
    a.set_draining(False)
    await heard.until(lambda: heard.state("a") is Liveness.ALIVE)


async def test_a_node_of_a_foreign_ca_is_refused_and_the_reason_is_shown(mesh: Mesh, tmp_path: Path) -> None:
    init_ca(tmp_path / "foreign", DOMAIN)
    stranger, _ = await mesh.node("x", ca=tmp_path / "foreign", records=[tool("evil")])
    b, heard = await mesh.node("b", at(stranger))
    status = await status_where(b, lambda s: s.last_error != "")
    assert status.node is None
    assert "does not vouch for" in status.last_error
    assert heard.views == {}


async def test_a_node_of_another_mesh_is_refused_and_the_reason_is_shown(mesh: Mesh) -> None:
    a, _ = await mesh.node("a", mesh="prod", records=[tool("one")])
    b, heard = await mesh.node("b", at(a), mesh="lab")
    status = await status_where(b, lambda s: "prod" in s.last_error)
    assert status.last_error.startswith("it refuses: a belongs to mesh 'prod', not to 'lab'")
    assert heard.ids("a") == set()
    assert status.state is not Liveness.ALIVE


async def test_an_address_that_is_now_another_nodes_shows_who_answers_there(mesh: Mesh) -> None:
    a, _ = await mesh.node("a")
    port = at(a)
    b, heard = await mesh.node("b", port)
    await heard.until(lambda: heard.state("a") is Liveness.ALIVE)
    await a.stop()
    await mesh.node("c", listen=port)
    status = await status_where(b, lambda s: "proves to be" in s.last_error)
    assert status.node == node_id("a")
    assert node_id("c").uri in status.last_error


async def test_a_node_that_discovers_itself_does_not_dial_itself(mesh: Mesh) -> None:
    a, _a_heard = await mesh.node("a")
    port = at(a)
    await a.stop()
    again, heard = await mesh.node("a", port, f"localhost:{port.rpartition(':')[2]}", listen=port)
    _, other = await mesh.node("b", at(again))
    await other.until(lambda: other.state("a") is Liveness.ALIVE)
    await heard.until(lambda: heard.state("b") is Liveness.ALIVE)
    assert [s.node for s in again.peers()] == [node_id("b")]


async def test_a_taken_port_is_named_with_the_mend(mesh: Mesh) -> None:
    a, _ = await mesh.node("a")
    with pytest.raises(Unavailable, match="cannot be listened on"):
        await mesh.node("b", listen=at(a))


async def test_a_node_serves_its_own_with_every_peer_gone(mesh: Mesh, tmp_path: Path) -> None:
    lonely, _heard = await mesh.node("a", "127.0.0.1:1", records=[tool("one")])
    status = await status_where(lonely, lambda s: s.last_error != "")
    assert "cannot be reached" in status.last_error
    assert lonely.bound_port > 0


async def test_a_fault_of_this_node_in_what_a_peer_says_does_not_end_its_stream_and_is_told(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    b, heard = await mesh.node("b")

    def changed(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(heard, "changed", changed)
    a, _ = await mesh.node("a", at(b), records=[tool("one")])
    await status_where(b, lambda s: s.tools == 1)
    a.publish([tool("two")], ())
    await status_where(b, lambda s: s.tools == 2 and s.state is Liveness.ALIVE)
    (alarm,) = b.alarms
    assert (alarm.about, alarm.name, alarm.message) == (node_id("a").uri, "fault", "ZeroDivisionError: a bug")


async def test_a_snapshot_of_many_parts_arrives_whole(mesh: Mesh) -> None:
    a, _ = await mesh.node("a", records=[tool(f"t{i}") for i in range(1200)])
    b, heard = await mesh.node("b", at(a))
    await heard.until(lambda: len(heard.ids("a")) == 1200)
    assert next(s.version.seq for s in b.peers()) == 1200


async def test_two_nodes_of_one_name_refuse_each_other_and_both_say_why(mesh: Mesh) -> None:
    a, _ = await mesh.node("a")
    twin, _ = await mesh.node("a", at(a), region="us")
    status = await status_where(twin, lambda s: bool(s.last_error))
    assert "eu/node/a bears the name of this node" in status.last_error
    # One that does not ask first who is there is told by the other.
    tls = twin._tls
    channel = grpc.aio.secure_channel(at(a), tls.channel_credentials(), options=tls.channel_options(node_id("a")))
    async with channel:
        with pytest.raises(grpc.aio.AioRpcError, match="us/node/a bears the name of this node"):
            await MeshStub(channel).Witness(pb.WitnessRequest(node=node_id("a").uri))
    assert a.peers() == ()
