"""A client that lost a connection comes back with Last-Event-ID and lacks nothing."""

import asyncio
from unittest import mock

import pytest

from node.ingress.http import IngressSettings
from node.ingress.resumable import ResumableStream


def hyphens(session, **more):
    return {**{k.replace("_", "-"): v for k, v in session.items()}, "Accept": "text/event-stream", **more}


async def stepwise(edge):
    """A tool that tells of a step at once, of another when `release` is set, and then answers."""

    async def steps(arguments, caller, exchange):
        exchange.event({"method": "notifications/progress", "params": {"progress": 1}})
        edge.root.started.set()
        await edge.root.release.wait()
        exchange.event({"method": "notifications/progress", "params": {"progress": 2}})
        return edge.text("done")

    edge.root.tools["steps"] = steps


async def broken_post(edge, session, take):
    """POST the call, read `take` events, break the connection; the id of the last event read."""
    response = await edge.post(edge.tool_call("steps", 7), **session)
    events = edge.identified(response)
    for _ in range(take):
        event_id, _ = await edge.next(events)
    response.close()
    await unread(edge, session)
    return event_id


async def unread(edge, session):
    """Until the edge has noticed that nobody reads the session's streams."""
    found = edge.ingress._legacy.sessions._sessions[session["Mcp_Session_Id"]]
    noticed = asyncio.Event()
    disconnect = ResumableStream.disconnect

    def watched(stream, connection):
        disconnect(stream, connection)
        noticed.set()

    with mock.patch.object(ResumableStream, "disconnect", watched):
        while any(stream.connection is not None for stream in found.events._streams.values()):
            noticed.clear()
            await edge.wait(noticed)


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18", "2025-11-25"])
async def test_an_answer_given_while_the_client_was_away_is_read_later(edge, version):
    await stepwise(edge)
    session = await edge.session(version)
    last = await broken_post(edge, session, 2 if version == "2025-11-25" else 1)
    edge.root.release.set()
    async with edge.http.get(edge.url, headers=hyphens(session, **{"Last-Event-ID": last})) as r:
        assert r.status == 200
        events = [e async for e in edge.identified(r)]
    assert [e[1].get("params", {}).get("progress") for e in events] == [2, None]
    assert events[-1][1]["id"] == 7
    assert events[-1][1]["result"]["content"][0]["text"] == "done"
    # And again, as often as the client likes.
    async with edge.http.get(edge.url, headers=hyphens(session, **{"Last-Event-ID": events[0][0]})) as r:
        assert [e async for e in edge.identified(r)] == events[1:]


async def test_a_client_that_comes_back_in_time_gets_the_answer_as_it_comes(edge):
    await stepwise(edge)
    session = await edge.session()
    last = await broken_post(edge, session, 2)
    async with edge.http.get(edge.url, headers=hyphens(session, **{"Last-Event-ID": last})) as r:
        events = edge.identified(r)
        edge.root.release.set()
        assert (await edge.next(events))[1]["params"] == {"progress": 2}
        assert (await edge.next(events))[1]["id"] == 7
        assert [e async for e in events] == []


async def test_a_client_that_saw_nothing_but_the_first_id_gets_everything(edge):
    await stepwise(edge)
    session = await edge.session()
    first = await broken_post(edge, session, 1)
    edge.root.release.set()
    async with edge.http.get(edge.url, headers=hyphens(session, **{"Last-Event-ID": first})) as r:
        got = [e[1] async for e in edge.identified(r)]
    assert [m.get("method") for m in got] == ["notifications/progress", "notifications/progress", None]


async def test_a_stream_begins_with_an_id_and_a_delay_from_2025_11_25_on_only(edge):
    for version, first in (("2025-11-25", b"event: message\nid: g1.0\nretry: 1000\ndata: \n\n"), ("2025-06-18", None)):
        session = await edge.session(version)
        async with edge.http.get(edge.url, headers=hyphens(session)) as r:
            if first is not None:
                assert await r.content.readexactly(len(first)) == first
            async with edge.http.delete(edge.url, headers=hyphens(session)):
                pass
            assert await r.content.read() == b""


async def test_a_long_call_becomes_a_stream_that_can_be_resumed_before_it_says_anything(serve):
    async with serve(IngressSettings(promote_after_s=0.01, resumable_after_s=0.01)) as edge:

        async def silent(arguments, caller, exchange):
            await edge.root.release.wait()
            return edge.text("at last")

        edge.root.tools["steps"] = silent
        session = await edge.session()
        first = await broken_post(edge, session, 1)
        edge.root.release.set()
        async with edge.http.get(edge.url, headers=hyphens(session, **{"Last-Event-ID": first})) as r:
            (only,) = [e[1] async for e in edge.identified(r)]
        assert only["result"]["content"][0]["text"] == "at last"


async def test_a_get_stream_is_resumed_and_goes_on(edge):
    session = await edge.session(path="/time")
    url, headers = edge.url + "/time", hyphens(session)
    response = await edge.http.get(url, headers=headers)
    events = edge.identified(response)
    start, _ = await edge.next(events)
    edge.endpoints.change("time", "tools")
    seen, message = await edge.next(events)
    assert message["method"] == "notifications/tools/list_changed"
    response.close()
    await unread(edge, session)
    edge.endpoints.change("time", "resources")
    # From the start: what was lost with the connection for all that the edge knows, and what came meanwhile.
    async with edge.http.get(url, headers={**headers, "Last-Event-ID": start}) as r:
        events = edge.identified(r)
        assert await edge.next(events) == (seen, message)
        assert (await edge.next(events))[1]["method"] == "notifications/resources/list_changed"
        edge.endpoints.change("time", "tools")
        assert (await edge.next(events))[1]["method"] == "notifications/tools/list_changed"


async def test_a_get_stream_that_is_forgotten_is_begun_anew(edge):
    session = await edge.session(path="/time")
    headers = hyphens(session, **{"Last-Event-ID": "g1.0"})
    async with edge.http.get(edge.url + "/time", headers=hyphens(session)) as r:
        assert (await edge.next(edge.identified(r)))[0] == "g1.0"
    await unread(edge, session)
    async with edge.http.get(edge.url + "/time", headers=headers) as r:
        events = edge.identified(r)
        assert await edge.next(events) == ("g2.0", None)
        edge.endpoints.change("time", "tools")
        assert (await edge.next(events))[0] == "g2.1"


@pytest.mark.parametrize(
    ("event_id", "says"),
    [("p9.1", "not the id of an event of this session"), ("nonsense", "not the id"), ("p1.0", "send the request anew")],
)
async def test_an_event_id_that_cannot_be_resumed_from_is_refused_with_400(serve, event_id, says):
    async with serve(IngressSettings(session_events_max=1)) as edge:
        await stepwise(edge)
        edge.root.release.set()
        session = await edge.session()
        for _ in range(2):
            async with edge.post(edge.tool_call("steps"), **session) as r:
                await r.read()
        async with edge.http.get(edge.url, headers=hyphens(session, **{"Last-Event-ID": event_id})) as r:
            assert r.status == 400
            assert says in (await r.json())["error"]["message"]


async def test_events_of_another_session_are_not_to_be_had(edge):
    await stepwise(edge)
    edge.root.release.set()
    one, other = await edge.session(), await edge.session()
    async with edge.post(edge.tool_call("steps"), **one) as r:
        await r.read()
    async with edge.http.get(edge.url, headers=hyphens(other, **{"Last-Event-ID": "p1.0"})) as r:
        assert r.status == 400


async def test_a_batch_is_resumed_too(edge):
    await stepwise(edge)
    session = await edge.session("2025-03-26")
    response = await edge.post([edge.tool_call("steps", 1), edge.call("ping", None, 2)], **session)
    last, _ = await edge.next(edge.identified(response))
    response.close()
    await unread(edge, session)
    edge.root.release.set()
    async with edge.http.get(edge.url, headers=hyphens(session, **{"Last-Event-ID": last})) as r:
        got = [e[1] async for e in edge.identified(r)]
    assert sorted(m["id"] for m in got[-1]) == [1, 2]


async def test_a_cancelled_call_ends_the_stream_that_its_client_has_lost(edge):
    await stepwise(edge)
    session = await edge.session()
    last = await broken_post(edge, session, 2)
    async with edge.http.get(edge.url, headers=hyphens(session, **{"Last-Event-ID": last})) as r:
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
        async with edge.post(cancelled, **session) as posted:
            assert posted.status == 202
        assert [e async for e in edge.identified(r)] == []


async def test_a_question_that_was_lost_with_its_connection_is_asked_again(edge):
    async def curious(arguments, caller, exchange):
        return {"result": {"content": [], "structuredContent": await exchange.request({"method": "roots/list"})}}

    edge.root.tools["steps"] = curious
    session = await edge.session(capabilities={"roots": {}})
    first = await broken_post(edge, session, 1)
    async with edge.http.get(edge.url, headers=hyphens(session, **{"Last-Event-ID": first})) as r:
        events = edge.identified(r)
        _, question = await edge.next(events)
        assert question["method"] == "roots/list"
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}}
        async with edge.post(answer, **session) as posted:
            assert posted.status == 202
        _, answered = await edge.next(events)
    assert answered["result"]["structuredContent"] == {"result": {"roots": []}}


async def test_where_the_post_takes_no_stream_the_client_is_asked_on_a_get_stream(edge):
    async def curious(arguments, caller, exchange):
        return {"result": {"content": [], "structuredContent": await exchange.request({"method": "roots/list"})}}

    edge.root.tools["curious"] = curious
    session = await edge.session(capabilities={"roots": {}})
    async with edge.http.get(edge.url, headers=hyphens(session)) as r:
        events = edge.events(r)
        asking = asyncio.ensure_future(edge.post(edge.tool_call("curious"), **session, Accept="application/json")._coro)
        question = await edge.next(events)
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}}
        async with edge.post(answer, **session) as posted:
            assert posted.status == 202
        async with await asking as answered:
            assert (await answered.json())["result"]["structuredContent"] == {"result": {"roots": []}}


@pytest.mark.parametrize(
    ("accept", "version", "streams"),
    [
        ("text/event-stream, application/json", "2025-11-25", True),
        ("application/json;q=0.5, text/event-stream", "2025-11-25", True),
        ("text/event-stream;q=0.1, application/json", "2025-11-25", False),
        ("application/json, text/event-stream", "2025-11-25", False),
        ("text/event-stream, application/json", "2025-06-18", False),
    ],
)
async def test_a_client_that_names_the_stream_first_has_one_from_the_first_moment(edge, accept, version, streams):
    async def echo(arguments, caller, exchange):
        return edge.text("hi")

    edge.root.tools["echo"] = echo
    session = await edge.session(version)
    async with edge.post(edge.tool_call("echo"), **session, Accept=accept) as r:
        if streams:
            assert [e[0] async for e in edge.identified(r)] == ["p1.0", "p1.1"]
        else:
            assert r.headers["Content-Type"] == "application/json"
    # What the session answers itself comes in the same way.
    async with edge.post(edge.call("ping"), **session, Accept=accept) as r:
        if streams:
            (_, (event_id, answer)) = [e async for e in edge.identified(r)]
            assert (event_id, answer["result"]) == ("p2.1", {})
    events = edge.ingress._legacy.sessions._sessions[session["Mcp_Session_Id"]].events
    assert repr(events).startswith(f"EventStore({2 if streams else 0} streams")
    assert not any(stream.connection for stream in events._streams.values())
