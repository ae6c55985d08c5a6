"""Subscriptions, log levels and clients' notifications, towards servers of both eras."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from node.upstreams import listening as listening_module
from proto.errors import Exhausted, Expired, Invalid, OutcomeUnknown, Unavailable
from proto.records import Principal
from tests.node.upstreams.conftest import Client
from tests.node.upstreams.test_sessions import ASKS, said, spec, who

LISTEN = "subscriptions/listen"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
LEVEL = "io.modelcontextprotocol/logLevel"
BOB = {"principal": Principal("bob")}


def to(*uris, **more):
    return {"notifications": {"resourceSubscriptions": list(uris), "toolsListChanged": True}, **more}


def updates(client):
    return [n["params"]["uri"] for n in client.heard if n["method"] == "notifications/resources/updated"]


async def begin(w, params, client, **more):
    task = asyncio.create_task(w.ask(LISTEN, params, client, **more))
    first = asyncio.create_task(client.first.wait())
    await asyncio.wait((task, first), return_when=asyncio.FIRST_COMPLETED)
    first.cancel()
    return task


async def until(w, tool, holds, **more):
    async with asyncio.timeout(10):
        while not holds(value := said(await w.tool(tool, **more))):
            pass
    return value


async def test_a_listen_says_first_what_is_honoured_and_then_what_changes(watch):
    w = await watch(spec())
    await w.until_up()
    client = Client()
    task = await begin(w, to("a://1", "no://such", "b://dir"), client)
    assert client.heard == [
        {"method": ACKNOWLEDGED, "params": {"notifications": {"resourceSubscriptions": ["a://1", "b://dir"]}}}
    ]
    for uri in ("a://1", "a://12", "b://dir/part", "no://such"):
        await w.tool("touch", {"uri": uri})
    assert updates(client) == ["a://1", "b://dir/part"]
    assert client.heard[1] == {"method": "notifications/resources/updated", "params": {"uri": "a://1", "x": 1}}
    task.cancel()


async def test_what_a_server_tells_while_it_is_subscribed_to_comes_after_the_acknowledgement(watch):
    w = await watch(spec())
    await w.until_up()
    client = Client()
    task = await begin(w, to("a://1#eager"), client)
    assert [n["method"].rsplit("/", 1)[1] for n in client.heard] == ["acknowledged", "message", "updated"]
    task.cancel()


async def test_two_who_listen_are_one_subscription_which_ends_with_the_last(watch):
    w = await watch(spec())
    await w.until_up()
    one, two = Client(), Client()
    first, second = await begin(w, to("a://1", "a://2"), one), await begin(w, to("a://1"), two)
    assert sorted(said(await w.tool("subscribed"))) == ["a://1", "a://2"]
    first.cancel()
    assert await until(w, "subscribed", lambda s: len(s) == 1) == ["a://1"]
    await w.tool("touch", {"uri": "a://1"})
    assert (updates(one), updates(two)) == ([], ["a://1"])
    second.cancel()
    assert await until(w, "subscribed", lambda s: not s) == []
    assert w.upstream._listening.open == 0


async def test_a_listen_lives_through_a_restart_is_subscribed_again_and_told_that_things_may_have_changed(watch):
    w = await watch(spec())
    await w.until_up()
    client = Client()
    task = await begin(w, to("a://1"), client)
    with pytest.raises(OutcomeUnknown):
        await w.tool("die")
    await w.until(lambda o: o.health.state == "up" and o.health.restarts == 1)
    assert await until(w, "subscribed", bool) == ["a://1"]
    async with asyncio.timeout(10):
        while not updates(client):
            await w.tool("whoami")
    assert [n["method"] for n in client.heard] == [ACKNOWLEDGED, "notifications/resources/updated"]
    await w.tool("touch", {"uri": "a://1"})
    assert updates(client) == ["a://1", "a://1"]
    task.cancel()


async def test_a_listen_stays_in_the_session_of_its_client_and_keeps_it_open(watch):
    w = await watch(spec(session_idle_s=0.05))
    await w.until_up()
    client, mine = Client(), {"client_capabilities": ASKS, "session_key": "mine"}
    pid = (await who(w, **mine))["pid"]
    task = await begin(w, to("a://1"), client, **mine)
    assert said(await w.tool("subscribed", **mine)) == ["a://1"]
    # One that is not listened in, and was used later, has ended meanwhile.
    unused = (await who(w, client_capabilities={"sampling": {"x": 1}}))["pid"]
    async with asyncio.timeout(10):
        await asyncio.to_thread(psutil.Process(unused).wait)
    assert (await who(w, **mine))["pid"] == pid
    # Nobody else may be in a session whose client can be asked at any time.
    assert (await who(w, client_capabilities=ASKS, session_key="other"))["pid"] != pid
    task.cancel()


async def test_a_listen_ends_when_its_server_is_stopped(watch):
    w = await watch(spec())
    await w.until_up()
    tasks = [await begin(w, to("a://1"), Client()), await begin(w, to(), Client(), client_capabilities=ASKS)]
    await w.upstream.stop()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, Unavailable)
        assert "stopped" in outcome.message


async def test_listens_take_no_slot_and_have_no_clock(watch):
    w = await watch(spec(concurrency=1, call_timeout_s=0.2))
    await w.until_up()
    tasks = [await begin(w, to("a://1"), Client(), budget_ms=50) for _ in range(3)]
    # A call, which has both, has come to its end meanwhile.
    with pytest.raises(Expired):
        await w.tool("wait")
    assert not any(t.done() for t in tasks)
    assert said(await w.tool("subscribed")) == ["a://1"]
    for task in tasks:
        task.cancel()


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"notifications": []}, "must be an object"),
        ({"notifications": {"resourceSubscriptions": "a"}}, "list of URIs"),
        ({"notifications": {"resourceSubscriptions": [1]}}, "list of URIs"),
        ({"notifications": {"resourceSubscriptions": ["a"] * 1001}}, "at most 1000"),
    ],
)
async def test_a_wrong_filter_names_what_is_wrong(watch, params, says):
    w = await watch(spec())
    await w.until_up()
    with pytest.raises(Invalid, match=says):
        await w.ask(LISTEN, params)


async def test_listens_beyond_the_bound_are_refused(watch, monkeypatch):
    monkeypatch.setattr(listening_module, "LISTENS_MAX", 1)
    w = await watch(spec())
    await w.until_up()
    task = await begin(w, to(), Client())
    with pytest.raises(Exhausted, match="1 subscriptions are open"):
        await w.ask(LISTEN, to())
    task.cancel()


async def test_a_log_level_is_set_once_for_each_step_louder_and_never_travels_in_meta(watch):
    w = await watch(spec())
    await w.until_up()
    for level, known in (("error", "error"), ("info", "info"), ("warning", "info"), ("shout", "info")):
        found = await who(w, params={"_meta": {LEVEL: level, "x": 1}})
        assert (found["level"], found["meta"]) == (known, {"x": 1})
    task = await begin(w, {"notifications": {}, "_meta": {LEVEL: "debug"}}, Client())
    assert (await who(w))["level"] == "debug"
    task.cancel()


async def test_a_clients_notification_goes_to_the_sessions_that_are_its_own_and_opens_none(watch):
    w = await watch(spec())
    await w.until_up()
    mine, yours = ({"client_capabilities": ASKS, "session_key": key} for key in ("mine", "yours"))
    method = "notifications/roots/list_changed"
    assert await w.ask(method, {}, **mine) == {"result": {}}
    assert len(w.upstream._sessions.pool) == 0
    waiting = asyncio.create_task(w.tool("wait", **yours))
    await asyncio.gather(who(w, **mine), who(w, **yours))
    await w.ask(method, {"x": None}, **mine)
    heard = said(await w.tool("heard", **mine))
    assert heard[-1] == {"method": method, "params": {"x": None}}
    for other in (yours, {}):
        assert method not in [n["method"] for n in said(await w.tool("heard", **other))]
    waiting.cancel()
    await w.ask("notifications/custom", {"_meta": {LEVEL: "info"}}, session_key="plain")
    assert said(await w.tool("heard"))[-1]["method"] == "notifications/custom"


async def test_a_server_of_both_eras_is_spoken_to_in_the_era_of_each_client(watch):
    w = await watch(spec("dual"))
    await w.until_up()
    assert (w.upstream.legacy, w.upstream.modern) == (True, None)
    await asyncio.gather(w.upstream.learn(), w.upstream.learn())
    assert w.upstream.modern is True
    legacy = await who(w)
    modern = await who(w, era="2026-07-28", client_capabilities=ASKS)
    again = await who(w, era="2026-07-28", client_capabilities={}, principal=Principal("bob"))
    assert (legacy["modern"], modern["modern"]) == (False, True)
    assert modern["meta"]["io.modelcontextprotocol/clientCapabilities"] == ASKS
    assert again["meta"]["io.modelcontextprotocol/clientCapabilities"] == {}
    assert modern["pid"] == again["pid"] != legacy["pid"]


async def test_what_a_server_of_one_era_speaks_is_learnt_once(watch):
    w = await watch(spec())
    await w.until_up()
    await w.upstream.learn()
    assert (w.upstream.legacy, w.upstream.modern) == (True, False)
    assert (await who(w, era="2026-07-28"))["modern"] is False


async def test_where_principals_share_a_session_what_belongs_to_no_call_is_told_to_none_of_them(watch):
    w = await watch(spec(sessions="shared"))
    await w.until_up()
    clients = [Client(), Client()]
    tasks = [await begin(w, to("a://1"), c, **m) for c, m in zip(clients, ({}, BOB), strict=True)]
    waiting = [asyncio.create_task(w.tool("wait")) for _ in range(2)]
    await w.tool("tell", {"method": "notifications/message", "params": {"level": "info", "data": "secret"}})
    await w.tool("touch", {"uri": "a://1"})
    assert [[n["method"] for n in c.heard] for c in clients] == [[ACKNOWLEDGED, "notifications/resources/updated"]] * 2
    for task in (*tasks, *waiting):
        task.cancel()


async def test_a_server_of_an_older_revision_is_not_asked_whether_it_knows_a_newer_one(watch, raw):
    w = await watch(raw())
    assert (await w.until_up()).protocol_version == "2025-06-18"
    assert w.upstream.modern is False
