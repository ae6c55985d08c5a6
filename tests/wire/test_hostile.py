"""Peers that lie, babble, flood or fall silent: each is refused by name on both sides, and costs the others nothing."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from itertools import count, pairwise
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federation import service, tls
from federation.ca import init_ca
from federation.driver import Federation
from federation.events import Liveness
from federation.link import ADDRESSES_MAX, FRAME_BYTES_MAX
from federation.ports import Found
from federation.refusals import MESSAGE_CHARS_MAX, Reason, reason_of
from federation.statuses import error_of
from proto import mesh_pb2 as pb
from proto.calls import Answer, Call
from proto.codec import record_to_wire
from proto.errors import MeshError
from proto.frames import Hello
from proto.records import Kind, Record
from proto.sync_codec import up_to_wire
from proto.versions import REFUSE
from tests.wire.forwarding import Relay
from tests.wire.meshes import DOMAIN, Heard, Mesh, at, node_id, refusal_where, tool
from tests.wire.raw import Down, RawOwner, dialling, nothing

BAD, GOOD, NODE = node_id("bad"), node_id("good"), node_id("node")
HELLO = up_to_wire(Hello("lab")).SerializeToString()


@dataclass
class Scene:
    """A node under attack and a good peer of it. `unharmed` proves that both still serve each other."""

    mesh: Mesh
    node: Federation
    heard: Heard
    good: Federation
    good_heard: Heard

    def __post_init__(self) -> None:
        self._numbers = count()

    @property
    def address(self) -> str:
        return at(self.node)

    async def unharmed(self) -> None:
        name = f"proof-{next(self._numbers)}"
        self.node.publish([tool(name)], ())
        self.good.publish([tool(name)], ())
        await self.good_heard.until(lambda: f"time/{name}" in self.good_heard.ids("node"))
        await self.heard.until(lambda: f"time/{name}" in self.heard.ids(self.good._me.name))


@pytest.fixture
async def scene(mesh: Mesh) -> AsyncIterator[Scene]:
    node, heard = await mesh.node("node")
    good, good_heard = await mesh.node("good", at(node))
    scene = Scene(mesh, node, heard, good, good_heard)
    await scene.unharmed()
    yield scene
    await scene.unharmed()


async def refused(scene: Scene, *frames: bytes, reason: Reason) -> str:
    """A stream of the bad peer that begins with these frames; what the node says to it and notes of it."""
    async with dialling(scene.mesh.tls("bad"), scene.address, NODE) as dialler:
        stream = dialler.open()
        await stream.say(*frames)
        error = error_of(await stream.ended())
    assert reason_of(error) is reason
    noted = await refusal_where(scene.node, lambda r: r.reason is reason)
    assert (noted.side, noted.who, noted.message) == ("here", BAD.uri, error.message)
    return error.message


class Told:
    """A bad owner that says these frames after Hello and listens to what the node says to them."""

    def __init__(self, *frames: bytes) -> None:
        self.refused: asyncio.Queue[pb.Refuse] = asyncio.Queue()
        self.rejects: asyncio.Queue[pb.Reject] = asyncio.Queue()
        self._frames = frames

    async def talk(self, stream: Down) -> None:
        await stream.hear()
        await stream.say(*self._frames)
        while (data := await stream.hear()) is not None:
            up = pb.SyncUp.FromString(data)
            if up.WhichOneof("frame") == "refuse":
                await self.refused.put(up.refuse)
            elif up.WhichOneof("frame") == "reject":
                await self.rejects.put(up.reject)

    async def why(self) -> pb.Refuse:
        async with asyncio.timeout(20):
            return await self.refused.get()


async def owner(stack: AsyncExitStack, scene: Scene, told: Told) -> RawOwner:
    """The bad peer as an owner that the node has found."""
    raw = await stack.enter_async_context(RawOwner(scene.mesh.tls("bad"), sync=told.talk))
    scene.node._roster.reached(BAD, raw.address)
    return raw


def down(**frame: Any) -> bytes:
    return pb.SyncDown(**frame).SerializeToString()


def welcome(**other: Any) -> bytes:
    given = {"epoch": 7, "instance": b"i" * 16, "mode": pb.Mode.MODE_SNAPSHOT, "loaded": True, "protocol": 1, **other}
    return down(welcome=pb.Welcome(features=[REFUSE], **given))


def snapshot(*records: Record, to_seq: int = 1, last: bool = True, epoch: int = 7) -> bytes:
    bodies = [record_to_wire(r) for r in records]
    named = [pb.ManifestEntry(kind=b.kind, id=b.id, digest=b.digest) for b in bodies]
    return down(snapshot=pb.Snapshot(epoch=epoch, to_seq=to_seq, all=named, bodies=bodies, last=last, loaded=True))


# ---- who is not let in -------------------------------------------------------------------------------


async def test_a_stranger_is_refused_by_both_sides_and_a_dialler_learns_which_of_them_it_was(scene: Scene) -> None:
    foreign = scene.mesh.out / "foreign"
    init_ca(foreign, DOMAIN)
    stranger, _ = await scene.mesh.node("bad", scene.address, ca=foreign)
    refusal = await refusal_where(stranger, lambda r: True)
    assert (refusal.side, refusal.reason) == ("here", Reason.CERTIFICATE)
    assert "does not vouch for" in refusal.message
    # The node itself, told of the stranger's address, does not believe in it either.
    scene.node._finder.found(Found(at(stranger)))
    noted = await refusal_where(scene.node, lambda r: r.who == at(stranger))
    assert (noted.side, noted.reason) == ("here", Reason.CERTIFICATE)


async def test_one_of_another_mesh_is_refused_and_both_say_so(scene: Scene) -> None:
    other, _ = await scene.mesh.node("bad", scene.address, mesh="prod")
    there = await refusal_where(other, lambda r: r.side == "there")
    here = await refusal_where(scene.node, lambda r: r.side == "here" and r.reason is Reason.MESH)
    assert (there.who, there.reason, there.message) == (NODE.uri, Reason.MESH, here.message)
    assert here.who == BAD.uri


async def test_a_twin_in_another_region_is_refused_and_both_say_so(scene: Scene) -> None:
    twin = scene.mesh.tls("node", region="us")
    async with dialling(twin, scene.address, NODE) as dialler:
        error = error_of(await dialler.open().ended())
    assert reason_of(error) is Reason.NAME
    noted = await refusal_where(scene.node, lambda r: r.reason is Reason.NAME)
    assert (noted.who, noted.message) == (node_id("node", region="us").uri, error.message)


async def test_a_node_that_bears_a_live_peers_name_is_told_so_and_takes_its_place_once_that_is_gone(
    scene: Scene,
) -> None:
    anew, _ = await scene.mesh.node("good", scene.address, records=[tool("anew")], region="us")
    there = await refusal_where(anew, lambda r: r.side == "there")
    here = await refusal_where(scene.node, lambda r: r.reason is Reason.NAME)
    assert (there.who, there.reason, there.message) == (NODE.uri, Reason.NAME, here.message)
    assert here.who == node_id("good", region="us").uri
    assert f"bears the name of {GOOD.uri}" in here.message
    assert [s.node for s in scene.node.peers()] == [GOOD]
    await scene.good.stop()
    await scene.heard.until(lambda: scene.heard.ids("good") == {"time/anew"})
    assert [s.node for s in scene.node.peers()] == [node_id("good", region="us")]
    scene.good, scene.good_heard = await scene.mesh.node("else", scene.address)


async def test_another_process_with_the_nodes_own_certificate_is_refused_as_a_clone(scene: Scene) -> None:
    async with dialling(scene.mesh.tls("node"), scene.address, NODE) as dialler:
        error = error_of(await dialler.open().ended())
    assert reason_of(error) is Reason.CLONE


async def test_a_certificate_that_does_not_hold_gives_no_roles_and_its_bearer_is_told(scene: Scene) -> None:
    told = Told(welcome(), snapshot(tool("now"), Record.of(Kind.POLICY, "p", {"deny": "all"}), to_seq=2))
    honest = scene.mesh.tls("bad")
    elsewhere = scene.mesh.out / "elsewhere"
    init_ca(elsewhere, DOMAIN)
    forged = scene.mesh.tls("bad", ca=elsewhere, roles=["authority"]).cert_pem
    async with RawOwner(honest, sync=told.talk, presents=forged) as raw:
        scene.node._roster.reached(BAD, raw.address)
        why = await told.why()
        assert (why.reason, "has no roles" in why.message) == ("certificate", True)
        await scene.heard.until(lambda: scene.heard.ids("bad") == {"time/now"})
        async with asyncio.timeout(20):
            assert (await told.rejects.get()).id == "p"
        noted = await refusal_where(scene.node, lambda r: r.reason is Reason.CERTIFICATE)
        assert (noted.side, noted.message) == ("here", why.message)


async def test_governance_is_taken_from_an_authority_alone(scene: Scene) -> None:
    policy = Record.of(Kind.POLICY, "p", {"deny": "all"})
    authority, _ = await scene.mesh.node("lord", scene.address, records=[policy], roles=["authority"])
    await scene.heard.until(lambda: scene.heard.ids("lord") == {"p"})
    status = next(s for s in scene.node.peers() if s.node == node_id("lord"))
    assert status.roles == ("authority",)
    assert status.certificate_expires is not None
    await scene.mesh.node("bad", scene.address, records=[policy, tool("now")])
    await scene.heard.until(lambda: scene.heard.ids("bad") == {"time/now"})
    refusal = await refusal_where(scene.node, lambda r: r.who == BAD.uri)
    assert (refusal.reason, "role 'authority'" in refusal.message) == (Reason.RECORD, True)
    assert authority.refusals.totals.total() == 0


# ---- what is malformed -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frames",
    [
        (b"\xff\xff\xff",),
        (b"",),
        (HELLO[:-3],),
        (pb.SyncUp(ack=pb.Ack(seq=1)).SerializeToString(),),
        (HELLO, b"\x0a\xff"),
        (HELLO, b""),
    ],
)
async def test_a_subscriber_that_babbles_is_refused_and_both_say_so(scene: Scene, frames: tuple[bytes, ...]) -> None:
    await refused(scene, *frames, reason=Reason.FRAME)


async def test_a_subscriber_whose_hello_is_too_large_is_refused_by_name(scene: Scene) -> None:
    huge = pb.SyncUp(hello=pb.Hello(mesh="lab", software="x" * (FRAME_BYTES_MAX + 1)))
    assert str(FRAME_BYTES_MAX) in await refused(scene, huge.SerializeToString(), reason=Reason.FRAME)


async def test_beyond_the_bound_of_grpc_it_is_told_by_grpc_and_the_stream_is_over(scene: Scene) -> None:
    async with dialling(scene.mesh.tls("bad"), scene.address, NODE) as dialler:
        stream = dialler.open()
        await stream.say(b"\0" * (tls.MESSAGE_BYTES_MAX + 1))
        error = await stream.ended()
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in (error.details() or "")


ODD = {
    "no message": (welcome(), b"\xff\xff\xff"),
    "cut short": (welcome(), snapshot(tool("now"))[:-5]),
    "empty": (welcome(), b""),
    "too large": (welcome(), b"\0" * (FRAME_BYTES_MAX + 1)),
    "no number": (welcome(), down(beat=pb.Beat(load=float("nan")))),
    "a mode of nobody": (welcome(), down(welcome=pb.Welcome(epoch=7, instance=b"i", mode=9))),  # type: ignore[arg-type]
    "a goodbye of nobody": (welcome(), down(bye=pb.Bye(reason=9))),  # type: ignore[arg-type]
    "no epoch": (welcome(epoch=0),),
    "an epoch out of mind": (welcome(epoch=2**64 - 1),),
    "a seq out of mind": (welcome(seq=2**64 - 1),),
    "no instance": (welcome(instance=b""),),
    "an instance without end": (welcome(instance=b"x" * 10_000),),
    "a delta out of mind": (welcome(), snapshot(), down(delta=pb.Delta(epoch=7, from_seq=1, to_seq=2**64 - 1))),
    "a snapshot out of mind": (welcome(), snapshot(to_seq=2**64 - 1)),
    "a beat out of mind": (welcome(), snapshot(), down(beat=pb.Beat(seq=2**64 - 1))),
    "changes to what is not held": (welcome(mode=pb.Mode.MODE_DELTA),),
}


@pytest.mark.parametrize("name", ODD)
async def test_an_owner_that_talks_nonsense_is_refused_and_told_why(scene: Scene, name: str) -> None:
    told = Told(*ODD[name])
    async with AsyncExitStack() as stack:
        await owner(stack, scene, told)
        why = await told.why()
        noted = await refusal_where(scene.node, lambda r: r.who == BAD.uri)
    assert (noted.side, noted.reason, why.reason) == ("here", Reason.FRAME, "frame")
    assert noted.message == why.message != ""
    assert scene.heard.ids("bad") == set()


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ((welcome(), snapshot(), welcome(instance=b"j" * 16)), Reason.CLONE),
        ((welcome(), snapshot(), welcome(epoch=6)), Reason.EPOCH),
    ],
)
async def test_a_clone_and_a_stale_epoch_are_told_to_whoever_speaks_so(
    scene: Scene, frames: tuple[bytes, ...], reason: Reason
) -> None:
    told = Told(*frames)
    async with AsyncExitStack() as stack:
        await owner(stack, scene, told)
        why = await told.why()
        noted = await refusal_where(scene.node, lambda r: r.reason is reason)
    assert (why.reason, why.message) == (reason.value, noted.message)


async def test_what_is_said_of_an_address_neither_hides_who_is_there_nor_displaces_where_a_peer_was_met(
    scene: Scene,
) -> None:
    quiet, _ = await scene.mesh.node("quiet")
    scene.node._finder.found(Found(at(quiet), node_id("ghost")))
    scene.node._finder.found(Found(at(quiet)))
    await scene.heard.until(lambda: scene.heard.state("quiet") is Liveness.ALIVE)
    for port in range(1, 30):
        scene.node._finder.found(Found(f"127.0.0.1:{port}", node_id("quiet")))
    known = scene.node._roster.get(node_id("quiet"))
    assert known is not None
    assert at(quiet) in known.link.addresses
    assert len(known.link.addresses) == ADDRESSES_MAX


async def test_a_peer_that_advertises_no_address_is_heard_and_not_dialled(scene: Scene) -> None:
    async with dialling(scene.mesh.tls("bad"), scene.address, NODE) as dialler:
        stream = dialler.open(advertise="unix:///run/other.sock")
        await stream.say(HELLO)
        assert pb.SyncDown.FromString(await stream.hear() or b"").HasField("welcome")
        noted = await refusal_where(scene.node, lambda r: r.who == BAD.uri)
        assert (noted.reason, noted.side) == (Reason.FRAME, "here")
        assert "unix:///run/other.sock" in noted.message
        assert scene.node._roster.get(BAD) is None


async def test_who_has_been_refused_is_not_dialled_again_at_once_however_one_is_hurried(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As two nodes do that refuse each other: whoever is dialled knows that the other is there, and dials in turn.
    monkeypatch.setattr("federation.link.REFUSED_S", 0.2)
    dialled: asyncio.Queue[float] = asyncio.Queue()
    clone = Told(welcome(), snapshot(), welcome(instance=b"j" * 16))

    async def talk(stream: Down) -> None:
        dialled.put_nowait(asyncio.get_running_loop().time())
        await clone.talk(stream)
        scene.node.dialled_by(BAD, "")

    async with RawOwner(scene.mesh.tls("bad"), sync=talk) as raw:
        scene.node._roster.reached(BAD, raw.address)
        async with asyncio.timeout(20):
            at_s = [await dialled.get() for _ in range(4)]
    assert all(later - earlier >= 0.2 for earlier, later in pairwise(at_s))


async def test_a_node_that_is_refused_by_a_subscriber_notes_why(scene: Scene) -> None:
    async with dialling(scene.mesh.tls("bad"), scene.address, NODE) as dialler:
        stream = dialler.open()
        odd = pb.Refuse(reason="moonphase", message="x" * 10_000)
        await stream.say(HELLO, pb.SyncUp(refuse=pb.Refuse(reason="clone", message="two of you")).SerializeToString())
        await stream.say(pb.SyncUp(refuse=odd).SerializeToString())
        clone = await refusal_where(scene.node, lambda r: r.reason is Reason.CLONE)
        assert (clone.side, clone.who, clone.message) == ("there", BAD.uri, "two of you")
        other = await refusal_where(scene.node, lambda r: r.reason is Reason.OTHER)
        assert len(other.message) == MESSAGE_CHARS_MAX


async def test_a_bad_record_is_refused_alone_and_its_owner_hears_of_each(scene: Scene) -> None:
    good = [tool("first"), tool("last")]
    bad = [
        Record(Kind.TOOL, "time/forged", good[0].digest, b'{"name":"forged"}'),
        Record(Kind.TOOL, "no-member", good[0].digest, good[0].body),
        Record(Kind.TOOL, "time/no-json", b"\0" * 32, b"\xff"),
        Record.of(Kind.SERVER, "Not_A_Name", {}),
        Record.of(Kind.SERVER, "x" * 300, {}),
        Record.of(Kind.NODE, "somebody-else", {}),
        Record(Kind.TOOL, "time/others", good[0].digest, good[0].body, owner=GOOD.uri),
    ]
    told = Told(welcome(), snapshot(good[0], *bad, good[1], to_seq=9))
    async with AsyncExitStack() as stack:
        raw = await owner(stack, scene, told)
        await scene.heard.until(lambda: scene.heard.ids("bad") == {"time/first", "time/last"})
        async with asyncio.timeout(20):
            heard = {(await told.rejects.get()).id for _ in bad}
        assert heard == {r.id for r in bad}
        assert len(raw.streams) == 1
        assert scene.heard.state("bad") is Liveness.ALIVE
        assert scene.node.refusals.totals["here", Reason.RECORD] == len(bad)


async def test_frames_out_of_order_are_asked_for_again_then_refused(scene: Scene) -> None:
    early = down(delta=pb.Delta(epoch=7, from_seq=1, to_seq=2, puts=[record_to_wire(tool("early"))]))
    strange = snapshot(tool("strange"), epoch=8)
    told = Told(early, early, welcome(), early, welcome(), strange)
    async with AsyncExitStack() as stack:
        raw = await owner(stack, scene, told)
        await told_twice(raw)
    assert scene.heard.ids("bad") == set()


async def told_twice(raw: RawOwner) -> None:
    """Until the node has opened a second stream: the first one was closed by it."""
    async with asyncio.timeout(20):
        while len(raw.streams) < 2:  # noqa: ASYNC110 the owner has no event of its own for it
            await asyncio.sleep(0.02)


# ---- whatever bytes there are ------------------------------------------------------------------------

FUZZ = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
VALID = [
    HELLO,
    welcome(),
    snapshot(tool("x")),
    pb.CallUp(
        call_id="1", open=pb.Open(server="time", method="tools/call", params=b"{}", via=["x"])
    ).SerializeToString(),
    pb.CallDown(call_id="1", result=pb.Result(answer=b"{}")).SerializeToString(),
]


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A message that was cut, spliced or had bytes changed."""
    data = bytearray(draw(st.sampled_from(VALID)))
    for at_, value in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=4)):
        data[at_] = value
    return bytes(data[: draw(st.integers(0, len(data)))])


FRAMES = st.lists(st.binary(max_size=60) | broken() | st.sampled_from(VALID), min_size=1, max_size=6)


@FUZZ
@given(frames=FRAMES, name=st.sampled_from(["Sync", "Forward"]), greet=st.booleans())
async def test_whatever_a_dialler_sends_costs_nobody_else(
    scene: Scene, frames: list[bytes], name: str, greet: bool
) -> None:
    async with dialling(scene.mesh.tls("bad"), scene.address, NODE) as dialler:
        stream = dialler.open(name)
        try:
            await stream.say(*([HELLO] if greet and name == "Sync" else []), *frames)
            await stream.call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # refused before it had said it all
        error = await stream.ended()
    assert "Unexpected" not in (error.details() or ""), error.details()  # gRPC's word for an exception of ours
    await scene.unharmed()


@FUZZ
@given(frames=FRAMES, greet=st.booleans())
async def test_whatever_an_owner_sends_costs_nobody_else(scene: Scene, frames: list[bytes], greet: bool) -> None:
    said = asyncio.Event()

    async def sync(stream: Down) -> None:
        await stream.hear()
        try:
            await stream.say(*([welcome()] if greet else []), *frames)
        finally:
            said.set()  # or it hung up in the middle

    name = f"bad-{scene.mesh.issued}"  # a peer of its own, that nothing is held against yet
    async with RawOwner(scene.mesh.tls(name), sync=sync, forward=nothing) as raw:
        scene.node._roster.reached(node_id(name), raw.address)
        async with asyncio.timeout(20):
            await said.wait()
        await scene.unharmed()
    known = scene.node._roster.get(node_id(name))
    assert known is not None
    assert known.dialling is not None
    assert not known.dialling.done()


class Nobody:
    def event(self, notification: dict[str, object]) -> None: ...

    async def request(self, request: dict[str, object]) -> Answer:
        return {"result": {}}


@settings(FUZZ, max_examples=15)
@given(frames=FRAMES, named=st.booleans())
async def test_whatever_an_owner_answers_ends_the_call_that_was_asked_and_no_other(
    scene: Scene, frames: list[bytes], named: bool
) -> None:
    failed: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))

    async def sync(stream: Down) -> None:
        await stream.hear()
        await stream.say(welcome(), snapshot())
        await nothing(stream)

    async def forward(stream: Down) -> None:
        asked = pb.CallUp.FromString(await stream.hear() or b"")
        for frame in frames:
            await stream.say(frame)
            if named:  # what can be read of it is about this very call
                await stream.say(frame + pb.CallDown(call_id=asked.call_id).SerializeToString())

    name = f"bad-{scene.mesh.issued}"
    async with RawOwner(scene.mesh.tls(name), sync=sync, forward=forward) as raw:
        scene.node._roster.reached(node_id(name), raw.address)
        await scene.heard.until(lambda: scene.heard.state(name) is Liveness.ALIVE)
        bad, good = scene.node.target(name), scene.node.target("good")
        asked = Call("c1", "time", "tools/call", {}, budget_ms=200, via=("node",))
        with suppress(MeshError):
            async with asyncio.timeout(20):
                await bad.call(asked, Nobody())
        assert "result" in await good.call(replace(asked, budget_ms=20_000), Nobody())
    await scene.unharmed()
    gc.collect()  # a task that failed unseen tells so when it goes
    assert failed == []


# ---- silence and floods ------------------------------------------------------------------------------


async def test_a_connection_that_never_shakes_hands_is_closed(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_MS", 300)
    node, _ = await mesh.node("node")
    reader, writer = await asyncio.open_connection("127.0.0.1", node.bound_port)
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_a_dialler_without_a_certificate_gets_no_further_than_tls(scene: Scene) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=scene.mesh.tls("bad").ca_pem.decode())
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.node.bound_port, ssl=context)
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()


async def test_one_that_opens_a_stream_and_says_nothing_is_told_so(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "HELLO_S", 0.2)
    await refused(scene, reason=Reason.SILENT)


async def test_a_hello_that_trickles_in_is_not_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "HELLO_S", 0.3)
    relay = Relay()
    relay.target = scene.node.bound_port
    await relay.start()
    long = pb.SyncUp(hello=pb.Hello(mesh="lab", software="x" * 500_000)).SerializeToString()
    async with dialling(scene.mesh.tls("bad"), f"127.0.0.1:{relay.port}", NODE) as dialler:
        stream = dialler.open()
        await stream.call.wait_for_connection()
        relay.allow(70_000)
        saying = asyncio.create_task(stream.say(long))
        noted = await refusal_where(scene.node, lambda r: r.reason is Reason.SILENT)
        assert noted.who == BAD.uri
        await scene.unharmed()
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)
    await relay.stop()


async def test_streams_that_have_not_greeted_are_bounded(scene: Scene) -> None:
    async with dialling(scene.mesh.tls("bad"), scene.address, NODE) as dialler:
        streams = [dialler.open() for _ in range(service.GREETINGS_PER_PEER + 20)]
        ending = {asyncio.create_task(s.ended()) for s in streams}
        over: set[asyncio.Task[grpc.aio.AioRpcError]] = set()
        async with asyncio.timeout(20):
            while len(over) < 20:
                done, ending = await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
                over |= done
        errors = [task.result() for task in over]
        assert {(e.code(), reason_of(error_of(e))) for e in errors} == {
            (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.FULL)
        }
        noted = await refusal_where(scene.node, lambda r: r.reason is Reason.FULL)
        assert (noted.who, noted.count) == (BAD.uri, len(errors))
        await scene.unharmed()
    await asyncio.gather(*ending, return_exceptions=True)


async def test_beyond_the_subscribers_that_fit_a_further_one_is_refused_by_name(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SESSIONS_MAX", 1)
    assert "1 subscribers already" in await refused(scene, HELLO, reason=Reason.FULL)


async def test_a_peer_that_floods_streams_holds_no_more_than_its_own_two(scene: Scene) -> None:
    async with dialling(scene.mesh.tls("bad"), scene.address, NODE) as dialler:
        for _ in range(30):
            stream = dialler.open()
            await stream.say(HELLO)
            assert await stream.hear() is not None
        assert len(scene.node._service.subscribers(BAD)) == service.SESSIONS_PER_PEER


async def test_streams_of_one_peer_are_bounded_whatever_they_are_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SESSIONS_PER_PEER", 8)
    monkeypatch.setattr(service, "STREAMS_PER_PEER", 3)
    async with dialling(scene.mesh.tls("bad"), scene.address, NODE) as dialler:
        for _ in range(2):
            stream = dialler.open()
            await stream.say(HELLO)
            assert await stream.hear() is not None
        async with asyncio.timeout(20):
            # Held on to, since gRPC ends a call that nobody refers to; its metadata come once it is counted.
            forward = dialler.open("Forward")
            await forward.call.initial_metadata()
        for name in ("Sync", "Forward"):
            error = error_of(await dialler.open(name).ended())
            assert (reason_of(error), error.message) == (Reason.FULL, "3 streams of bad are open already")
        await scene.unharmed()
    await subscribing(scene)  # their places are free again


async def subscribing(scene: Scene) -> None:
    """Until the bad peer is welcomed."""
    async with dialling(scene.mesh.tls("bad"), scene.address, NODE) as dialler, asyncio.timeout(20):
        while True:
            stream = dialler.open()
            with suppress(grpc.aio.AioRpcError):
                await stream.say(HELLO)
                assert pb.SyncDown.FromString(await stream.hear() or b"").HasField("welcome")
                return


async def test_peers_that_do_not_read_cost_a_cursor_each_and_slow_nobody(scene: Scene) -> None:
    names = [f"silent-{i}" for i in range(5)]
    async with AsyncExitStack() as stack:
        for name in names:
            dialler = await stack.enter_async_context(dialling(scene.mesh.tls(name), scene.address, NODE))
            await dialler.open().say(HELLO)
        subscribed: Callable[[], bool] = lambda: all(scene.node._service.subscribers(node_id(n)) for n in names)  # noqa: E731
        async with asyncio.timeout(20):
            while not subscribed():  # noqa: ASYNC110 the service has no event of its own for it
                await asyncio.sleep(0.01)
        text = "x" * 2000
        for i in range(5000):
            scene.node.publish([tool(f"t{i % 500}", f"{i} {text}")], ())
            if i % 50 == 0:
                await asyncio.sleep(0)
        await scene.unharmed()
        log = scene.node._log
        slow = [s for n in names for s in scene.node._service.subscribers(node_id(n))]
        assert all(s.acked == 0 and s.cursor < log.seq for s in slow)
        # What waits for them is kept nowhere: each key once in the log, and one frame at most on its way to each.
        assert len(log._changes) <= log.depth_max
        assert len(log._changes) <= 502
