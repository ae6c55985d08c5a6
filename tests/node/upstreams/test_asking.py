"""What a server asks and tells of its own accord: who hears it, what comes back, and how it ends."""

from __future__ import annotations

import asyncio

import pytest

from node.upstreams import questions as questions_module
from proto.errors import Expired
from proto.records import Principal
from tests.node.upstreams.conftest import Client
from tests.node.upstreams.test_sessions import ASKS, said, spec, who

ELICIT = {"method": "elicitation/create", "params": {"message": "sure?", "x-unknown": [None, 1.5]}}
MINE = {"client_capabilities": ASKS, "session_key": "mine"}
YOURS = {"client_capabilities": ASKS, "session_key": "yours"}


async def test_a_question_in_mid_call_reaches_its_client_unchanged_and_the_answer_comes_back(watch):
    w = await watch(spec())
    await w.until_up()
    client = Client(elicitation_create={"action": "accept", "content": {"n": 2**70, "z": None}})
    answer = said(await w.tool("ask", ELICIT, client, **MINE))
    assert answer == {"result": {"action": "accept", "content": {"n": 2**70, "z": None}}}
    assert client.asked == [ELICIT]


async def test_a_clients_error_is_its_answer(watch):
    w = await watch(spec())
    await w.until_up()
    answer = said(await w.tool("ask", ELICIT, Client(), **MINE))
    assert answer == {"error": {"code": -32601, "message": "not I"}}


async def test_a_client_that_cannot_be_asked_is_an_error_to_the_server_that_says_so(watch, recorder):
    w = await watch(spec())
    await w.until_up()
    answer = said(await w.tool("ask", ELICIT, recorder(), **MINE))
    assert answer == {"error": {"code": -32603, "message": "elicitation/create: nobody to ask"}}


async def test_a_session_that_declared_nothing_is_asked_nothing(watch):
    w = await watch(spec())
    await w.until_up()
    client = Client(elicitation_create={})
    answer = said(await w.tool("ask", ELICIT, client))
    assert answer["error"]["code"] == -32601
    assert client.asked == []
    assert said(await w.tool("ask", {"method": "ping"}, client, **MINE)) == {"result": {}}
    assert client.asked == []


async def test_questions_of_two_clients_at_once_never_reach_the_other(watch):
    w = await watch(spec())
    await w.until_up()
    clients = [Client(elicitation_create={"action": "accept", "content": {"who": i}}) for i in range(4)]
    answers = await asyncio.gather(
        *(
            w.tool(
                "ask",
                {"method": "elicitation/create", "params": {"message": str(i)}},
                client,
                client_capabilities=ASKS,
                session_key=f"s{i}",
            )
            for i, client in enumerate(clients)
        )
    )
    assert [said(a)["result"]["content"]["who"] for a in answers] == [0, 1, 2, 3]
    assert [c.asked[0]["params"]["message"] for c in clients] == ["0", "1", "2", "3"]


async def test_while_a_client_is_asked_the_calls_own_clock_stands_still(watch):
    w = await watch(spec(call_timeout_s=0.3))
    await w.until_up()
    await who(w, **MINE)
    client = Client(elicitation_create={"action": "decline"})
    client.go_on.clear()
    calling = asyncio.create_task(w.tool("ask", ELICIT, client, **MINE))
    await client.question.wait()
    # A call that began later, and asks nobody, has come to its end meanwhile.
    with pytest.raises(Expired):
        await w.tool("wait")
    assert not calling.done()
    client.go_on.set()
    assert said(await calling) == {"result": {"action": "decline"}}
    with pytest.raises(Expired):
        await w.tool("wait", {}, client, **MINE)


async def test_a_client_that_takes_too_long_to_answer_is_given_up_and_told(watch):
    w = await watch(spec(ask_timeout_s=0.05))
    await w.until_up()
    client = Client()
    client.go_on.clear()
    answer = said(await w.tool("ask", ELICIT, client, **MINE))
    assert answer["error"]["message"] == "elicitation/create: the client did not answer within 0.05 s"
    assert client.taken_back.is_set()


async def test_a_cancelled_call_takes_its_question_back_from_the_client_and_answers_the_server(watch):
    w = await watch(spec())
    await w.until_up()
    client = Client()
    client.go_on.clear()
    calling = asyncio.create_task(w.tool("ask", ELICIT, client, **MINE))
    await client.question.wait()
    calling.cancel()
    await client.taken_back.wait()
    heard = said(await w.tool("heard", **MINE))
    assert [n["method"] for n in heard] == ["notifications/initialized", "notifications/cancelled"]
    (reply,) = await until_replies(w, 1)
    assert reply["error"]["message"] == "elicitation/create: the call that it belongs to has ended"


async def test_a_question_that_the_server_takes_back_is_taken_back_from_the_client_without_a_reply(watch):
    w = await watch(spec())
    await w.until_up()
    client = Client()
    client.go_on.clear()
    calling = asyncio.create_task(w.tool("take_back", {}, client, **MINE))
    await client.question.wait()
    await w.tool("go", **MINE)
    await client.taken_back.wait()
    assert said(await calling) == "went"
    assert said(await w.tool("replies", **MINE)) == []


async def test_a_question_asked_while_the_session_begins_goes_to_the_client_that_it_begins_for(watch):
    w = await watch(spec("roots"))
    await w.until_up()
    client = Client(roots_list={"roots": [{"uri": "file:///mine"}]})
    await w.tool("whoami", {}, client, **MINE)
    assert client.asked == [{"method": "roots/list", "params": {}}]
    (reply,) = await until_replies(w, 1)
    assert reply["result"] == {"roots": [{"uri": "file:///mine"}]}


async def test_a_question_that_belongs_to_no_call_goes_to_who_listens_or_is_answered_with_an_error(watch):
    w = await watch(spec())
    await w.until_up()
    idle, listener = Client(roots_list={"roots": []}), Client(roots_list={"roots": [{"uri": "file:///heard"}]})
    await w.tool("later", {"method": "roots/list"}, idle, **MINE)
    assert "error" in (await until_replies(w, 1))[0]
    listening = asyncio.create_task(w.ask("subscriptions/listen", {"notifications": {}}, listener, **MINE))
    await listener.first.wait()
    await w.tool("later", {"method": "roots/list"}, idle, **MINE)
    await listener.question.wait()
    assert (await until_replies(w, 2))[1]["result"] == {"roots": [{"uri": "file:///heard"}]}
    assert idle.asked == []
    listening.cancel()


async def until_replies(w, count):
    async with asyncio.timeout(10):
        while len(replies := said(await w.tool("replies", **MINE))) < count:
            pass
    return replies


async def test_questions_beyond_the_bound_are_answered_with_an_error(watch, monkeypatch):
    monkeypatch.setattr(questions_module, "QUESTIONS_MAX", 1)
    w = await watch(spec())
    await w.until_up()
    client = Client()
    client.go_on.clear()
    first = asyncio.create_task(w.tool("ask", ELICIT, client, **MINE))
    await client.question.wait()
    answer = said(await w.tool("ask", ELICIT, client, **MINE))
    assert "1 requests to clients are open" in answer["error"]["message"]
    first.cancel()


async def test_what_a_server_tells_during_a_clients_only_call_is_that_clients(watch):
    w = await watch(spec())
    await w.until_up()
    for method in ("notifications/message", "notifications/tasks/status", "notifications/elicitation/complete", "x/y"):
        heard = Client()
        told = {"method": method, "params": {"level": "info", "data": [None], "x-unknown": 1}}
        await w.tool("tell", told, heard, **MINE)
        assert heard.heard == [told]


async def test_what_belongs_to_no_call_is_told_to_those_who_listen_and_to_no_other_principal(watch):
    w = await watch(spec())
    await w.until_up()
    mine, other = Client(), Client()
    tasks = [
        asyncio.create_task(w.ask("subscriptions/listen", {"notifications": {}}, mine)),
        asyncio.create_task(w.ask("subscriptions/listen", {"notifications": {}}, other, principal=Principal("bob"))),
    ]
    await asyncio.gather(mine.first.wait(), other.first.wait())
    pending = [asyncio.create_task(w.tool("wait")) for _ in range(2)]
    await w.tool("tell", {"method": "notifications/message", "params": {"level": "info", "data": 1}})
    assert [n["method"] for n in mine.heard] == ["notifications/subscriptions/acknowledged", "notifications/message"]
    assert [n["method"] for n in other.heard] == ["notifications/subscriptions/acknowledged"]
    for task in (*tasks, *pending):
        task.cancel()


async def test_progress_of_a_task_goes_on_under_the_token_of_the_call_that_began_it():
    """2025-11-25: the result of the call is a task, and its token stays valid until the task ends."""
    from node.upstreams.attribution import Listener
    from node.upstreams.channel import Channel

    class Loop:
        async def open(self, sink):
            self.sink = sink

        async def carry(self, message, sent):
            sent()
            if "id" in message:
                self.rid = message["params"]["_meta"]["progressToken"]
                self.sink.received({"jsonrpc": "2.0", "id": message["id"], "result": {"task": {"taskId": "t"}}})

    wire, client = Loop(), Client()
    channel = Channel("s", wire, lambda _: None)
    await channel.open()
    channel.listeners.append(Listener(client, "h", ("p",), asked=False))
    await channel.request("tools/call", {"_meta": {"progressToken": "mine"}}, client)
    params = {"progressToken": wire.rid, "progress": 1}
    wire.sink.received({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
    assert client.heard == [{"method": "notifications/progress", "params": {"progressToken": "mine", "progress": 1}}]


async def test_who_listens_does_not_take_the_place_of_the_call_that_a_session_is_opened_for():
    from types import SimpleNamespace

    from node.upstreams.attribution import Listener
    from node.upstreams.channel import Channel
    from node.upstreams.listening import _Once, _subscribed

    class Wire:
        def __init__(self):
            self.said = asyncio.Queue()

        async def carry(self, message, sent):
            self.said.put_nowait(message)

        async def close(self):
            pass

    wire = Wire()
    channel = Channel("s", wire, lambda _: None, may_ask=True)
    channel.opener = Client(roots_list={"roots": []})
    once = _Once(Client())
    async with (
        asyncio.timeout(10),
        _subscribed(SimpleNamespace(channel=channel), Listener(once, "h", ("p",), asked=False), once, []),
    ):
        channel.received({"jsonrpc": "2.0", "id": 7, "method": "roots/list"})
        assert await wire.said.get() == {"jsonrpc": "2.0", "id": 7, "result": {"roots": []}}
    await channel.close("over")
