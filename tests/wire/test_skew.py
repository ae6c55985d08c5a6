"""This build among others: held against the recorded contract of an earlier release, and spoken to by a newer one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from federation.events import Liveness
from federation.refusals import Reason, reason_of
from federation.statuses import error_of
from proto import codec, sync_codec
from proto import mesh_pb2 as pb
from proto.calls import Answer, Call
from proto.errors import Unavailable
from proto.frames import Farewell
from proto.versions import PROTOCOL_MAX, REFUSE
from tests.wire.meshes import Mesh, at, node_id, refusal_where, tool
from tests.wire.raw import Down, RawOwner, dialling

RECORDED = Path(__file__).parent / "recorded"
RELEASES = sorted(d.name for d in RECORDED.iterdir() if d.is_dir())
# Of an rpc that was declared, and that no release answered before the number was reserved: nobody could rely on it.
NEVER_SENT = {".toolmesh.v1.VectorsReply.Vector field 2 float32_le type 12  label 1 "}


class Release:
    """An earlier release: its messages from its own contract, and what two of its nodes said to each other."""

    def __init__(self, name: str) -> None:
        self.files = descriptor_pb2.FileDescriptorSet.FromString((RECORDED / name / "mesh.binpb").read_bytes())
        pool = descriptor_pool.DescriptorPool()
        for file in self.files.file:
            pool.Add(file)
        self._pool = pool
        self.said: dict[str, list[bytes]] = {}
        for line in (RECORDED / name / "frames.txt").read_text().splitlines():
            direction, text = line.split()
            self.said.setdefault(direction, []).append(bytes.fromhex(text))

    def message(self, name: str) -> Any:
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"toolmesh.v1.{name}"))

    def read(self, name: str, data: bytes) -> Any:
        """As that release reads it: raises unless it finds a frame that it knows, as that release does."""
        message: Message = self.message(name).FromString(data)
        assert message.WhichOneof("frame") is not None, f"a {name} that this release does not know: {data.hex()}"
        return message


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest) -> Release:
    return Release(request.param)


# ---- the contract ------------------------------------------------------------------------------------


def facts(files: descriptor_pb2.FileDescriptorSet) -> set[str]:
    """Each thing that a peer of that contract relies on, as a line."""
    found: set[str] = set()

    def message(prefix: str, m: descriptor_pb2.DescriptorProto) -> None:
        name = f"{prefix}.{m.name}"
        for f in m.field:
            oneof = m.oneof_decl[f.oneof_index].name if f.HasField("oneof_index") else ""
            found.add(f"{name} field {f.number} {f.name} type {f.type} {f.type_name} label {f.label} {oneof}")
        for nested in m.nested_type:
            message(name, nested)

    for file in files.file:
        for m in file.message_type:
            message(f".{file.package}", m)
        for e in file.enum_type:
            found.update(f"{e.name} value {v.number} {v.name}" for v in e.value)
        for s in file.service:
            found.update(
                f"{file.package}.{s.name} rpc {r.name} {r.client_streaming} {r.input_type} {r.server_streaming} "
                f"{r.output_type}"
                for r in s.method
            )
    return found


def present() -> descriptor_pb2.FileDescriptorSet:
    file = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    return descriptor_pb2.FileDescriptorSet(file=[file])


def test_whatever_an_earlier_release_relies_on_is_still_so(release: Release) -> None:
    recorded = facts(release.files)
    assert len(recorded) > 100
    assert recorded - facts(present()) == NEVER_SENT


def test_the_number_of_a_field_that_was_never_sent_is_not_given_again() -> None:
    vector = descriptor_pb2.DescriptorProto()
    pb.VectorsReply.Vector.DESCRIPTOR.CopyToProto(vector)
    assert [(r.start, r.end) for r in vector.reserved_range] == [(2, 3)]


def test_a_number_that_was_given_up_would_be_noticed(release: Release) -> None:
    changed = present()
    beat = next(m for m in changed.file[0].message_type if m.name == "Beat")
    beat.field[1].number = 9
    assert len(facts(release.files) - facts(changed) - NEVER_SENT) == 1


def test_each_recorded_frame_is_read_and_written_again_as_it_was(release: Release) -> None:
    for data in release.said["sync-up"]:
        up = sync_codec.up_from_wire(pb.SyncUp.FromString(data))
        assert up is not None
        assert sync_codec.up_to_wire(up).SerializeToString(deterministic=True) == data
    for data in release.said["sync-down"]:
        down = sync_codec.down_from_wire(pb.SyncDown.FromString(data))
        assert down is not None
        assert sync_codec.down_to_wire(down).SerializeToString(deterministic=True) == data
    for data in release.said["call-up"]:
        asked = codec.call_up_from_wire(pb.CallUp.FromString(data))
        assert codec.call_up_to_wire(*asked).SerializeToString(deterministic=True) == data
    for data in release.said["call-down"]:
        said = codec.call_down_from_wire(pb.CallDown.FromString(data))
        assert codec.call_down_to_wire(*said).SerializeToString(deterministic=True) == data


# ---- an earlier release as a peer --------------------------------------------------------------------


class Nobody:
    def event(self, notification: dict[str, object]) -> None: ...

    async def request(self, request: dict[str, object]) -> Answer:
        raise Unavailable("nobody to ask")


async def test_an_earlier_release_subscribes_here(mesh: Mesh, release: Release) -> None:
    a, _ = await mesh.node("a", records=[tool("now"), tool("then")])
    hello = release.said["sync-up"][0]
    async with dialling(mesh.tls("b"), at(a), node_id("a")) as dialler:
        stream = dialler.open()
        await stream.say(hello)

        async def frame(kind: str) -> Any:
            while (data := await stream.hear()) is not None:
                message = release.read("SyncDown", data)
                if message.WhichOneof("frame") == kind:
                    return getattr(message, kind)
            raise AssertionError(f"the stream ended before a {kind}")

        welcome = await frame("welcome")
        assert (welcome.protocol, list(welcome.features), len(welcome.instance)) == (1, [], 16)
        snapshot = await frame("snapshot")
        assert sorted(r.id for r in snapshot.bodies) == ["time/now", "time/then"]
        await stream.say(release.message("SyncUp")(ack={"seq": snapshot.to_seq}).SerializeToString())
        a.publish([tool("later")], [tool("now").key])
        delta = await frame("delta")
        assert ([r.id for r in delta.puts], [k.id for k in delta.deletes]) == (["time/later"], ["time/now"])
        assert (delta.epoch, delta.from_seq) == (welcome.epoch, snapshot.to_seq)
        beat = await frame("beat")
        assert beat.seq == delta.to_seq
        # A call on its way while the stream is open.
        forward = dialler.open("Forward")
        await forward.say(release.said["call-up"][0])
        asked = release.message("CallUp").FromString(release.said["call-up"][0])
        answer = release.read("CallDown", await forward.hear() or b"")
        if answer.WhichOneof("frame") == "accepted":
            answer = release.read("CallDown", await forward.hear() or b"")
        assert answer.call_id == asked.call_id
        assert b'"for":"b"' in answer.result.answer
        forward.call.cancel()
        stopping = asyncio.create_task(a.stop(Farewell.LEAVE))
        assert (await frame("bye")).reason == 2
        await stopping


class OldOwner:
    """How an owner of an earlier release answers: with its own frames, under an epoch of its own."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.heard: list[Any] = []
        self.spoken_to = asyncio.Event()
        self.leave = asyncio.Event()

    async def sync(self, stream: Down) -> None:
        read = self.release.read
        hello = read("SyncUp", await stream.hear() or b"").hello
        assert (hello.protocol_min, hello.mesh) == (1, "lab")
        down = [d for d in self.release.said["sync-down"] if read("SyncDown", d).WhichOneof("frame") != "bye"]
        welcome, snapshot = down[0], down[1]
        await stream.say(welcome, snapshot)
        reading = asyncio.create_task(self._read(stream))
        await self.leave.wait()
        await stream.say(self.release.message("SyncDown")(bye={"reason": 2}).SerializeToString())
        await reading

    async def _read(self, stream: Down) -> None:
        while (data := await stream.hear()) is not None:
            self.heard.append(self.release.read("SyncUp", data))
            self.spoken_to.set()

    async def forward(self, stream: Down) -> None:
        while (data := await stream.hear()) is not None:
            asked = self.release.read("CallUp", data)
            if asked.WhichOneof("frame") == "open":
                answer = self.release.message("CallDown").FromString(self.release.said["call-down"][0])
                answer.call_id = asked.call_id
                await stream.say(answer.SerializeToString())


async def test_an_earlier_release_is_subscribed_to_called_and_lets_go_of(mesh: Mesh, release: Release) -> None:
    old = OldOwner(release)
    async with RawOwner(mesh.tls("a", roles=["authority"]), sync=old.sync, forward=old.forward) as owner:
        b, heard = await mesh.node("b", owner.address)
        await heard.until(lambda: heard.ids("a") == {"time", "time/now", "time/then"})
        await heard.until(lambda: heard.state("a") is Liveness.ALIVE)
        (status,) = [s for s in b.peers() if s.node == node_id("a")]
        assert (status.protocol, status.features, status.rejected) == (1, (), ())
        assert (status.roles, status.certificate_expires) == ((), None)
        answer = await b.target("a").call(Call("c9", "time", "tools/call", {"name": "now"}), Nobody())
        assert "result" in answer
        await asyncio.wait_for(old.spoken_to.wait(), 30)
        old.leave.set()
        await heard.until(lambda: heard.state("a") is Liveness.LEFT)
        assert heard.ids("a") == set()
        assert [h.WhichOneof("frame") for h in old.heard] == ["ack"]


async def test_an_earlier_release_that_is_refused_is_sent_no_frame_that_it_does_not_know(
    mesh: Mesh, release: Release
) -> None:
    ended: asyncio.Queue[Down] = asyncio.Queue()

    async def sync(stream: Down) -> None:
        try:
            await stream.hear()
            await stream.say(release.message("SyncDown")(welcome={"epoch": 5, "seq": 1}).SerializeToString())
            while await stream.hear() is not None:
                pass
        finally:
            await ended.put(stream)

    async with RawOwner(mesh.tls("a"), sync=sync) as owner:
        b, _ = await mesh.node("b", owner.address)
        refusal = await refusal_where(b, lambda r: r.reason is Reason.FRAME)
        assert (refusal.side, refusal.who) == ("here", node_id("a").uri)
        async with asyncio.timeout(20):
            stream = await ended.get()
        assert [release.read("SyncUp", data).WhichOneof("frame") for data in stream.heard] == ["hello"]


# ---- a newer release as a peer -----------------------------------------------------------------------

LATER = bytes([0xF2, 0x01, 0x02, 0x08, 0x01])
"""Field 30, which no message of this build has: a field of a newer one, or a frame."""


def welcome(seq: int, **other: Any) -> bytes:
    given = {"epoch": 7, "instance": b"i" * 16, "mode": pb.Mode.MODE_SNAPSHOT, "loaded": True, "protocol": 1, **other}
    return pb.SyncDown(welcome=pb.Welcome(seq=seq, **given)).SerializeToString()


def wire(name: str) -> pb.Record:
    return codec.record_to_wire(tool(name))


def entry(record: pb.Record) -> pb.ManifestEntry:
    return pb.ManifestEntry(kind=record.kind, id=record.id, digest=record.digest)


async def test_what_a_newer_owner_adds_is_ignored_or_refused_alone_and_it_is_told(mesh: Mesh) -> None:
    told: asyncio.Queue[pb.Refuse] = asyncio.Queue()
    odd, good = pb.Record(kind=99, id="w/1", digest=b"d"), wire("now")  # type: ignore[arg-type]

    async def sync(stream: Down) -> None:
        await stream.hear()
        snapshot = pb.Snapshot(epoch=7, to_seq=2, all=[entry(odd), entry(good)], bodies=[odd, good], last=True)
        snapshot.loaded = True
        later = pb.SyncDown(snapshot=snapshot).SerializeToString()
        beat = pb.SyncDown(beat=pb.Beat(seq=3, loaded=True, view_hash=b"over more than is held")).SerializeToString()
        delta = pb.Delta(epoch=7, from_seq=2, to_seq=3, puts=[wire("later")], loaded=True)
        await stream.say(LATER, welcome(2, protocol=1, features=[REFUSE, "moonphase"]) + LATER, LATER, later + LATER)
        await stream.say(pb.SyncDown(delta=delta).SerializeToString(), beat)
        while (data := await stream.hear()) is not None:
            up = pb.SyncUp.FromString(data)
            if up.WhichOneof("frame") == "refuse":
                await told.put(up.refuse)

    async with RawOwner(mesh.tls("a"), sync=sync) as owner:
        b, heard = await mesh.node("b", owner.address)
        await heard.until(lambda: heard.ids("a") == {"time/now", "time/later"})
        async with asyncio.timeout(20):
            refuse = await told.get()
        assert (refuse.reason, "kind 99" in refuse.message) == ("record", True)
        refusal = await refusal_where(b, lambda r: r.reason is Reason.RECORD)
        assert "kind 99" in refusal.message
        (status,) = b.peers()
        assert (status.state, REFUSE in status.features) == (Liveness.ALIVE, True)
        assert len(owner.streams) == 1


async def test_a_newer_subscriber_is_served_what_both_know(mesh: Mesh) -> None:
    b, _ = await mesh.node("b", records=[tool("now")])
    hello = pb.Hello(mesh="lab", protocol_min=1, protocol_max=PROTOCOL_MAX + 5, features=[REFUSE, "moonphase"])
    hello.manifest.add(kind=99, id="w/1", digest=b"d")  # type: ignore[arg-type]
    async with dialling(mesh.tls("a"), at(b), node_id("b")) as dialler:
        stream = dialler.open()
        await stream.say(pb.SyncUp(hello=hello).SerializeToString() + LATER, LATER)
        odd = pb.Reject(seq=1, kind=99, id="w/1", reason="?")  # type: ignore[arg-type]
        await stream.say(pb.SyncUp(reject=odd).SerializeToString())
        said = pb.SyncDown.FromString(await stream.hear() or b"")
        assert (said.welcome.protocol, list(said.welcome.features)) == (PROTOCOL_MAX, [REFUSE])
        b.publish([tool("later")], ())
        while (data := await stream.hear()) is not None:
            said = pb.SyncDown.FromString(data)
            if any(r.id == "time/later" for r in (*said.delta.puts, *said.snapshot.bodies)):
                break
        assert data is not None
        forward = dialler.open("Forward")
        ask = pb.CallUp(call_id="c1", open=pb.Open(server="time", method="tools/call", budget_ms=9000, via=["a"]))
        await forward.say(LATER, ask.SerializeToString() + LATER)
        answer = pb.CallDown.FromString(await forward.hear() or b"")
        if answer.WhichOneof("frame") == "accepted":
            answer = pb.CallDown.FromString(await forward.hear() or b"")
        assert answer.WhichOneof("frame") == "result"
        forward.call.cancel()


@pytest.mark.parametrize(("low", "high"), [(PROTOCOL_MAX + 1, PROTOCOL_MAX + 3), (0, 0), (3, 1)])
async def test_one_without_a_common_protocol_is_refused_and_both_sides_say_so(mesh: Mesh, low: int, high: int) -> None:
    b, _ = await mesh.node("b")
    async with dialling(mesh.tls("a"), at(b), node_id("b")) as dialler:
        stream = dialler.open()
        hello = pb.SyncUp(hello=pb.Hello(mesh="lab", protocol_min=low, protocol_max=high))
        await stream.say(hello.SerializeToString())
        error = error_of(await stream.ended())
    assert (error.kind, reason_of(error)) == ("conflict", Reason.PROTOCOL)
    assert f"speaks {low} to {high}" in error.message
    refusal = await refusal_where(b, lambda r: r.reason is Reason.PROTOCOL)
    assert (refusal.side, refusal.who, refusal.message) == ("here", node_id("a").uri, error.message)


async def test_an_owner_that_downgrades_the_protocol_is_refused_and_told(mesh: Mesh) -> None:
    told: asyncio.Queue[pb.Refuse] = asyncio.Queue()

    async def sync(stream: Down) -> None:
        await stream.hear()
        await stream.say(welcome(0, protocol=0, features=[REFUSE]))
        while (data := await stream.hear()) is not None:
            up = pb.SyncUp.FromString(data)
            if up.WhichOneof("frame") == "refuse":
                await told.put(up.refuse)

    async with RawOwner(mesh.tls("a"), sync=sync) as owner:
        b, _ = await mesh.node("b", owner.address)
        async with asyncio.timeout(20):
            refuse = await told.get()
        assert (refuse.reason, "protocol 0" in refuse.message) == ("protocol", True)
        refusal = await refusal_where(b, lambda r: r.side == "here")
        assert (refusal.reason, refusal.message) == (Reason.PROTOCOL, refuse.message)
