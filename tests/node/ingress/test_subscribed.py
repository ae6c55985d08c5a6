"""What a legacy session hears out of its calls: resources it subscribed to, logs, questions; and what it tells."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from node.ingress import subscribed
from node.ingress.http import IngressSettings
from proto.errors import Unavailable, Unknown
from tests.node.ingress.talking import dialled

UPDATED = "notifications/resources/updated"
LEVEL = "io.modelcontextprotocol/logLevel"


@asynccontextmanager
async def heard(edge, session):
    """The messages of a GET stream."""
    headers = {**{k.replace("_", "-"): v for k, v in session.items()}, "Accept": "text/event-stream"}
    async with edge.http.get(edge.url, headers=headers) as r:
        assert r.status == 200
        yield edge.events(r)


async def asked(edge, session, method, params=None):
    async with edge.post(edge.call(method, params), **session) as r:
        return await r.json()


def updated(uri):
    return {"method": UPDATED, "params": {"uri": uri}}


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_a_subscribed_resource_is_told_of_until_it_is_unsubscribed(edge, version):
    session = await edge.session(version)
    async with heard(edge, session) as events:
        assert (await asked(edge, session, "resources/subscribe", {"uri": "a:b"}))["result"] == {}
        params, caller = edge.root.listened[0]
        assert params == {"notifications": {"resourceSubscriptions": ["a:b"]}}
        assert caller.era == version
        edge.root.tell(updated("a:b"))
        assert await edge.next(events) == {"jsonrpc": "2.0", **updated("a:b")}
        assert (await asked(edge, session, "resources/unsubscribe", {"uri": "a:b"}))["result"] == {}
        await edge.root.until(lambda: not edge.root.listening)
    # Once more changes nothing.
    assert (await asked(edge, session, "resources/unsubscribe", {"uri": "a:b"}))["result"] == {}


async def test_subscribing_twice_is_one_subscription(edge):
    session = await edge.session()
    for _ in range(2):
        assert (await asked(edge, session, "resources/subscribe", {"uri": "a:b"}))["result"] == {}
    assert len(edge.root.listening) == 1


async def test_who_gives_up_a_subscription_takes_it_from_nobody_who_asked_for_the_same(edge):
    answers, served = asyncio.Event(), edge.root.listen

    async def slowly(params, caller, exchange):
        await answers.wait()
        return await served(params, caller, exchange)

    edge.root.listen = slowly
    async with dialled(edge) as agent:
        await agent.initialize()
        for request_id in (1, 2):
            await agent.say(edge.call("resources/subscribe", {"uri": "a:b"}, request_id))
        # Its answer comes once all before it has begun.
        assert (await agent.ask("ping", request_id=3))["id"] == 3
        await agent.cancel(1)
        assert (await agent.ask("ping", request_id=4))["id"] == 4
        answers.set()
        assert await agent.hear() == {"jsonrpc": "2.0", "id": 2, "result": {}}
        assert len(edge.root.listening) == 1


async def test_an_update_waits_for_a_stream_and_waits_once(edge):
    session = await edge.session()
    for uri in ("a:b", "c:d"):
        await asked(edge, session, "resources/subscribe", {"uri": uri})
    first, second = edge.root.listening
    for _ in range(3):
        first.event(updated("a:b"))
    second.event(updated("c:d"))
    async with heard(edge, session) as events:
        assert [(await edge.next(events))["params"]["uri"] for _ in range(2)] == ["a:b", "c:d"]
        first.event(updated("a:b"))
        assert (await edge.next(events))["params"]["uri"] == "a:b"


async def test_one_resource_too_many_is_refused_by_name(serve):
    async with serve(IngressSettings(session_subscriptions_max=1)) as edge:
        session = await edge.session()
        await asked(edge, session, "resources/subscribe", {"uri": "a:b"})
        error = (await asked(edge, session, "resources/subscribe", {"uri": "c:d"}))["error"]
        assert "unsubscribe from one first" in error["message"]
        await asked(edge, session, "resources/unsubscribe", {"uri": "a:b"})
        assert "result" in await asked(edge, session, "resources/subscribe", {"uri": "c:d"})


async def test_what_the_server_says_to_a_subscription_is_what_the_client_is_told(edge):
    async def refuses(params, caller, exchange):
        return {"error": {"code": -32002, "message": "no such resource", "data": {"uri": "a:b"}}}

    async def ignores(params, caller, exchange):
        exchange.event({"method": "notifications/subscriptions/acknowledged", "params": {"notifications": {}}})
        await asyncio.Event().wait()

    async def unknown(params, caller, exchange):
        raise Unknown("no subscriptions here", method="resources/subscribe")

    async def broken(params, caller, exchange):
        raise KeyError("a bug of ours")

    session = await edge.session()
    for listen, code in ((refuses, -32002), (ignores, -32601), (unknown, -32601), (broken, -32603)):
        edge.root.listen = listen
        answer = await asked(edge, session, "resources/subscribe", {"uri": "a:b"})
        assert answer["error"]["code"] == code, listen
    for params in ({}, {"uri": 7}):
        error = (await asked(edge, session, "resources/subscribe", params))["error"]
        assert (error["code"], error["message"][:28]) == (-32602, "params.uri must be a string,")


async def test_a_subscription_that_its_server_ends_is_taken_up_again_and_the_resource_said_to_have_changed(
    edge, monkeypatch
):
    monkeypatch.setattr(subscribed, "RETRY_S", 0.01)
    session = await edge.session()
    async with heard(edge, session) as events:
        await asked(edge, session, "resources/subscribe", {"uri": "a:b"})
        served, edge.root.listen = edge.root.listen, failing(2, edge.root.listen)
        edge.root.release.set()
        assert (await edge.next(events))["params"] == {"uri": "a:b"}
        edge.root.release.clear()
        await edge.root.until(lambda: edge.root.listening)
        edge.root.listen = served
        edge.root.tell(updated("a:b"))
        assert (await edge.next(events))["params"] == {"uri": "a:b"}


def failing(times, then):
    """A listen that finds nobody so many times."""
    left = iter(range(times))

    async def listen(params, caller, exchange):
        if next(left, None) is not None:
            raise Unavailable("the owner is restarting")
        return await then(params, caller, exchange)

    return listen


async def test_the_end_of_a_session_ends_what_it_hears(edge):
    session = await edge.session()
    await asked(edge, session, "resources/subscribe", {"uri": "a:b"})
    await asked(edge, session, "logging/setLevel", {"level": "info"})
    await edge.root.until(lambda: len(edge.root.listening) == 2)
    async with edge.http.delete(edge.url, headers={"Mcp-Session-Id": session["Mcp_Session_Id"]}) as r:
        assert r.status == 204
    await edge.root.until(lambda: not edge.root.listening)


async def test_logs_out_of_a_call_come_from_the_level_that_was_set(edge):
    session = await edge.session()
    async with heard(edge, session) as events:
        await asked(edge, session, "logging/setLevel", {"level": "warning"})
        await edge.root.until(lambda: edge.root.listening)
        assert edge.root.listened[-1][0] == {"notifications": {}, "_meta": {LEVEL: "warning"}}
        for level in ("info", "error"):
            edge.root.tell({"method": "notifications/message", "params": {"level": level, "data": 1}})
        assert (await edge.next(events))["params"]["level"] == "error"
        await asked(edge, session, "logging/setLevel", {"level": "debug"})
        await edge.root.until(lambda: len(edge.root.listened) == 2 and len(edge.root.listening) == 1)
        edge.root.tell({"method": "notifications/message", "params": {"level": "info", "data": 2}})
        assert (await edge.next(events))["params"] == {"level": "info", "data": 2}


async def test_the_level_goes_along_with_calls_and_not_with_lists(edge):
    session = await edge.session()
    params = {"name": "x", "_meta": {"mine": 1}}
    await asked(edge, session, "vendor/echo", params)
    await asked(edge, session, "logging/setLevel", {"level": "error"})
    assert (await asked(edge, session, "vendor/echo", params))["result"]["params"] == {
        "name": "x",
        "_meta": {"mine": 1, LEVEL: "error"},
    }
    await asked(edge, session, "tools/list", {})
    assert [p for _, p, _ in edge.root.seen] == [params, {"name": "x", "_meta": {"mine": 1, LEVEL: "error"}}, {}]


async def test_an_unknown_level_is_refused_with_the_names_of_all(edge):
    session = await edge.session()
    error = (await asked(edge, session, "logging/setLevel", {"level": "loud"}))["error"]
    assert error["code"] == -32602
    assert "debug, info, notice, warning, error, critical, alert, emergency" in error["message"]
    assert not edge.root.listened


async def test_where_a_server_does_not_log_nothing_listens_for_it(edge):
    edge.root.capabilities = {"tools": {}}
    session = await edge.session()
    assert (await asked(edge, session, "logging/setLevel", {"level": "info"}))["result"] == {}
    await asked(edge, session, "ping")
    assert not edge.root.listened


async def test_a_server_may_ask_out_of_a_call_on_a_get_stream_and_is_told_where_none_is_open(edge):
    session = await edge.session(capabilities={"roots": {}})
    await asked(edge, session, "logging/setLevel", {"level": "info"})
    await edge.root.until(lambda: edge.root.listening)
    (exchange,) = edge.root.listening
    with pytest.raises(Unavailable, match="it has no stream open"):
        await exchange.request({"method": "roots/list"})
    with pytest.raises(Unavailable, match="did not declare"):
        await exchange.request({"method": "sampling/createMessage", "params": {}})
    async with heard(edge, session) as events:
        asking = asyncio.create_task(exchange.request({"method": "roots/list"}))
        question = await edge.next(events)
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}}
        async with edge.post(answer, **session) as r:
            assert r.status == 202
        assert await asking == {"result": {"roots": []}}


async def test_a_clients_notifications_reach_the_endpoint_but_those_of_its_connection(edge):
    session = await edge.session()
    for method in (
        "notifications/roots/list_changed",
        "notifications/progress",
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/vendor/waved",
        "waved",
    ):
        async with edge.post({"jsonrpc": "2.0", "method": method, "params": {"a": 1}}, **session) as r:
            assert r.status == 202
    await edge.root.until(lambda: len(edge.root.notified) == 2)
    assert [(method, params) for method, params, _ in edge.root.notified] == [
        ("notifications/roots/list_changed", {"a": 1}),
        ("notifications/vendor/waved", {"a": 1}),
    ]


async def test_a_notification_that_reaches_nobody_breaks_nothing(edge):
    async def nobody(method, params, caller):
        raise Unavailable("gone")

    edge.root.notify = nobody
    session = await edge.session()
    async with edge.post({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}, **session) as r:
        assert r.status == 202
    assert (await asked(edge, session, "ping"))["result"] == {}
