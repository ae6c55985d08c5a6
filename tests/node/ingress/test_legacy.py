"""Sessions, GET streams, cancellation, questions to the client and batches of the earlier revisions."""

import asyncio

import pytest

from node.ingress.http import IngressSettings
from proto.errors import Unavailable

PROGRESS = {"method": "notifications/progress", "params": {"progressToken": 0, "progress": 1}}


def hyphens(session):
    return {k.replace("_", "-"): v for k, v in session.items()}


async def blocked(edge, name="slow", progress=False):
    """A tool that runs until released, and tells when it was cancelled."""

    async def slow(arguments, caller, exchange):
        if progress:
            exchange.event(PROGRESS)
        edge.root.started.set()
        try:
            await edge.root.release.wait()
        except asyncio.CancelledError:
            edge.root.cancelled.set()
            raise
        return edge.text(arguments.get("say", "done"))

    edge.root.tools[name] = slow


@pytest.mark.parametrize(
    ("asked", "negotiated"),
    [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ],
)
async def test_initialize_answers_the_asked_version_or_the_latest_with_sessions(edge, asked, negotiated):
    body = edge.call("initialize", {"protocolVersion": asked, "capabilities": {}}, "i")
    async with edge.post(body, "/time") as r:
        assert r.status == 200
        assert len(r.headers["Mcp-Session-Id"]) >= 32
        assert await r.json() == {
            "jsonrpc": "2.0",
            "id": "i",
            "result": {
                "protocolVersion": negotiated,
                "capabilities": {
                    "tools": {"listChanged": True},
                    "resources": {"listChanged": True, "subscribe": True},
                    "logging": {},
                },
                "serverInfo": {"name": "twin", "version": "1"},
                "instructions": "Speak up.",
            },
        }


async def test_initialize_without_a_version_is_refused_and_opens_nothing(edge):
    async with edge.post(edge.call("initialize", {"capabilities": {}})) as r:
        assert (await r.json())["error"]["code"] == -32602
    assert edge.ingress.stats()["sessions"] == 0


async def test_initialize_where_nothing_may_be_seen_is_404_and_tells_no_difference(edge):
    answers = []
    for path in ("/time", "/nowhere"):
        body = edge.call("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}})
        async with edge.post(body, path, Authorization="Bearer blind") as r:
            assert r.status == 404
            answers.append(await r.read())
    assert answers[0] == answers[1]
    assert edge.ingress.stats()["sessions"] == 0


async def test_a_request_without_a_session_is_400_and_with_a_strange_one_404(edge):
    for body in (edge.call("ping"), {"jsonrpc": "2.0", "method": "notifications/initialized"}, [edge.call("ping")]):
        async with edge.post(body) as r:
            assert r.status == 400
        async with edge.post(body, Mcp_Session_Id="guess") as r:
            assert r.status == 404
    async with edge.http.get(edge.url, headers={"Accept": "text/event-stream"}) as r:
        assert r.status == 400
    async with edge.http.delete(edge.url, headers={"Mcp-Session-Id": "guess"}) as r:
        assert r.status == 404


async def test_a_session_holds_only_for_its_principal_and_its_address(edge):
    session = await edge.session(Authorization="Bearer ann")
    async with edge.post(edge.call("ping"), **session) as r:
        assert r.status == 200
    for other in ({"Authorization": "Bearer bob"}, {"Authorization": None}):
        async with edge.post(edge.call("ping"), **{**session, **other}) as r:
            assert r.status == 404
    async with edge.post(edge.call("ping"), "/time", **session) as r:
        assert r.status == 404


async def test_the_version_header_may_be_absent_but_not_other_than_negotiated(edge):
    session = await edge.session("2025-06-18")
    for version, status in ((None, 200), ("2025-06-18", 200), ("2025-11-25", 400), ("junk", 400)):
        async with edge.post(edge.call("ping"), **{**session, "MCP_Protocol_Version": version}) as r:
            assert r.status == status, version


async def test_what_a_call_knows_of_its_caller_is_the_sessions_and_not_its_secret(edge):
    session = await edge.session(capabilities={"sampling": {}})
    for _ in range(2):
        async with edge.post(edge.call("tools/list"), **session) as r:
            assert (await r.json())["result"] == {"tools": []}
    first, second = (caller for _, _, caller in edge.root.seen)
    assert (first.era, first.client_capabilities) == ("2025-11-25", {"sampling": {}})
    assert first.session_key == second.session_key != session["Mcp_Session_Id"]
    other = await edge.session()
    async with edge.post(edge.call("tools/list"), **other):
        pass
    assert edge.root.seen[2][2].session_key != first.session_key


async def test_members_of_2026_are_taken_out_and_an_older_servers_own_are_left(edge):
    session = await edge.session()
    results = iter(
        [{"tools": [], "resultType": "complete", "ttlMs": 1, "cacheScope": "private"}, {"tools": [], "ttlMs": None}]
    )

    async def handle(method, params, caller, exchange):
        return {"result": next(results)}

    edge.root.handle = handle
    for expected in ({"tools": []}, {"tools": [], "ttlMs": None}):
        async with edge.post(edge.call("tools/list"), **session) as r:
            assert (await r.json())["result"] == expected


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("vendor/unheard-of", -32601),
        ("server/discover", -32601),
        ("subscriptions/listen", -32601),
        ("resources/read", -32002),
    ],
)
async def test_errors_come_with_status_200(edge, method, code):
    session = await edge.session()
    async with edge.post(edge.call(method, {"uri": "a:b"}), **session) as r:
        assert (r.status, (await r.json())["error"]["code"]) == (200, code)


async def test_a_failure_that_says_try_later_does_not_break_the_session(edge):
    async def away(arguments, caller, exchange):
        raise Unavailable("server 'time' is restarting", retry_after_s=2)

    edge.root.tools["away"] = away
    session = await edge.session()
    async with edge.post(edge.tool_call("away"), **session) as r:
        assert (r.status, r.headers["Retry-After"]) == (200, "2")


async def test_two_concurrent_posts_with_one_id_each_get_their_own_result(edge):
    session = await edge.session()
    both = asyncio.Barrier(3)

    async def say(arguments, caller, exchange):
        await both.wait()
        await edge.root.release.wait()
        return edge.text(arguments["word"])

    edge.root.tools["say"] = say

    async def one(word):
        async with edge.post(edge.tool_call("say", 1, word=word), **session) as r:
            return (await r.json())["result"]["content"][0]["text"]

    asked = [asyncio.create_task(one(word)) for word in ("first", "second")]
    await both.wait()
    edge.root.release.set()
    assert await asyncio.gather(*asked) == ["first", "second"]


async def test_a_cancelled_request_is_not_answered_and_its_post_ends(edge):
    await blocked(edge)
    session = await edge.session()
    asked = asyncio.ensure_future(edge.post(edge.tool_call("slow", "1"), **session)._coro)
    await edge.wait(edge.root.started)
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    async with edge.post(cancel, **session) as r:
        assert r.status == 202
    # 1 is another request than "1".
    assert edge.ingress._legacy.sessions.find(session["Mcp_Session_Id"], None, ("", "", "anonymous"), 0.0).busy
    cancel["params"]["requestId"] = "1"
    async with edge.post(cancel, **session) as r:
        assert r.status == 202
    await edge.wait(edge.root.cancelled)
    async with await asked as r:
        assert (r.status, r.content_type, await r.read()) == (200, "text/event-stream", b"")


async def test_a_request_cancelled_in_mid_stream_ends_the_stream_without_an_answer(edge):
    await blocked(edge, progress=True)
    session = await edge.session()
    async with edge.post(edge.tool_call("slow", 5), **session) as r:
        stream = edge.events(r)
        await edge.next(stream)
        async with edge.post(
            {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}, **session
        ) as c:
            assert c.status == 202
        assert [e async for e in stream] == []


async def test_cancelling_what_is_over_does_nothing(edge):
    session = await edge.session()
    for params in ({"requestId": 99}, {"requestId": None}, {"requestId": [1]}, {}):
        body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
        async with edge.post(body, **session) as r:
            assert r.status == 202


@pytest.mark.parametrize("progress", [False, True])
async def test_a_disconnect_is_no_cancel(edge, progress):
    finished = asyncio.Event()

    async def slow(arguments, caller, exchange):
        if progress:
            exchange.event(PROGRESS)
        edge.root.started.set()
        await edge.root.release.wait()
        exchange.event(PROGRESS)
        finished.set()
        return edge.text("done")

    edge.root.tools["slow"] = slow
    session = await edge.session()
    asked = asyncio.ensure_future(edge.post(edge.tool_call("slow"), **session)._coro)
    await edge.wait(edge.root.started)
    if progress:
        (await asked).close()
    else:
        asked.cancel()
    async with edge.post(edge.call("ping"), **session) as r:
        assert r.status == 200
    edge.root.release.set()
    await edge.wait(finished)


async def test_delete_ends_the_session_its_calls_and_its_streams(edge):
    await blocked(edge)
    session = await edge.session()
    async with edge.http.get(edge.url, headers={**hyphens(session), "Accept": "text/event-stream"}) as get:
        asked = asyncio.ensure_future(edge.post(edge.tool_call("slow"), **session)._coro)
        await edge.wait(edge.root.started)
        async with edge.http.delete(edge.url, headers=hyphens(session)) as r:
            assert r.status == 204
        assert [e async for e in edge.events(get)] == []
    await edge.wait(edge.root.cancelled)
    async with await asked as r:
        assert await r.read() == b""
    async with edge.post(edge.call("ping"), **session) as r:
        assert r.status == 404
    assert edge.ingress.stats()["sessions"] == 0


async def test_list_changes_go_to_one_stream_of_the_sessions_at_that_address(edge):
    at_time, at_root = await edge.session(path="/time"), await edge.session()
    # Told before any stream is open: kept, and once only.
    edge.endpoints.change("time", "tools")
    edge.endpoints.change("time", "tools", "prompts")
    headers = {**hyphens(at_time), "Accept": "text/event-stream"}
    async with edge.http.get(edge.url + "/time", headers=headers) as older:
        first = edge.events(older)
        assert await edge.next(first) == {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
        async with edge.http.get(edge.url + "/time", headers=headers) as newer:
            assert edge.ingress.stats()["streams"] == 2
            edge.endpoints.change("elsewhere", "tools")
            edge.endpoints.change("time", "resources")
            second = edge.events(newer)
            assert (await edge.next(second))["method"] == "notifications/resources/list_changed"
        async with edge.http.delete(edge.url + "/time", headers=headers):
            pass
        assert [e async for e in first] == []
    async with edge.http.delete(edge.url, headers=hyphens(at_root)) as r:
        assert r.status == 204


async def test_one_stream_too_many_ends_the_oldest(serve):
    async with serve(IngressSettings(session_streams_max=1)) as edge:
        session = await edge.session()
        headers = {**hyphens(session), "Accept": "text/event-stream"}
        async with edge.http.get(edge.url, headers=headers) as older, edge.http.get(edge.url, headers=headers) as newer:
            assert newer.status == 200
            assert [e async for e in edge.events(older)] == []


async def test_logs_are_sent_from_the_level_that_was_set(edge):
    async def chatty(arguments, caller, exchange):
        for level in ("info", "error"):
            exchange.event({"method": "notifications/message", "params": {"level": level, "data": 1}})
        return edge.text("done")

    edge.root.tools["chatty"] = chatty
    session = await edge.session()

    async def heard():
        async with edge.post(edge.tool_call("chatty"), **session) as r:
            return [e["params"]["level"] async for e in edge.events(r) if "method" in e]

    assert await heard() == ["info", "error"]
    async with edge.post(edge.call("logging/setLevel", {"level": "warning"}), **session) as r:
        assert (await r.json())["result"] == {}
    assert await heard() == ["error"]
    async with edge.post(edge.call("logging/setLevel", {"level": "loud"}), **session) as r:
        assert (await r.json())["error"]["code"] == -32602


async def test_a_server_may_ask_the_client_over_the_posts_stream(edge):
    async def curious(arguments, caller, exchange):
        answer = await exchange.request({"method": "elicitation/create", "params": {"message": "name?"}})
        return {"result": {"content": [], "structuredContent": answer}}

    edge.root.tools["curious"] = curious
    session = await edge.session(capabilities={"elicitation": {}})
    async with edge.post(edge.tool_call("curious", 1), **session) as r:
        stream = edge.events(r)
        question = await edge.next(stream)
        assert (question["method"], question["params"]) == ("elicitation/create", {"message": "name?"})
        # An answer to another question, and one from another session, are not it.
        reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"n": None}}}
        async with edge.post({**reply, "id": str(question["id"])}, **session) as other:
            assert other.status == 202
        async with edge.post(reply, **(await edge.session())) as other:
            assert other.status == 202
        async with edge.post(reply, **session) as taken:
            assert (taken.status, await taken.read()) == (202, b"")
        last = await edge.next(stream)
        assert (last["id"], last["result"]["structuredContent"]) == (1, {"result": reply["result"]})


@pytest.mark.parametrize(
    ("capabilities", "request_"),
    [
        ({"tasks": {"requests": {"sampling": {}}}}, {"method": "tasks/get", "params": {"taskId": "t"}}),
        ({}, {"method": "vendor/ask", "params": {"what": None}}),
    ],
)
async def test_a_client_is_asked_for_its_own_tasks_and_for_what_mcp_does_not_name(edge, capabilities, request_):
    async def curious(arguments, caller, exchange):
        return {"result": {"content": [], "structuredContent": await exchange.request(request_)}}

    edge.root.tools["curious"] = curious
    session = await edge.session(capabilities=capabilities)
    async with edge.post(edge.tool_call("curious", 1), **session) as r:
        stream = edge.events(r)
        question = await edge.next(stream)
        assert {key: question[key] for key in ("method", "params")} == request_
        error = {"code": -32601, "message": "no", "data": None}
        async with edge.post({"jsonrpc": "2.0", "id": question["id"], "error": error}, **session):
            pass
        assert (await edge.next(stream))["result"]["structuredContent"] == {"error": error}


@pytest.mark.parametrize(
    ("capabilities", "request_", "accept"),
    [
        ({}, {"method": "sampling/createMessage"}, "*/*"),
        ({"elicitation": {}}, {"method": "elicitation/create", "params": {"mode": "url"}}, "*/*"),
        ({"sampling": {}}, {"method": "tasks/get", "params": {"taskId": "t"}}, "*/*"),
        ({"roots": {}}, {"method": "roots/list"}, "application/json"),
    ],
)
async def test_a_client_is_not_asked_what_it_did_not_declare_or_cannot_hear(edge, capabilities, request_, accept):
    async def curious(arguments, caller, exchange):
        await exchange.request(request_)

    edge.root.tools["curious"] = curious
    session = await edge.session(capabilities=capabilities)
    async with edge.post(edge.tool_call("curious"), **session, Accept=accept) as r:
        assert (await r.json())["error"]["data"]["kind"] == "unavailable"


async def test_a_question_whose_call_is_cancelled_is_withdrawn(edge):
    async def curious(arguments, caller, exchange):
        await exchange.request({"method": "roots/list"})

    edge.root.tools["curious"] = curious
    session = await edge.session(capabilities={"roots": {}})
    async with edge.post(edge.tool_call("curious", 9), **session) as r:
        stream = edge.events(r)
        question = await edge.next(stream)
        async with edge.post(
            {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}}, **session
        ):
            pass
        withdrawn = await edge.next(stream)
        assert withdrawn["method"] == "notifications/cancelled"
        assert withdrawn["params"] == {"requestId": question["id"]}
        assert [e async for e in stream] == []


async def test_a_json_only_client_gets_the_answer_without_the_progress(edge):
    async def slow(arguments, caller, exchange):
        exchange.event(PROGRESS)
        return edge.text("done")

    edge.root.tools["slow"] = slow
    session = await edge.session()
    async with edge.post(edge.tool_call("slow"), **session, Accept="application/json") as r:
        assert (await r.json())["result"]["content"][0]["text"] == "done"


async def test_a_session_runs_so_many_calls_at_once_and_no_more(serve):
    async with serve(IngressSettings(session_calls_max=1)) as edge:
        await blocked(edge)
        session = await edge.session()
        asked = asyncio.ensure_future(edge.post(edge.tool_call("slow", 1), **session)._coro)
        await edge.wait(edge.root.started)
        async with edge.post(edge.tool_call("slow", 2), **session) as r:
            assert (r.status, (await r.json())["error"]["code"]) == (200, -32053)
        edge.root.release.set()
        async with await asked as r:
            assert "result" in await r.json()


async def test_a_batch_is_answered_at_2025_03_26(edge):
    async def echo(arguments, caller, exchange):
        return edge.text(arguments["word"])

    edge.root.tools["echo"] = echo
    session = await edge.session("2025-03-26")
    batch = [
        edge.tool_call("echo", 1, word="a"),
        {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}},
        edge.call("ping", request_id="p"),
        edge.tool_call("echo", 2, word="b"),
        {"jsonrpc": "2.0", "id": 1.5, "method": "ping"},
    ]
    async with edge.post(batch, **session) as r:
        assert r.status == 200
        answers = {a["id"]: a for a in await r.json()}
    assert answers["p"]["result"] == {}
    assert [answers[i]["result"]["content"][0]["text"] for i in (1, 2)] == ["a", "b"]
    assert answers[None]["error"]["code"] == -32600
    async with edge.post([{"jsonrpc": "2.0", "method": "notifications/initialized"}], **session) as r:
        assert (r.status, await r.read()) == (202, b"")


async def test_a_batch_with_progress_is_answered_on_a_stream(edge):
    async def slow(arguments, caller, exchange):
        exchange.event(PROGRESS)
        return edge.text("done")

    edge.root.tools["slow"] = slow
    session = await edge.session("2025-03-26")
    async with edge.post([edge.tool_call("slow", 1), edge.tool_call("slow", 2)], **session) as r:
        messages = [e async for e in edge.events(r)]
    assert [m["method"] for m in messages[:2]] == ["notifications/progress"] * 2
    assert sorted(answer["id"] for answer in messages[2]) == [1, 2]


@pytest.mark.parametrize(
    ("version", "batch"),
    [
        ("2025-03-26", []),
        ("2025-03-26", [{"jsonrpc": "2.0", "id": 1, "method": "ping"}] * 101),
        ("2025-03-26", [{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}]),
        ("2025-06-18", [{"jsonrpc": "2.0", "id": 1, "method": "ping"}]),
        ("2025-11-25", [{"jsonrpc": "2.0", "id": 1, "method": "ping"}]),
    ],
)
async def test_a_batch_elsewhere_or_beyond_its_rules_is_refused(edge, version, batch):
    session = await edge.session(version)
    async with edge.post(batch, **session) as r:
        assert (r.status, (await r.json())["error"]["code"]) == (400, -32600)


async def test_closing_ends_sessions_with_calls_in_flight(edge):
    await blocked(edge)
    session = await edge.session()
    asked = asyncio.ensure_future(edge.post(edge.tool_call("slow"), **session)._coro)
    await edge.wait(edge.root.started)
    await edge.ingress.close()
    assert edge.root.cancelled.is_set()
    async with await asked as r:
        assert await r.read() == b""
    assert edge.ingress.stats()["sessions"] == 0


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"result": {1, 2}},
        None,
        {"id": 666, "jsonrpc": "1.0", "result": {}},
        {"error": {"code": 1, "message": "own"}},
    ],
)
async def test_an_answer_that_is_none_is_our_fault_and_nothing_but_it_is_passed_on(edge, answer):
    async def handle(method, params, caller, exchange):
        return answer

    edge.root.handle = handle
    session = await edge.session()
    async with edge.post(edge.call("vendor/x"), **session) as r, edge.modern("vendor/x") as m:
        for told in (await r.json(), await m.json()):
            assert (told["jsonrpc"], told["id"]) == ("2.0", 1)
            if answer and "error" in answer:
                assert told["error"] == answer["error"]
            elif answer and answer.get("result") == {}:
                assert told["result"] in ({}, {"resultType": "complete"})
            else:
                assert told["error"]["data"]["kind"] in ("fault", "invalid")


async def test_questions_that_were_answered_do_not_count_against_the_bound(serve):
    async with serve(IngressSettings(session_calls_max=1)) as edge:

        async def curious(arguments, caller, exchange):
            answers = [await exchange.request({"method": "ping"}) for _ in range(3)]
            return {"result": {"content": [], "structuredContent": answers}}

        edge.root.tools["curious"] = curious
        session = await edge.session()
        async with edge.post(edge.tool_call("curious"), **session) as r:
            stream = edge.events(r)
            for _ in range(3):
                question = await edge.next(stream)
                async with edge.post({"jsonrpc": "2.0", "id": question["id"], "result": {}}, **session) as taken:
                    assert taken.status == 202
            assert (await edge.next(stream))["result"]["structuredContent"] == [{"result": {}}] * 3


async def test_one_session_too_many_is_503_while_none_is_idle(serve):
    async with serve(IngressSettings(sessions_max=1)) as edge:
        session = await edge.session()
        headers = {**hyphens(session), "Accept": "text/event-stream"}
        body = edge.call("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}})
        async with edge.http.get(edge.url, headers=headers) as stream, edge.post(body) as r:
            assert stream.status == 200
            assert (r.status, (await r.json())["error"]["data"]["kind"]) == (503, "unavailable")
            assert "Mcp-Session-Id" not in r.headers
