"""Calls between two nodes over real gRPC and mutual TLS, through a relay that can be cut."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from federation.asked import Asked
from federation.ca import init_ca, issue
from federation.calls import ForwardClient, ForwardServer
from federation.chunks import CHUNKED_ABOVE_BYTES
from federation.forward_stream import Lost
from federation.tls import MeshTls, peer_identity
from federation.traffic import Traffic
from proto import mesh_pb2 as pb
from proto.calls import Answer, Call, Exchange
from proto.errors import (
    ERRORS,
    Conflict,
    Exhausted,
    Expired,
    Fault,
    Invalid,
    MeshError,
    OutcomeUnknown,
    Unavailable,
)
from proto.mesh_pb2_grpc import MeshServicer, MeshStub, add_MeshServicer_to_server
from proto.names import NodeId
from proto.records import Principal

ENTRY, OWNER = NodeId.of("mesh.test", "eu", "entry"), NodeId.of("mesh.test", "us", "owner")
pytestmark = pytest.mark.timeout(30)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[NodeId, MeshTls]:
    home: Path = tmp_path_factory.mktemp("mesh")
    init_ca(home / "ca", "mesh.test")
    return {node: MeshTls.load(*issue(home / "ca", node, home / node.name)) for node in (ENTRY, OWNER)}


class Owner:
    """A node that answers. `answer` may be replaced; `ran` lists the call ids that it was given."""

    def __init__(self, tls: MeshTls, **settings: Any) -> None:
        self.ran: list[str] = []
        self.calls: list[tuple[Call, NodeId]] = []
        self.answer: Callable[[Call, Exchange], Awaitable[Answer]] = echo
        self.forward = ForwardServer(self._answer, **settings)
        self._tls = tls
        self.port = 0

    async def _answer(self, call: Call, exchange: Exchange, peer: NodeId) -> Answer:
        self.ran.append(call.call_id)
        self.calls.append((call, peer))
        return await self.answer(call, exchange)

    async def start(self, port: int = 0) -> None:
        owner = self

        class Service(MeshServicer):
            async def Forward(self, requests: Any, context: Any) -> AsyncIterator[pb.CallDown]:  # type: ignore[override]  # noqa: N802
                async for frame in owner.forward.forward(requests, context, peer_identity(context)):
                    yield frame

            Sync = Witness = Join = Renew = Vectors = None  # type: ignore[assignment]

        self._server = grpc.aio.server(options=self._tls.server_options())
        add_MeshServicer_to_server(Service(), self._server)
        self.port = self._server.add_secure_port(f"127.0.0.1:{port}", self._tls.server_credentials())
        await self._server.start()

    async def stop(self) -> None:
        await self.forward.close()
        await self._server.stop(None)


class Relay:
    """Bytes to and fro between dialler and owner. `cut` breaks what is open; `refusing` keeps it so.

    It accepts by itself: a connection that an `asyncio.Server` has accepted in the turn in which it is closed is
    left open by it.
    """

    def __init__(self) -> None:
        self.target = 0
        self.refusing = False
        self.connected = asyncio.Event()
        self._carried = 0
        self._more = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):  # who knocked may have gone again
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self._keep(self._connected(connection))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _connected(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        if self.refusing:
            writer.transport.abort()
            far_writer.transport.abort()
            return
        self._writers.add(far_writer)
        self.connected.set()
        self._keep(self._pump(reader, far_writer))
        self._keep(self._pump(far_reader, writer))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                self._carried += len(data)
                self._more.set()
                await sink.drain()
        sink.transport.abort()

    async def carried(self, size: int) -> None:
        """Until so many more bytes have passed."""
        until = self._carried + size
        while self._carried < until:
            self._more.clear()
            await self._more.wait()

    def cut(self, *, refusing: bool = False) -> None:
        self.refusing = refusing
        self.connected.clear()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        self.cut(refusing=True)
        while self._pumps:
            await asyncio.gather(*self._pumps)


class Caller:
    """An `Exchange` that keeps what it was told and answers what it is asked."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.heard = asyncio.Event()
        self.questions: list[dict[str, Any]] = []
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.refusal: MeshError | None = None

    def event(self, notification: dict[str, Any]) -> None:
        self.events.append(notification)
        self.heard.set()

    async def request(self, request: dict[str, Any]) -> Answer:
        self.questions.append(request)
        self.asked.set()
        await self.may_answer.wait()
        if self.refusal:
            raise self.refusal
        return {"result": {"answer": request["params"]}}


async def echo(call: Call, exchange: Exchange) -> Answer:
    return {"result": call.params}


def a_call(call_id: str = "c1", *, budget_ms: int = 20_000, **params: Any) -> Call:
    return Call(call_id, "files", "tools/call", params, Principal("ann"), budget_ms)


class Pair:
    def __init__(self, certificates: dict[NodeId, MeshTls]) -> None:
        self.certificates = certificates
        self.owner = Owner(certificates[OWNER])
        self.relay = Relay()
        self.caller = Caller()
        self.clients: list[ForwardClient] = []
        self.troubles: list[str] = []
        self.traffic = Traffic()

    async def start(self, **settings: Any) -> None:
        self.owner = Owner(self.certificates[OWNER], **settings)
        await self.owner.start()
        await self.relay.start()
        self.relay.target = self.owner.port
        self.client = self.dial()

    def dial(self, **settings: Any) -> ForwardClient:
        client = ForwardClient(
            self.channel, ENTRY.name, OWNER.name, trouble=self.troubles.append, traffic=self.traffic, **settings
        )
        self.clients.append(client)
        return client

    def channel(self) -> grpc.aio.Channel:
        tls = self.certificates[ENTRY]
        options = tls.channel_options(OWNER)
        return grpc.aio.secure_channel(f"127.0.0.1:{self.relay.port}", tls.channel_credentials(), options=options)

    def begin(self, call: Call, exchange: Exchange | None = None) -> asyncio.Task[Answer]:
        return asyncio.create_task(self.client.call(call, exchange or self.caller))

    async def run(self, call: Call, exchange: Exchange | None = None) -> Answer:
        return await self.client.call(call, exchange or self.caller)


@asynccontextmanager
async def a_pair(certificates: dict[NodeId, MeshTls], **settings: Any) -> AsyncIterator[Pair]:
    pair = Pair(certificates)
    await pair.start(**settings)
    yield pair
    for client in pair.clients:
        await client.close()
    await pair.owner.stop()
    await pair.relay.stop()


@pytest.fixture
async def pair(certificates: dict[NodeId, MeshTls]) -> AsyncIterator[Pair]:
    async with a_pair(certificates) as pair:
        yield pair


class Held:
    """An answer that begins, says so, and waits to be let go. `cancelled` is set if it was cancelled instead."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.begun, self.go, self.cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._answer = answer or {"result": {"held": True}}

    async def __call__(self, call: Call, exchange: Exchange) -> Answer:
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return self._answer


# ---- the straight path ----


async def test_a_call_is_answered_by_its_owner_who_knows_from_whom_it_came(pair: Pair) -> None:
    call = a_call(name="read", arguments={"path": "ä", "n": 2**70})
    assert await pair.run(call) == {"result": {"name": "read", "arguments": {"path": "ä", "n": 2**70}}}
    [(arrived, peer)] = pair.owner.calls
    assert peer == ENTRY
    assert arrived.via == (ENTRY.name,)
    assert (arrived.server, arrived.method, arrived.principal) == (call.server, call.method, call.principal)
    assert 0 < arrived.budget_ms <= call.budget_ms


async def test_many_calls_at_once_each_get_their_own_answer(pair: Pair) -> None:
    answers = await asyncio.gather(*(pair.run(a_call(f"c{n}", n=n)) for n in range(200)))
    assert [a["result"]["n"] for a in answers] == list(range(200))
    assert (pair.client.in_flight, pair.owner.forward.in_flight) == (0, 0)
    assert "1 streams" in repr(pair.owner.forward)


async def test_an_error_answer_of_the_server_passes_through_unchanged(pair: Pair) -> None:
    answer = {"error": {"code": -32602, "message": "no such tool", "data": {"x": None}}}

    async def refuse(call: Call, exchange: Exchange) -> Answer:
        return answer

    pair.owner.answer = refuse
    assert await pair.run(a_call()) == answer


async def test_progress_arrives_in_order_before_the_answer(pair: Pair) -> None:
    async def work(call: Call, exchange: Exchange) -> Answer:
        for n in range(50):
            exchange.event({"method": "notifications/progress", "params": {"progress": n}})
        return {"result": {}}

    pair.owner.answer = work
    await pair.run(a_call())
    assert [e["params"]["progress"] for e in pair.caller.events] == list(range(50))


async def test_a_caller_that_fails_to_take_a_notification_still_gets_its_answer(pair: Pair) -> None:
    class Clumsy(Caller):
        def event(self, notification: dict[str, Any]) -> None:
            raise RuntimeError("dropped it")

    async def work(call: Call, exchange: Exchange) -> Answer:
        exchange.event({"method": "notifications/message"})
        return {"result": {}}

    pair.owner.answer = work
    assert await pair.run(a_call(), Clumsy()) == {"result": {}}


async def test_a_server_may_ask_the_client_while_it_runs(pair: Pair) -> None:
    async def ask(call: Call, exchange: Exchange) -> Answer:
        first, second = await asyncio.gather(
            exchange.request({"method": "sampling/createMessage", "params": 1}),
            exchange.request({"method": "elicitation/create", "params": 2}),
        )
        return {"result": {"first": first, "second": second}}

    pair.owner.answer = ask
    answer = await pair.run(a_call())
    assert answer["result"] == {"first": {"result": {"answer": 1}}, "second": {"result": {"answer": 2}}}


async def test_a_client_that_cannot_be_asked_is_unavailable_to_the_server(pair: Pair) -> None:
    pair.caller.refusal = Unavailable("the client declares no sampling", capability="sampling")

    async def ask(call: Call, exchange: Exchange) -> Answer:
        with pytest.raises(Unavailable, match="declares no sampling") as caught:
            await exchange.request({"method": "sampling/createMessage", "params": {}})
        return {"result": caught.value.data}

    pair.owner.answer = ask
    assert await pair.run(a_call()) == {"result": {"capability": "sampling"}}


@pytest.mark.parametrize("kind", sorted(set(ERRORS) - {Fault.kind}))
async def test_what_the_owner_raises_arrives_as_the_same_kind(pair: Pair, kind: str) -> None:
    async def refuse(call: Call, exchange: Exchange) -> Answer:
        raise ERRORS[kind]("because", detail={"deep": [1]})

    pair.owner.answer = refuse
    with pytest.raises(ERRORS[kind], match="because") as caught:
        await pair.run(a_call())
    assert type(caught.value) is ERRORS[kind]
    assert caught.value.data["detail"] == {"deep": [1]}


async def test_a_bug_at_the_owner_is_a_fault_with_an_id_that_its_log_has_too(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(call: Call, exchange: Exchange) -> Answer:
        raise ZeroDivisionError("hunter2")

    pair.owner.answer = broken
    with pytest.raises(Fault) as caught:
        await pair.run(a_call())
    assert "hunter2" not in caught.value.message
    assert caught.value.data["fault_id"] in caplog.text


# ---- cancellation and deadlines ----


async def test_cancelling_the_caller_cancels_the_call_where_it_runs(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    task = pair.begin(a_call())
    await held.begun.wait()
    task.cancel()
    await held.cancelled.wait()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_deadline_that_the_owner_confirms_is_expired(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    with pytest.raises(Expired) as caught:
        await pair.run(a_call(budget_ms=300))
    assert caught.value.data["call_id"] == "c1"
    assert held.cancelled.is_set()


async def test_a_deadline_that_nobody_confirms_leaves_the_outcome_unknown(pair: Pair) -> None:
    never, release = asyncio.Event(), asyncio.Event()

    async def stubborn(call: Call, exchange: Exchange) -> Answer:
        try:
            await never.wait()
        except asyncio.CancelledError:
            await release.wait()
        return {"result": {}}

    pair.owner.answer = stubborn
    pair.client = pair.dial(cancel_grace_s=0.05)
    with pytest.raises(OutcomeUnknown) as caught:
        await pair.run(a_call(budget_ms=300))
    assert caught.value.data["call_id"] == "c1"
    release.set()


async def test_an_answer_within_the_grace_after_the_deadline_counts(pair: Pair) -> None:
    never = asyncio.Event()

    async def quick_to_end(call: Call, exchange: Exchange) -> Answer:
        with suppress(asyncio.CancelledError):
            await never.wait()
        raise OutcomeUnknown("the upstream had it already", upstream=True)

    pair.owner.answer = quick_to_end
    with pytest.raises(OutcomeUnknown) as caught:
        await pair.run(a_call(budget_ms=300))
    assert caught.value.data == {"upstream": True, "call_id": "c1", "owner": OWNER.name}


async def test_a_call_whose_time_is_up_before_it_is_sent_is_expired_and_never_runs(pair: Pair) -> None:
    with pytest.raises(Expired, match="before the call was sent"):
        await pair.run(a_call(budget_ms=0))
    assert pair.owner.ran == []


# ---- each call id once ----


async def test_a_repeated_call_id_gets_the_first_answer_and_does_not_run_again(pair: Pair) -> None:
    first = await pair.run(a_call(n=1))
    assert await pair.run(a_call(n=2)) == first
    assert pair.owner.ran == ["c1"]


async def test_a_repeat_over_another_stream_gets_the_first_answer_too(pair: Pair) -> None:
    first = await pair.run(a_call(n=1))
    assert await pair.dial().call(a_call(n=2), Caller()) == first
    assert pair.owner.ran == ["c1"]


async def test_a_repeated_failure_is_the_same_failure(pair: Pair) -> None:
    async def refuse(call: Call, exchange: Exchange) -> Answer:
        raise Conflict("changed")

    pair.owner.answer = refuse
    for _ in range(2):
        with pytest.raises(Conflict, match="changed"):
            await pair.run(a_call())
    assert pair.owner.ran == ["c1"]


async def test_a_repeat_joins_the_call_that_is_running(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    first, second = pair.begin(a_call()), pair.begin(a_call())
    await held.begun.wait()
    over_another_stream = asyncio.create_task(pair.dial().call(a_call(), Caller()))
    held.go.set()
    assert await over_another_stream == {"result": {"held": True}}
    assert pair.owner.ran == ["c1"]
    first.cancel()
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)


async def test_two_calls_of_one_id_in_flight_from_here_end_alike(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    tasks = [pair.begin(a_call()) for _ in range(3)]
    await held.begun.wait()
    held.go.set()
    assert await asyncio.gather(*tasks) == [{"result": {"held": True}}] * 3
    assert pair.owner.ran == ["c1"]


async def test_another_principal_never_joins_or_reads_a_call(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    task = pair.begin(a_call())
    await held.begun.wait()
    other = Call("c1", "files", "tools/call", {"n": 2}, Principal("bob"))
    with pytest.raises(Conflict):
        await pair.run(other)
    held.go.set()
    await task
    pair.owner.answer = echo
    assert await pair.run(other) == {"result": {"n": 2}}
    assert pair.owner.ran == ["c1", "c1"]


# ---- broken streams ----


async def test_a_call_goes_on_while_its_stream_breaks_and_its_answer_is_recovered(pair: Pair) -> None:
    go = asyncio.Event()

    async def work(call: Call, exchange: Exchange) -> Answer:
        exchange.event({"method": "notifications/progress", "params": 1})
        await go.wait()
        exchange.event({"method": "notifications/progress", "params": 2})
        return {"result": {"done": True}}

    pair.owner.answer = work
    task = pair.begin(a_call())
    await pair.caller.heard.wait()
    pair.relay.cut(refusing=True)
    await broken(pair)
    pair.relay.refusing = False
    await pair.relay.connected.wait()
    go.set()
    assert await task == {"result": {"done": True}}
    assert pair.owner.ran == ["c1"]


async def broken(pair: Pair) -> None:
    """Until the dialling side knows that its stream is gone."""
    stream = pair.client._reach.current
    assert stream is not None
    await asyncio.wait(stream._tasks)


async def test_an_answer_that_came_while_the_stream_was_broken_is_recovered(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    task = pair.begin(a_call())
    await held.begun.wait()
    pair.relay.cut(refusing=True)
    held.go.set()
    await asyncio.wait([run.task for run in pair.owner.forward.repeats.runs()])
    pair.relay.refusing = False
    assert await task == {"result": {"held": True}}
    assert pair.owner.ran == ["c1"]


async def test_a_long_answer_cut_in_the_middle_is_sent_again_whole(pair: Pair) -> None:
    text = "x" * 8_000_000
    pair.owner.answer = held = Held({"result": {"text": text}})
    task = pair.begin(a_call())
    await held.begun.wait()
    held.go.set()
    await pair.relay.carried(1_000_000)
    pair.relay.cut()
    answer = await task
    assert answer["result"]["text"] == text
    assert pair.owner.ran == ["c1"]


async def test_the_client_is_asked_once_though_the_stream_breaks_meanwhile(pair: Pair) -> None:
    async def ask(call: Call, exchange: Exchange) -> Answer:
        return await exchange.request({"method": "elicitation/create", "params": 7})

    pair.owner.answer = ask
    pair.caller.may_answer.clear()
    task = pair.begin(a_call())
    await pair.caller.asked.wait()
    pair.relay.cut()
    await broken(pair)
    pair.caller.may_answer.set()
    assert await task == {"result": {"answer": 7}}
    assert len(pair.caller.questions) == 1


async def test_after_a_restart_of_the_owner_the_outcome_is_unknown(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    task = pair.begin(a_call())
    await held.begun.wait()
    successor = Owner(pair.certificates[OWNER])
    await successor.start()
    pair.relay.target = successor.port
    pair.relay.cut()
    with pytest.raises(OutcomeUnknown, match="restarted") as caught:
        await task
    assert caught.value.data["call_id"] == "c1"
    assert successor.ran == []
    await successor.stop()


async def test_an_owner_that_stays_away_leaves_the_outcome_unknown_at_the_deadline(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    task = pair.begin(a_call(budget_ms=700))
    await held.begun.wait()
    pair.relay.cut(refusing=True)
    with pytest.raises(OutcomeUnknown) as caught:
        await task
    assert caught.value.data["call_id"] == "c1"


async def test_a_call_put_on_a_stream_that_has_just_ended_is_lost_at_once_and_not_at_its_deadline(pair: Pair) -> None:
    await pair.run(a_call())
    stream = pair.client._reach.current
    assert stream is not None
    await stream.close()
    for put in (stream.open, stream.query):
        asked = Asked(a_call("c2"), pair.caller, 1000)
        asked.attach(stream)
        put(asked)
        with pytest.raises(Lost, match="just ended"):
            await asked.outcome()
    assert await pair.run(a_call("c3", n=3)) == {"result": {"n": 3}}


async def test_a_run_that_nobody_claims_is_cancelled(certificates: dict[NodeId, MeshTls]) -> None:
    async with a_pair(certificates, unclaimed_s=0.05) as pair:
        pair.owner.answer = held = Held()
        task = pair.begin(a_call())
        await held.begun.wait()
        pair.relay.cut(refusing=True)
        await held.cancelled.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_peer_that_cannot_be_reached_is_unavailable_and_says_when_to_try_again(pair: Pair) -> None:
    pair.relay.refusing = True
    with pytest.raises(Unavailable):
        await pair.run(a_call("c1"))
    with pytest.raises(Unavailable, match="next attempt in") as caught:
        await pair.run(a_call("c2"))
    assert caught.value.data["retry_after_s"] > 0
    assert pair.owner.ran == []


async def test_a_peer_that_comes_back_is_called_again(pair: Pair) -> None:
    assert await pair.run(a_call("c1", n=1)) == {"result": {"n": 1}}
    pair.relay.cut(refusing=True)
    await broken(pair)
    with pytest.raises(Unavailable):
        await pair.run(a_call("c2", n=2))
    pair.relay.refusing = False
    for n in range(3, 100):
        try:
            assert await pair.run(a_call(f"c{n}", n=n)) == {"result": {"n": n}}
            return
        except Unavailable as e:
            await asyncio.sleep(e.data.get("retry_after_s", 0))
    pytest.fail("the peer was back and was not called again")


# ---- sizes ----


async def test_a_long_answer_does_not_hold_up_a_short_one(pair: Pair) -> None:
    done: list[str] = []

    async def work(call: Call, exchange: Exchange) -> Answer:
        return {"result": {"text": "x" * call.params["size"]}}

    async def note(call_id: str, size: int) -> None:
        answer = await pair.run(a_call(call_id, size=size))
        assert len(answer["result"]["text"]) == size
        done.append(call_id)

    pair.owner.answer = work
    long = asyncio.create_task(note("long", 30_000_000))
    await pair.relay.carried(1_000_000)
    await note("short", 1_000)
    assert not long.done()
    await long
    assert done == ["short", "long"]


@pytest.mark.parametrize("size", [CHUNKED_ABOVE_BYTES - 40, CHUNKED_ABOVE_BYTES, CHUNKED_ABOVE_BYTES + 1, 3_000_000])
async def test_params_and_answers_of_any_size_arrive_whole(pair: Pair, size: int) -> None:
    text = ("aé" * size)[:size]
    assert await pair.run(a_call(text=text)) == {"result": {"text": text}}


async def test_an_answer_beyond_the_bound_is_exhausted(pair: Pair) -> None:
    async def work(call: Call, exchange: Exchange) -> Answer:
        return {"result": {"text": "x" * 2_000_000}}

    pair.owner.answer = work
    pair.client = pair.dial(answer_bytes_max=1_000_000)
    with pytest.raises(Exhausted, match="1000000"):
        await pair.run(a_call())
    with pytest.raises(Exhausted, match="1000000"):
        await pair.run(a_call("c2", text="x" * 1_000_001))
    assert pair.owner.ran == ["c1"]


async def test_the_owner_bounds_params_and_answers_too(certificates: dict[NodeId, MeshTls]) -> None:
    async with a_pair(certificates, text_bytes_max=500_000) as pair:

        async def grow(call: Call, exchange: Exchange) -> Answer:
            return {"result": {"text": "x" * 600_000}}

        pair.owner.answer = grow
        with pytest.raises(Exhausted, match="params of 6"):
            await pair.run(a_call("c1", text="x" * 600_000))
        with pytest.raises(Exhausted, match="the answer is 6"):
            await pair.run(a_call("c2"))
        assert pair.owner.ran == ["c2"]


# ---- refusals ----


async def test_a_call_that_has_passed_through_a_node_before_is_refused(pair: Pair) -> None:
    call = Call("c1", "files", "tools/call", {}, via=("elsewhere",))
    with pytest.raises(Invalid, match="via"):
        await pair.run(call)
    assert pair.owner.ran == []


async def test_a_stopping_owner_refuses_new_calls_and_says_that_they_did_not_run(pair: Pair) -> None:
    pair.owner.forward.draining = True
    with pytest.raises(Unavailable, match="stopping"):
        await pair.run(a_call())
    pair.owner.forward.draining = False
    assert await pair.run(a_call(n=1)) == {"result": {"n": 1}}


async def test_more_calls_than_the_bound_are_refused_on_either_side(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    pair.owner.forward.calls_per_peer_max = 2
    tasks = [pair.begin(a_call(f"c{n}")) for n in range(2)]
    await held.begun.wait()
    with pytest.raises(Unavailable, match="2 calls for 'entry'"):
        await pair.run(a_call("c2"))
    small = pair.dial(calls_max=0)
    with pytest.raises(Unavailable, match="0 calls"):
        await small.call(a_call("c3"), pair.caller)
    held.go.set()
    await asyncio.gather(*tasks)
    pair.owner.answer = echo
    assert await pair.run(a_call("c4", n=4)) == {"result": {"n": 4}}


async def test_closing_ends_what_is_in_flight_here_and_at_the_owner(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    task = pair.begin(a_call())
    await held.begun.wait()
    await pair.client.close()
    await held.cancelled.wait()
    with pytest.raises((OutcomeUnknown, Expired)):
        await task
    with pytest.raises(Unavailable, match="closed"):
        await pair.run(a_call("c2"))
    assert "closed" in repr(pair.client)


# ---- frames as a stranger would send them ----


async def the_end(stream: Any) -> pb.CallDown:
    """A call's last frame. Whether it is accepted before, is a matter of how busy the owner is."""
    frame: pb.CallDown = await stream.read()
    while frame.WhichOneof("frame") == "accepted":
        frame = await stream.read()
    return frame


async def test_a_query_for_a_call_that_never_came_is_told_so_and_held_to_it(pair: Pair) -> None:
    async with pair.channel() as channel:
        stream = MeshStub(channel).Forward()
        await stream.write(pb.CallUp(call_id="lost", query=pb.Query()))
        answer = await stream.read()
        assert answer.error.kind == pb.ErrorKind.ERROR_KIND_UNAVAILABLE
        await stream.write(pb.CallUp(call_id="lost", open=pb.Open(server="files", method="m", budget_ms=1000)))
        late = await stream.read()
        assert late.error.kind == pb.ErrorKind.ERROR_KIND_UNAVAILABLE
        assert pair.owner.ran == []
        stream.cancel()


async def test_unknown_frames_are_ignored_and_bad_ones_refused_alone(pair: Pair) -> None:
    async with pair.channel() as channel:
        stream = MeshStub(channel).Forward()
        await stream.write(pb.CallUp(call_id="newer"))
        await stream.write(pb.CallUp(call_id="never-opened", chunk=pb.Chunk(data=b"x")))
        await stream.write(pb.CallUp(call_id="bad", open=pb.Open(params=b"[", budget_ms=1000)))
        answer = await stream.read()
        assert (answer.call_id, answer.error.kind) == ("bad", pb.ErrorKind.ERROR_KIND_INVALID)
        await stream.write(pb.CallUp(call_id="good", open=pb.Open(params=b'{"n":1}', budget_ms=10_000)))
        assert (await the_end(stream)).result.answer == b'{"result":{"n":1}}'
        stream.cancel()


async def test_a_call_that_takes_a_while_is_accepted_before_its_answer(pair: Pair) -> None:
    pair.owner.answer = held = Held()
    async with pair.channel() as channel:
        stream = MeshStub(channel).Forward()
        await stream.write(pb.CallUp(call_id="c", open=pb.Open(params=b"{}", budget_ms=10_000)))
        assert (await stream.read()).WhichOneof("frame") == "accepted"
        held.go.set()
        assert (await stream.read()).result.answer == b'{"result":{"held":true}}'
        stream.cancel()


async def test_an_open_followed_at_once_by_its_cancellation_still_gets_its_end(pair: Pair) -> None:
    pair.owner.answer = Held()
    async with pair.channel() as channel:
        stream = MeshStub(channel).Forward()
        await stream.write(pb.CallUp(call_id="c", open=pb.Open(params=b"{}", budget_ms=10_000)))
        await stream.write(pb.CallUp(call_id="c", cancel=pb.Cancel()))
        assert (await the_end(stream)).error.kind == pb.ErrorKind.ERROR_KIND_EXPIRED
        stream.cancel()
    assert pair.owner.forward.in_flight == 0


@pytest.mark.parametrize("size", [1_000, 200_000, 900_000])
async def test_a_stopping_owner_ends_a_stream_once_the_answers_on_it_are_written(
    certificates: dict[NodeId, MeshTls], size: int
) -> None:
    for _ in range(5):
        async with a_pair(certificates) as pair:
            answered = asyncio.Event()

            async def work(call: Call, exchange: Exchange, said: asyncio.Event = answered) -> Answer:
                said.set()
                return {"result": {"text": "x" * size}}

            pair.owner.answer = work
            task = pair.begin(a_call())
            await answered.wait()
            await pair.owner.forward.close()
            await pair.owner._server.stop(1.0)
            assert len((await task)["result"]["text"]) == size
