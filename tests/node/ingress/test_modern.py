"""2026-07-28: the order of checks, lazy streams, subscriptions, and the disconnect that cancels."""

import asyncio
import base64

import pytest
from multidict import CIMultiDict

from node.ingress.http import IngressSettings
from proto.errors import Exhausted, Forbidden, Invalid

META = "io.modelcontextprotocol/"
PAIR = {f"{META}protocolVersion": "2026-07-28", f"{META}clientCapabilities": {}}


async def test_a_call_is_answered_as_plain_json_with_what_the_era_demands(edge):
    async def echo(arguments, caller, exchange):
        return edge.text("hi", structuredContent=arguments)

    edge.root.tools["echo"] = echo
    async with edge.modern("tools/call", {"name": "echo", "arguments": {"a": 1}}, "x") as r:
        assert (r.status, r.content_type) == (200, "application/json")
        assert "Mcp-Session-Id" not in r.headers
        assert await r.json() == {
            "jsonrpc": "2.0",
            "id": "x",
            "result": {
                "content": [{"type": "text", "text": "hi"}],
                "structuredContent": {"a": 1},
                "resultType": "complete",
            },
        }


async def test_unknown_fields_nulls_and_content_types_pass_both_ways_unchanged(edge):
    strange = {
        "content": [{"type": "hologram", "shape": {"deep": [None, {"x": None}]}, "annotations": None}],
        "vendor": {"kept": None},
        "_meta": {"vendor/x": 1},
        "resultType": "vendor/odd",
        "isError": True,
    }

    async def odd(arguments, caller, exchange):
        return {"result": strange}

    edge.root.tools["odd"] = odd
    async with edge.modern("tools/call", {"name": "odd", "vendorParam": None}) as r:
        assert (await r.json())["result"] == strange
    assert edge.root.seen[0][1]["vendorParam"] is None


async def test_discover_tells_versions_capabilities_and_who_this_is(edge):
    async with edge.modern("server/discover", path="/time") as r:
        assert (await r.json())["result"] == {
            "supportedVersions": ["2026-07-28"],
            "capabilities": {
                "tools": {"listChanged": True},
                "resources": {"listChanged": True, "subscribe": True},
                "logging": {},
            },
            "_meta": {f"{META}serverInfo": {"name": "twin", "version": "1"}},
            "instructions": "Speak up.",
            "resultType": "complete",
            "ttlMs": 5_000,
            "cacheScope": "private",
        }


async def test_lists_get_freshness_hints_unless_they_bring_their_own(edge):
    kept = edge.root.listed
    async with edge.modern("tools/list") as r:
        assert (await r.json())["result"] == {
            "tools": [],
            "resultType": "complete",
            "ttlMs": 5_000,
            "cacheScope": "private",
        }
    assert kept == []

    async def handle(method, params, caller, exchange):
        return {"result": {"contents": [], "ttlMs": 0, "cacheScope": "public", "resultType": "complete"}}

    edge.root.handle = handle
    async with edge.modern("resources/read", {"uri": "a:b"}) as r:
        result = (await r.json())["result"]
        assert (result["ttlMs"], result["cacheScope"]) == (0, "public")


async def test_a_result_that_asks_for_input_is_not_marked_cacheable(edge):
    async def handle(method, params, caller, exchange):
        return {"result": {"resultType": "input_required", "inputRequests": {}}}

    edge.root.handle = handle
    async with edge.modern("resources/read", {"uri": "a:b"}) as r:
        assert (await r.json())["result"] == {"resultType": "input_required", "inputRequests": {}}


async def test_the_answer_given_to_the_ingress_is_left_as_it_was(edge):
    answer = {"result": {"tools": []}}

    async def handle(method, params, caller, exchange):
        return answer

    edge.root.handle = handle
    async with edge.modern("tools/list"):
        pass
    assert answer == {"result": {"tools": []}}


def body(**params):
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", **params}}


GOOD = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/call", "Mcp_Name": "t"}
OLD = {**PAIR, f"{META}protocolVersion": "2025-11-25"}
FUTURE = {**PAIR, f"{META}protocolVersion": "2031-01-01"}


@pytest.mark.parametrize(
    ("params", "headers", "status", "code"),
    [
        # The pair is looked at first, though the headers are wrong as well.
        ({}, {**GOOD, "Mcp_Method": "tools/list"}, 400, -32602),
        ({"_meta": {f"{META}protocolVersion": "2026-07-28"}}, GOOD, 400, -32602),
        ({"_meta": {f"{META}clientCapabilities": {}}}, GOOD, 400, -32602),
        ({"_meta": {**PAIR, f"{META}clientCapabilities": 7}}, GOOD, 400, -32602),
        ({"_meta": PAIR}, {**GOOD, "MCP_Protocol_Version": None}, 400, -32020),
        ({"_meta": PAIR}, {**GOOD, "Mcp_Method": None}, 400, -32020),
        ({"_meta": PAIR}, {**GOOD, "Mcp_Method": "tools/list"}, 400, -32020),
        ({"_meta": PAIR}, {**GOOD, "Mcp_Name": None}, 400, -32020),
        ({"_meta": PAIR}, {**GOOD, "Mcp_Name": "other"}, 400, -32020),
        ({"_meta": OLD}, GOOD, 400, -32020),
        # A mismatch is told before an unsupported version is.
        ({"_meta": FUTURE}, GOOD, 400, -32020),
        ({"_meta": FUTURE}, {**GOOD, "MCP_Protocol_Version": "2031-01-01"}, 400, -32022),
    ],
)
async def test_the_checks_come_in_the_order_of_the_specification(edge, params, headers, status, code):
    async with edge.post(body(**params), **headers) as r:
        answer = await r.json()
        assert (r.status, answer["error"]["code"], answer["id"]) == (status, code, 1)
    assert edge.root.seen == []
    if code == -32022:
        assert answer["error"]["data"] == {"supported": ["2026-07-28"], "requested": "2031-01-01"}


async def test_a_doubled_routing_header_is_refused(edge):
    lines = [
        ("Content-Type", "application/json"),
        ("Accept", "*/*"),
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "t"),
        ("Mcp-Name", "t"),
    ]
    async with edge.http.post(edge.url, json=body(_meta=PAIR), headers=CIMultiDict(lines)) as r:
        assert r.status == 400
        assert (await r.json())["error"]["code"] == -32020


async def test_encoded_names_are_decoded_and_trailing_blanks_are_not_part_of_a_header(edge):
    async def ok(arguments, caller, exchange):
        return edge.text("ok")

    name = "größe \N{SNOWMAN}"
    edge.root.tools[name] = edge.root.tools["t"] = ok
    encoded = f"=?base64?{base64.b64encode(name.encode()).decode()}?="
    async with edge.modern("tools/call", {"name": name}, Mcp_Name=encoded) as r:
        assert r.status == 200
    async with edge.modern("tools/call", {"name": "t"}, Mcp_Name="t  ", Mcp_Method="tools/call\t") as r:
        assert r.status == 200


async def test_task_methods_must_name_their_task_in_the_header_if_they_send_one(edge):
    async with edge.modern("tasks/get", {"taskId": "a"}, Mcp_Name="b") as r:
        assert (await r.json())["error"]["code"] == -32020
    async with edge.modern("tasks/get", {"taskId": "a"}, Mcp_Name="a") as r:
        assert (await r.json())["error"]["code"] == -32601


async def test_parameter_headers_are_held_against_the_schema(edge):
    async def ok(arguments, caller, exchange):
        return edge.text("ok")

    edge.root.tools["t"] = ok
    edge.root.schemas["t"] = {
        "type": "object",
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "n": {"type": "integer", "x-mcp-header": "N"},
        },
    }
    right = {"name": "t", "arguments": {"region": "eu", "n": 42}}
    async with edge.modern("tools/call", right, Mcp_Param_Region="eu", Mcp_Param_N="42.0") as r:
        assert r.status == 200
    for headers in ({"Mcp_Param_Region": "us", "Mcp_Param_N": "42"}, {"Mcp_Param_N": "42"}, {}):
        async with edge.modern("tools/call", right, **headers) as r:
            assert (r.status, (await r.json())["error"]["code"]) == (400, -32020)
    async with edge.modern("tools/call", {"name": "t"}, Mcp_Param_Region="eu") as r:
        assert r.status == 400


@pytest.mark.parametrize(
    "method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "vendor/unheard-of"]
)
async def test_methods_that_do_not_exist_are_404(edge, method):
    async with edge.modern(method) as r:
        assert r.status == 404
        error = (await r.json())["error"]
        assert error["code"] == -32601
        assert method in error["message"]


async def test_notifications_are_acknowledged_and_posted_responses_refused(edge):
    async with edge.post(
        {"jsonrpc": "2.0", "method": "notifications/cancelled"}, MCP_Protocol_Version="2026-07-28"
    ) as r:
        assert (r.status, await r.read()) == (202, b"")
    async with edge.post({"jsonrpc": "2.0", "id": 1, "result": {}}, MCP_Protocol_Version="2026-07-28") as r:
        assert (r.status, (await r.json())["error"]["code"]) == (400, -32600)


async def test_a_batch_is_refused(edge):
    async with edge.post([edge.call("tools/list")], MCP_Protocol_Version="2026-07-28") as r:
        assert (r.status, (await r.json())["error"]["code"]) == (400, -32600)


async def test_a_session_id_is_ignored(edge):
    async with edge.modern("tools/list", Mcp_Session_Id="anything", Last_Event_ID="7") as r:
        assert r.status == 200
    caller = edge.root.seen[0][2]
    assert (caller.era, caller.principal.subject) == ("2026-07-28", "anonymous")


async def test_calls_of_one_principal_share_a_key_and_those_of_two_do_not(edge):
    for token in ("ann", "ann", "bob"):
        async with edge.modern("tools/list", Authorization=f"Bearer {token}"):
            pass
    keys = [caller.session_key for _, _, caller in edge.root.seen]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(("code", "shown", "status"), [(-32002, -32602, 400), (-32601, -32601, 404), (-1, -1, 200)])
async def test_a_servers_own_error_passes_but_for_codes_that_the_era_dropped(edge, code, shown, status):
    async def handle(method, params, caller, exchange):
        return {"error": {"code": code, "message": "no", "data": {"uri": None}, "vendor": 1}}

    edge.root.handle = handle
    async with edge.modern("resources/read", {"uri": "x:y"}) as r:
        assert r.status == status
        assert (await r.json())["error"] == {"code": shown, "message": "no", "data": {"uri": None}, "vendor": 1}


async def test_the_elicitation_code_of_2025_11_25_is_never_shown(edge):
    async def handle(method, params, caller, exchange):
        return {"error": {"code": -32042, "message": "go to a page"}}

    edge.root.handle = handle
    async with edge.modern("tools/list") as r:
        assert (await r.json())["error"]["code"] == -32054


async def test_progress_turns_the_answer_into_a_stream(edge):
    async def slow(arguments, caller, exchange):
        exchange.event({"method": "notifications/progress", "params": {"progressToken": 0, "progress": 1}})
        await edge.root.release.wait()
        return edge.text("done")

    edge.root.tools["slow"] = slow
    async with edge.modern("tools/call", {"name": "slow"}, 7) as r:
        stream = edge.events(r)
        first = await edge.next(stream)
        assert first == {
            "jsonrpc": "2.0",
            "method": "notifications/progress",
            "params": {"progressToken": 0, "progress": 1},
        }
        edge.root.release.set()
        last = await edge.next(stream)
        assert (last["id"], last["result"]["resultType"]) == (7, "complete")
        assert [e async for e in stream] == []


async def test_an_error_after_an_event_ends_the_stream(edge):
    async def fails(arguments, caller, exchange):
        exchange.event({"method": "notifications/progress", "params": {"progressToken": 0, "progress": 1}})
        raise Invalid("arguments.a must be positive")

    edge.root.tools["fails"] = fails
    async with edge.modern("tools/call", {"name": "fails"}) as r:
        messages = [e async for e in edge.events(r)]
    assert [m.get("method") for m in messages] == ["notifications/progress", None]
    assert messages[1]["error"] == {
        "code": -32602,
        "message": "arguments.a must be positive",
        "data": {"kind": "invalid"},
    }


async def test_an_answer_that_takes_long_is_promoted_and_kept_alive(serve):
    async with serve(IngressSettings(promote_after_s=0.0, ping_s=0.01)) as edge:

        async def slow(arguments, caller, exchange):
            await edge.root.release.wait()
            return edge.text("done")

        edge.root.tools["slow"] = slow
        async with edge.modern("tools/call", {"name": "slow"}) as r:
            assert r.headers["Content-Type"] == "text/event-stream"
            for _ in range(2):
                assert await r.content.readline() == b": ping\n"
                assert await r.content.readline() == b"\n"
            edge.root.release.set()
            messages = [e async for e in edge.events(r)]
        assert [m["id"] for m in messages] == [1]


async def test_log_messages_are_sent_only_if_asked_for_and_loud_enough(edge):
    async def chatty(arguments, caller, exchange):
        for level in ("debug", "warning", "emergency"):
            exchange.event({"method": "notifications/message", "params": {"level": level, "data": 1}})
        return edge.text("done")

    edge.root.tools["chatty"] = chatty
    for meta in ({}, {f"{META}logLevel": "loud"}):
        async with edge.modern("tools/call", {"name": "chatty"}, meta=meta) as r:
            assert (await r.json())["result"]["content"][0]["text"] == "done"
    async with edge.modern("tools/call", {"name": "chatty"}, meta={f"{META}logLevel": "warning"}) as r:
        levels = [e["params"]["level"] async for e in edge.events(r) if "method" in e]
    assert levels == ["warning", "emergency"]


async def test_list_changes_do_not_ride_on_a_calls_stream(edge):
    async def noisy(arguments, caller, exchange):
        exchange.event({"method": "notifications/tools/list_changed"})
        return edge.text("done")

    edge.root.tools["noisy"] = noisy
    async with edge.modern("tools/call", {"name": "noisy"}) as r:
        assert "result" in await r.json()


async def test_a_server_that_asks_the_client_is_told_that_it_cannot(edge):
    async def curious(arguments, caller, exchange):
        await exchange.request({"method": "roots/list"})

    edge.root.tools["curious"] = curious
    async with edge.modern("tools/call", {"name": "curious"}, capabilities={"roots": {}}) as r:
        assert r.status == 503
        assert (await r.json())["error"]["data"]["kind"] == "unavailable"
    assert edge.root.seen[0][2].client_capabilities == {"roots": {}}


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_disconnect_cancels_the_call(edge, streaming):
    async def endless(arguments, caller, exchange):
        if streaming:
            exchange.event({"method": "notifications/progress", "params": {"progressToken": 0, "progress": 1}})
        edge.root.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            edge.root.cancelled.set()

    edge.root.tools["endless"] = endless
    posting = asyncio.ensure_future(edge.modern("tools/call", {"name": "endless"})._coro)
    await edge.wait(edge.root.started)
    writers = []
    if streaming:
        response = await posting
        writers = [task for task in asyncio.all_tasks() if "EventStream.run" in repr(task)]
        response.close()
    else:
        posting.cancel()
    await edge.wait(edge.root.cancelled)
    assert edge.ingress.stats()["modern_requests"] == 1
    # The stream's writer does not stay behind until its next keep-alive either.
    await asyncio.wait((*writers, asyncio.ensure_future(asyncio.sleep(0))), timeout=5)
    assert [w.cancelled() for w in writers] == [True] * streaming


async def test_a_subscription_is_acknowledged_first_and_then_told_what_it_asked_for(edge):
    asked = {"notifications": {"toolsListChanged": True, "promptsListChanged": True, "resourceSubscriptions": ["a:b"]}}
    async with edge.modern("subscriptions/listen", asked, "L", "/time") as r:
        stream = edge.events(r)
        meta = {f"{META}subscriptionId": "L"}
        assert await edge.next(stream) == {
            "jsonrpc": "2.0",
            "method": "notifications/subscriptions/acknowledged",
            # The twin has no prompts.
            "params": {"_meta": meta, "notifications": {"toolsListChanged": True, "resourceSubscriptions": ["a:b"]}},
        }
        edge.endpoints.change("elsewhere", "tools")
        edge.endpoints.change("time", "resources")
        edge.endpoints.change("time", "tools")
        assert await edge.next(stream) == {
            "jsonrpc": "2.0",
            "method": "notifications/tools/list_changed",
            "params": {"_meta": meta},
        }
        assert edge.ingress.stats()["streams"] == 1
        await edge.ingress.close()
        last = await edge.next(stream)
        assert last == {"jsonrpc": "2.0", "id": "L", "result": {"resultType": "complete", "_meta": meta}}
        assert [e async for e in stream] == []
    assert edge.ingress.stats()["streams"] == 0


async def test_the_root_tells_of_every_server_if_it_promises_to(edge):
    edge.root.capabilities = {"tools": {"listChanged": True}, "prompts": {"listChanged": False}}
    asked = {"notifications": {"toolsListChanged": True, "promptsListChanged": True}}
    async with edge.modern("subscriptions/listen", asked) as r:
        stream = edge.events(r)
        assert (await edge.next(stream))["params"]["notifications"] == {"toolsListChanged": True}
        edge.endpoints.change("anything", "tools", "prompts")
        assert (await edge.next(stream))["method"] == "notifications/tools/list_changed"


async def test_a_subscription_is_refused_where_it_makes_no_sense(serve):
    async with serve(IngressSettings(listens_max=1)) as edge:
        async with edge.modern("subscriptions/listen") as r:
            assert (r.status, (await r.json())["error"]["code"]) == (400, -32602)
        async with edge.modern("subscriptions/listen", {"notifications": {}}, path="/nowhere") as r:
            assert (r.status, (await r.json())["error"]["data"]) == (400, {"kind": "unknown"})
        async with edge.modern("subscriptions/listen", {"notifications": {}}) as first:
            await edge.next(edge.events(first))
            async with edge.modern("subscriptions/listen", {"notifications": {}}) as r:
                assert (r.status, (await r.json())["error"]["code"]) == (429, -32053)


@pytest.mark.parametrize("method", ["server/discover", "tools/list", "tools/call"])
async def test_an_address_that_may_not_be_seen_looks_like_one_that_is_not(edge, method):
    async def hidden(method, params, caller, exchange):
        raise Forbidden("policy 7 hides this from 'blind'", rule="7")

    params = {"name": "x"} if method == "tools/call" else None
    if method != "server/discover":
        edge.time.handle = hidden
    answers = []
    for path in ("/time", "/nowhere"):
        async with edge.modern(method, params, path=path, Authorization="Bearer blind") as r:
            answers.append((r.status, await r.read(), r.headers["Content-Type"]))
            assert r.status == 400
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("method", "members", "named"),
    [
        ("tools/call", {"name": "t", "inputResponses": []}, "inputResponses is an array"),
        ("prompts/get", {"name": "t", "requestState": {}}, "requestState is an object"),
        ("resources/read", {"uri": "a:b", "requestState": 7}, "requestState is"),
    ],
)
async def test_members_of_a_further_round_must_be_of_their_type(edge, method, members, named):
    async with edge.modern(method, members) as r:
        error = (await r.json())["error"]
        assert (r.status, error["code"]) == (400, -32602)
        assert named in error["message"]
    assert edge.root.seen == []


async def test_a_further_round_and_what_it_leads_to_pass_as_they_are(edge):
    further = {"resultType": "input_required", "inputRequests": {"a": {"method": "roots/list"}}, "requestState": "s2"}

    async def handle(method, params, caller, exchange):
        edge.root.seen.append((method, params, caller))
        return {"result": further}

    edge.root.handle = handle
    sent = {"name": "t", "inputResponses": {"a": {"roots": []}}, "requestState": "s1"}
    async with edge.modern("tools/call", sent) as r:
        assert (await r.json())["result"] == further
    assert {key: edge.root.seen[0][1][key] for key in sent} == sent


async def test_members_of_a_further_round_mean_nothing_to_other_methods(edge):
    async with edge.modern("vendor/echo", {"inputResponses": 1, "requestState": [2]}) as r:
        assert (await r.json())["result"]["params"]["requestState"] == [2]


async def test_a_name_that_the_body_never_carried_is_a_mismatch(edge):
    async with edge.modern("tools/call", {}, Mcp_Name="t") as r:
        assert (r.status, (await r.json())["error"]["code"]) == (400, -32020)


async def test_what_a_server_tells_a_listener_is_tagged_and_otherwise_as_it_was(edge):
    asked = {"resourceSubscriptions": ["a:b"], "taskIds": ["t1"], "promptsListChanged": False}
    async with edge.modern("subscriptions/listen", {"notifications": asked}, 9, "/time") as r:
        stream = edge.events(r)
        assert (await edge.next(stream))["params"]["notifications"] == {"resourceSubscriptions": ["a:b"]}
        edge.time.tell({"method": "notifications/tools/list_changed"})
        edge.time.tell({"method": "notifications/message", "params": {"level": "error", "data": 1}})
        edge.time.tell(
            {
                "method": "notifications/resources/updated",
                "params": {"uri": "a:b", "vendor": None, "_meta": {"vendor/x": 1, f"{META}subscriptionId": "theirs"}},
            }
        )
        assert await edge.next(stream) == {
            "jsonrpc": "2.0",
            "method": "notifications/resources/updated",
            "params": {"uri": "a:b", "vendor": None, "_meta": {"vendor/x": 1, f"{META}subscriptionId": 9}},
        }
        # What MCP does not know is for the server to honour or not; what is not asked for is not.
        assert edge.time.listened[0][0] == {"notifications": {"resourceSubscriptions": ["a:b"], "taskIds": ["t1"]}}
        edge.time.release.set()
        assert (await edge.next(stream))["result"]["resultType"] == "complete"
        assert [e async for e in stream] == []


async def test_a_listener_that_leaves_is_no_longer_listened_for(edge):
    async with edge.modern("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["a:b"]}}) as r:
        await edge.next(edge.events(r))
        assert (len(edge.root.listening), edge.ingress.stats()["streams"]) == (1, 1)
    await edge.wait(edge.root.cancelled)
    assert edge.root.listening == []


async def test_a_listen_that_the_server_refuses_is_refused_before_anything_is_streamed(edge):
    async def listen(params, caller, exchange):
        raise Exhausted("two listens are enough")

    edge.root.listen = listen
    async with edge.modern("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["a:b"]}}) as r:
        assert (r.status, r.content_type) == (429, "application/json")
        assert (await r.json())["error"]["message"] == "two listens are enough"
    assert edge.ingress.stats()["streams"] == 0


async def test_a_change_before_the_acknowledgement_comes_after_it(edge):
    async def listen(params, caller, exchange):
        edge.endpoints.change("time", "tools", "tools")
        edge.endpoints.change("time", "tools")
        exchange.event({"method": "notifications/subscriptions/acknowledged", "params": {"notifications": {}}})
        await asyncio.Event().wait()

    edge.time.listen = listen
    asked = {"notifications": {"toolsListChanged": True, "resourceSubscriptions": ["a:b"]}}
    async with edge.modern("subscriptions/listen", asked, path="/time") as r:
        stream = edge.events(r)
        assert (await edge.next(stream))["params"]["notifications"] == {"toolsListChanged": True}
        assert (await edge.next(stream))["method"] == "notifications/tools/list_changed"
        edge.endpoints.change("time", "resources")
        edge.endpoints.change("time", "tools")
        assert (await edge.next(stream))["method"] == "notifications/tools/list_changed"


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ([], "params.notifications is an array"),
        ({"toolsListChanged": "yes"}, "toolsListChanged is a string"),
        ({"resourceSubscriptions": "a:b"}, "resourceSubscriptions must be an array of URIs"),
        ({"resourceSubscriptions": [1]}, "resourceSubscriptions must be an array of URIs"),
        ({"resourceSubscriptions": ["a:b"] * 1_001}, "names 1001 URIs"),
    ],
)
async def test_a_filter_that_is_malformed_is_refused_by_name(edge, asked, named):
    async with edge.modern("subscriptions/listen", {"notifications": asked}) as r:
        error = (await r.json())["error"]
        assert (r.status, error["code"]) == (400, -32602)
        assert named in error["message"]
