"""Each call id runs at most once at its owner, whatever frames come on whichever streams and in whichever order."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from federation.answering import ForwardServer
from federation.chunks import CHUNKED_ABOVE_BYTES
from federation.dedupe import Repeats
from federation.forward_session import ForwardSession
from federation.parting import part
from proto import calls, jsons
from proto import mesh_pb2 as pb
from proto.calls import CHUNK_BYTES, Answer, Call, Exchange
from proto.codec import call_up_to_wire
from proto.names import NodeId
from proto.records import Principal
from proto.versions import FEATURES

PEERS = tuple(NodeId.of("mesh.test", "eu", name) for name in ("p", "q"))
CALLERS = (Principal("ann"), Principal("bob"))


class Wire:
    """One stream of one peer: what is read of it, without gRPC."""

    def __init__(self, server: ForwardServer, peer: NodeId) -> None:
        self.peer = peer
        self.session = ForwardSession(server, peer, FEATURES)
        self.frames: list[pb.CallDown] = []

    def send(self, call_id: str, frame: calls.CallUp) -> None:
        wire = call_up_to_wire(call_id, frame)
        text = part(wire) if isinstance(frame, calls.Open | calls.Reply) else b""
        self.session._take(wire)
        for at in range(0, len(text), CHUNK_BYTES):
            self.session._take(call_up_to_wire(call_id, calls.Chunk(text[at : at + CHUNK_BYTES])))

    def read(self) -> None:
        while (frame := self.session.outbox.next()) is not None:
            self.frames.append(frame)


class Owner(RuleBasedStateMachine):
    """Two peers with up to three streams each, two principals, a few call ids; runs end when the machine says."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now_s = 1000.0
        self.ran: Counter[tuple[str, str, str]] = Counter()
        self.told_never: set[tuple[str, str, str]] = set()
        self.waiting: list[asyncio.Future[Answer]] = []
        self.server = ForwardServer(
            self._answer, repeats=Repeats(lambda: self.now_s, bytes_max=2_000_000), calls_per_peer_max=4
        )
        self.wires: list[Wire] = []

    def teardown(self) -> None:
        self.loop.run_until_complete(self.server.close(within_s=0))
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self._turn()
        self.loop.close()

    async def _answer(self, call: Call, exchange: Exchange, peer: NodeId) -> Answer:
        self.ran[peer.name, call.principal.subject, call.call_id] += 1
        end = self.loop.create_future()
        self.waiting.append(end)
        return await end

    def _turn(self) -> None:
        async def turn() -> None:
            for _ in range(5):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turn())
        for wire in self.wires:
            wire.read()

    def _do(self, what: Any, *arguments: Any) -> None:
        async def inside() -> None:
            what(*arguments)

        self.loop.run_until_complete(inside())
        self._turn()

    @rule(peer=st.sampled_from(PEERS))
    def connect(self, peer: NodeId) -> None:
        if sum(w.peer == peer for w in self.wires) < 3:
            self._do(lambda: self.wires.append(Wire(self.server, peer)))

    @precondition(lambda self: self.wires)
    @rule(
        data=st.data(), name=st.sampled_from("abc"), caller=st.sampled_from(CALLERS), long=st.booleans(),
        cut=st.booleans(),
    )  # fmt: skip
    def open(self, data: st.DataObject, name: str, caller: Principal, long: bool, cut: bool) -> None:
        wire = data.draw(st.sampled_from(self.wires))
        params = {"text": "x" * (2 * CHUNKED_ABOVE_BYTES)} if long else {}
        call = Call(name, "files", "m", params, caller, budget_ms=3_600_000, via=(wire.peer.name,))
        if long and cut:
            frame = call_up_to_wire(name, calls.Open(call))
            part(frame)
            self._do(wire.session._take, frame)
        else:
            self._do(wire.send, name, calls.Open(call))

    @precondition(lambda self: self.wires)
    @rule(data=st.data(), name=st.sampled_from("abc"))
    def more_of_the_params(self, data: st.DataObject, name: str) -> None:
        """The rest of what `open` cut off, whenever it comes."""
        wire = data.draw(st.sampled_from(self.wires))
        text = jsons.dumps({"text": "x" * (2 * CHUNKED_ABOVE_BYTES)})
        for at in range(0, len(text), CHUNK_BYTES):
            self._do(wire.session._take, call_up_to_wire(name, calls.Chunk(text[at : at + CHUNK_BYTES])))

    @precondition(lambda self: self.wires)
    @rule(data=st.data(), name=st.sampled_from("abc"), caller=st.sampled_from(CALLERS))
    def query(self, data: st.DataObject, name: str, caller: Principal) -> None:
        wire = data.draw(st.sampled_from(self.wires))
        before = len(wire.frames)
        self._do(wire.send, name, calls.Query(caller))
        key = (wire.peer.name, caller.subject, name)
        for frame in wire.frames[before:]:
            if frame.call_id == name and "did not run" in frame.error.message and not self.server.repeats.forgetful:
                self.told_never.add(key)

    @precondition(lambda self: self.wires)
    @rule(data=st.data(), name=st.sampled_from("abc"))
    def cancel(self, data: st.DataObject, name: str) -> None:
        self._do(data.draw(st.sampled_from(self.wires)).send, name, calls.Cancel("enough"))

    @precondition(lambda self: self.wires)
    @rule(data=st.data())
    def break_stream(self, data: st.DataObject) -> None:
        wire = data.draw(st.sampled_from(self.wires))
        self.wires.remove(wire)
        self._do(wire.session.detach)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), size=st.sampled_from((1, 300_000, 1_500_000)))
    def answer(self, data: st.DataObject, size: int) -> None:
        end = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(end)
        self._do(lambda: None if end.done() else end.set_result({"result": {"text": "x" * size}}))

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        """Never so long in all that what is remembered would be given up."""
        self.now_s += seconds / 10

    @invariant()
    def each_runs_at_most_once(self) -> None:
        assert not [key for key, times in self.ran.items() if times > 1]

    @invariant()
    def what_was_told_never_to_run_does_not(self) -> None:
        assert not self.told_never & set(self.ran)

    @invariant()
    def what_is_counted_comes_back(self) -> None:
        open_calls = sum(self.server.open_calls(peer.uri) for peer in PEERS)
        coming = [i for w in self.wires for i in w.session._incoming.values()]
        assert open_calls == self.server.in_flight + len(coming)
        by_peer: Counter[str] = Counter()
        for wire in self.wires:
            by_peer[wire.peer.uri] += sum(i.size for i in wire.session._incoming.values())
        assert self.server._incoming_bytes == by_peer


Owner.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestAtMostOnce = Owner.TestCase


@pytest.fixture
def server() -> ForwardServer:
    async def answer(call: Call, exchange: Exchange, peer: NodeId) -> Answer:
        return {"result": {}}

    return ForwardServer(answer)


async def test_a_call_asked_for_elsewhere_while_its_params_come_does_not_run_when_they_have_come(
    server: ForwardServer,
) -> None:
    first, second = Wire(server, PEERS[0]), Wire(server, PEERS[0])
    call = Call("c", "files", "m", {"text": "x" * (2 * CHUNKED_ABOVE_BYTES)}, CALLERS[0], via=("p",))
    frame = call_up_to_wire("c", calls.Open(call))
    text = part(frame)
    first.session._take(frame)
    second.send("c", calls.Query(CALLERS[0]))
    for at in range(0, len(text), CHUNK_BYTES):
        first.session._take(call_up_to_wire("c", calls.Chunk(text[at : at + CHUNK_BYTES])))
    first.read()
    second.read()
    assert "did not run" in second.frames[-1].error.message
    assert "did not run" in first.frames[-1].error.message
    assert (server.in_flight, server.open_calls(PEERS[0].uri)) == (0, 0)


async def test_what_was_kept_is_given_up_in_time_though_no_other_call_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def answer(call: Call, exchange: Exchange, peer: NodeId) -> Answer:
        return {"result": {}}

    given_up = asyncio.Event()

    class Short(Repeats[Any]):
        def expire(self) -> bool:
            left = super().expire()
            if not left:
                given_up.set()
            return left

    server = ForwardServer(answer, repeats=Short(asyncio.get_running_loop().time, keep_s=0.08))
    wire = Wire(server, PEERS[0])
    wire.send("c", calls.Open(Call("c", "files", "m", {}, CALLERS[0], via=("p",))))
    await asyncio.wait([run.task for run in server.repeats.runs()])
    assert "1 past" in repr(server.repeats)
    given_up.clear()
    await given_up.wait()
    assert "0 past, 0 bytes" in repr(server.repeats)
    await server.close()
