"""Two edges that hold their own sessions, and an agent that dials the one and has its session at the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from node.ingress import carrying
from node.ingress.http import IngressSettings
from proto import jsons
from proto.calls import Call
from proto.errors import OutcomeUnknown, Unavailable, Unknown
from proto.names import NodeId
from tests.node.ingress.conftest import Served, served


class Mesh:
    """Carriers of nodes by name. What travels is JSON; an event may be lost (`losing`), a node `gone`."""

    def __init__(self):
        self.handlers = {}
        self.gone = {}
        self.losing = lambda n: False
        self.carried = []

    def carrier(self, name):
        return Carrier(self, name)


class Carrier:
    def __init__(self, mesh, me):
        self._mesh = mesh
        self.me = me

    def handle(self, method, handler):
        self._mesh.handlers[self.me, method] = handler

    async def carry(self, node, method, params, caller, exchange, *, budget_ms=60_000):
        if node in self._mesh.gone:
            raise self._mesh.gone[node]
        handler = self._mesh.handlers.get((node, method))
        if handler is None:
            raise Unknown(f"no node {node!r}")
        self._mesh.carried.append((self.me, node, params["verb"]))
        call = Call("c", "", method, jsons.loads(jsons.dumps(params)), principal=caller.principal, trace=caller.trace)
        peer = NodeId.of("toolmesh.test", "lab", self.me)
        return jsons.loads(jsons.dumps(await handler(call, Lossy(self._mesh, exchange), peer)))


class Lossy:
    def __init__(self, mesh, exchange):
        self._mesh = mesh
        self._exchange = exchange

    def event(self, notification):
        if not self._mesh.losing(notification["params"]["n"]):
            self._exchange.event(jsons.loads(jsons.dumps(notification)))

    async def request(self, request):
        raise AssertionError("a session's questions are events of its stream")


class Pair:
    """`holder` has the sessions; the agent dials `entry` from then on."""

    def __init__(self, mesh: Mesh, holder: Served, entry: Served) -> None:
        self.mesh, self.holder, self.entry = mesh, holder, entry
        self.tools = holder.root.tools


@asynccontextmanager
async def paired(settings: IngressSettings | None = None) -> AsyncIterator[Pair]:
    mesh = Mesh()
    async with served(settings, mesh.carrier("ann")) as holder, served(settings, mesh.carrier("bob")) as entry:
        yield Pair(mesh, holder, entry)


@pytest.fixture
async def pair():
    async with paired() as p:
        yield p


def hyphens(session, **more):
    return {**{k.replace("_", "-"): v for k, v in session.items()}, "Accept": "text/event-stream", **more}


async def test_a_sessions_id_names_the_node_that_holds_it(pair):
    assert (await pair.holder.session())["Mcp_Session_Id"].startswith("ann.")
    assert (await pair.entry.session())["Mcp_Session_Id"].startswith("bob.")


async def test_a_request_is_answered_by_the_holder_as_if_it_had_come_there(pair):
    session = await pair.holder.session(path="/time")
    pair.holder.time.listed = [{"name": "now"}]
    for edge in pair.holder, pair.entry:
        async with edge.post(edge.call("tools/list"), "/time", **session) as r:
            assert (r.status, r.headers["Content-Type"]) == (200, "application/json")
            assert (await r.json())["result"] == {"tools": [{"name": "now"}]}
        async with edge.post(edge.call("nope/nope"), "/time", **session) as r:
            assert (await r.json())["error"]["code"] == -32601
        async with edge.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, "/time", **session) as r:
            assert (r.status, await r.read()) == (202, b"")
        # Another address than the session's, another version: the holder's own refusals.
        async with edge.post(edge.call("ping"), **session) as r:
            assert r.status == 404
        async with edge.post(edge.call("ping"), "/time", **{**session, "MCP_Protocol_Version": "2024-11-05"}) as r:
            assert r.status == 400
    assert pair.entry.time.seen == []


async def test_the_trace_and_the_principal_travel(pair):
    session = await pair.holder.session(Authorization="Bearer ann")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with pair.entry.post(pair.entry.call("vendor/echo"), **session, traceparent=trace) as r:
        assert r.status == 200
    _, _, caller = pair.holder.root.seen[-1]
    assert (caller.principal.subject, caller.trace) == ("ann", {"traceparent": trace})
    async with pair.entry.post(pair.entry.call("ping"), **{**session, "Authorization": "Bearer eve"}) as r:
        assert r.status == 404


async def test_what_comes_ahead_of_the_answer_comes_through_and_so_do_questions(pair):
    async def curious(arguments, caller, exchange):
        exchange.event({"method": "notifications/progress", "params": {"progress": 1}})
        answer = await exchange.request({"method": "roots/list"})
        return {"result": {"content": [], "structuredContent": answer}}

    pair.tools["curious"] = curious
    session = await pair.holder.session(capabilities={"roots": {}})
    entry = pair.entry
    async with entry.post(entry.tool_call("curious", "x"), **session) as r:
        events = entry.identified(r)
        assert await entry.next(events) == ("p1.0", None)
        assert (await entry.next(events))[1]["params"] == {"progress": 1}
        event_id, question = await entry.next(events)
        assert (event_id, question["method"]) == ("p1.2", "roots/list")
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}}
        async with entry.post(answer, **session) as posted:
            assert posted.status == 202
        _, answered = await entry.next(events)
        assert answered["id"] == "x"
        assert answered["result"]["structuredContent"] == {"result": {"roots": []}}
        assert [e async for e in events] == []


async def test_a_get_stream_is_carried_and_so_is_delete(pair):
    session = await pair.holder.session(path="/time")
    headers = hyphens(session)
    async with pair.entry.http.get(pair.entry.url + "/time", headers=headers) as r:
        events = pair.entry.identified(r)
        assert await pair.entry.next(events) == ("g1.0", None)
        pair.holder.endpoints.change("time", "tools")
        event_id, message = await pair.entry.next(events)
        assert (event_id, message["method"]) == ("g1.1", "notifications/tools/list_changed")
        async with pair.entry.http.delete(pair.entry.url + "/time", headers=headers) as deleted:
            assert deleted.status == 204
        assert [e async for e in events] == []
    assert pair.holder.ingress.stats()["sessions"] == 0


async def test_a_stream_lost_at_one_node_is_resumed_at_another(pair):
    async def steps(arguments, caller, exchange):
        exchange.event({"method": "notifications/progress", "params": {"progress": 1}})
        await pair.holder.root.release.wait()
        return pair.holder.text("done")

    pair.tools["steps"] = steps
    session = await pair.holder.session()
    response = await pair.holder.post(pair.holder.tool_call("steps", 7), **session)
    events = pair.holder.identified(response)
    await pair.holder.next(events)
    last, _ = await pair.holder.next(events)
    response.close()
    headers = hyphens(session, **{"Last-Event-ID": last})
    async with pair.entry.http.get(pair.entry.url, headers=headers) as r:
        events = pair.entry.identified(r)
        pair.holder.root.release.set()
        assert (await pair.entry.next(events))[1]["result"]["content"][0]["text"] == "done"
        assert [e async for e in events] == []


async def test_a_disconnect_is_no_cancel_there_either(pair):
    async def slow(arguments, caller, exchange):
        exchange.event({"method": "notifications/progress", "params": {"progress": 1}})
        pair.holder.root.started.set()
        await pair.holder.root.release.wait()
        pair.holder.root.cancelled.set()
        return pair.holder.text("done")

    pair.tools["slow"] = slow
    session = await pair.holder.session()
    response = await pair.entry.post(pair.entry.tool_call("slow"), **session)
    events = pair.entry.identified(response)
    await pair.entry.next(events)
    last, _ = await pair.entry.next(events)
    response.close()
    pair.holder.root.release.set()
    await pair.holder.wait(pair.holder.root.cancelled)
    async with pair.entry.http.get(pair.entry.url, headers=hyphens(session, **{"Last-Event-ID": last})) as r:
        (only,) = [e[1] async for e in pair.entry.identified(r)]
    assert only["result"]["content"][0]["text"] == "done"


async def test_a_cancelled_call_is_answered_with_silence(pair):
    async def slow(arguments, caller, exchange):
        pair.holder.root.started.set()
        await asyncio.Event().wait()

    pair.tools["slow"] = slow
    session = await pair.holder.session()
    asked = asyncio.ensure_future(pair.entry.post(pair.entry.tool_call("slow", 5), **session)._coro)
    await pair.holder.wait(pair.holder.root.started)
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}
    async with pair.entry.post(cancelled, **session) as r:
        assert r.status == 202
    async with await asked as r:
        assert (r.status, await r.read()) == (200, b"")


async def test_a_long_call_becomes_a_stream_here_when_it_does_there():
    async with paired(IngressSettings(promote_after_s=0.01, resumable_after_s=0.01)) as pair:

        async def slow(arguments, caller, exchange):
            await pair.holder.root.release.wait()
            return pair.holder.text("done")

        pair.tools["slow"] = slow
        session = await pair.holder.session("2025-06-18")
        async with pair.entry.post(pair.entry.tool_call("slow"), **session) as r:
            assert r.headers["Content-Type"] == "text/event-stream"
            pair.holder.root.release.set()
            (only,) = [e async for e in pair.entry.events(r)]
    assert only["result"]["content"][0]["text"] == "done"


async def test_an_event_lost_between_the_nodes_ends_the_stream_and_is_had_by_resuming_it(pair):
    async def steps(arguments, caller, exchange):
        for progress in (1, 2):
            exchange.event({"method": "notifications/progress", "params": {"progress": progress}})
        return pair.holder.text("done")

    pair.tools["steps"] = steps
    session = await pair.holder.session()
    # 0 opens the stream, 1 primes it, 2 and 3 are the events.
    pair.mesh.losing = lambda n: n == 2
    async with pair.entry.post(pair.entry.tool_call("steps"), **session) as r:
        got = [e async for e in pair.entry.identified(r)]
    assert got == [("p1.0", None)]
    pair.mesh.losing = lambda n: False
    async with pair.entry.http.get(pair.entry.url, headers=hyphens(session, **{"Last-Event-ID": "p1.0"})) as r:
        got = [e[1] async for e in pair.entry.identified(r)]
    assert [m.get("params", {}).get("progress") for m in got] == [1, 2, None]


@pytest.mark.parametrize(
    ("cause", "status", "code", "says"),
    [
        (Unknown("it left"), 404, -32600, "is none of this mesh; initialize anew"),
        (Unavailable("no stream", retry_after_s=2.5), 503, -32054, "try again soon, or initialize anew"),
        (OutcomeUnknown("it broke off"), 200, -32056, "it broke off"),
    ],
)
async def test_where_the_holder_does_not_answer_the_agent_is_told_what_to_do(pair, cause, status, code, says):
    session = await pair.holder.session()
    pair.mesh.gone["ann"] = cause
    async with pair.entry.post(pair.entry.call("ping", None, 3), **session) as r:
        error = (await r.json())["error"]
        assert (r.status, error["code"]) == (status, code)
        assert says in error["message"]
        assert r.headers.get("Retry-After") == ("2" if status == 503 else None)
    async with pair.entry.http.get(pair.entry.url, headers=hyphens(session)) as r:
        assert r.status == (404 if status == 404 else 503)


async def test_an_id_that_names_no_node_is_unknown_here(pair):
    for session_id in ("bob.made-up", "made-up", "A!.made-up", ".made-up", "cay.made-up"):
        async with pair.entry.post(pair.entry.call("ping"), Mcp_Session_Id=session_id) as r:
            assert r.status == 404
    assert pair.mesh.carried == []


async def test_initialize_is_always_this_nodes_own(pair):
    session = await pair.holder.session()
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    async with pair.entry.post(pair.entry.call("initialize", params), **session) as r:
        assert r.headers["Mcp-Session-Id"].startswith("bob.")
    assert pair.mesh.carried == []


async def test_a_peer_that_carries_nonsense_is_refused(pair):
    handler = pair.mesh.handlers["ann", carrying.SESSION_METHOD]
    peer = NodeId.of("toolmesh.test", "lab", "bob")
    for params in ({}, {"verb": "PUT", "headers": {}}, {"verb": "GET", "headers": []}, {"verb": "GET", "name": 7}):
        with pytest.raises(Exception, match="a carried request must have"):
            await handler(Call("c", "", carrying.SESSION_METHOD, params), None, peer)
