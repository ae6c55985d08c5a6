"""One two-way connection in either era: what it answers, what it has open, what ends with it. Over a WebSocket."""

import asyncio

import aiohttp
import psutil
import pytest

from node.ingress.http import IngressSettings
from tests.node.ingress.conftest import MODERN, served
from tests.node.ingress.talking import PREFIX, Agent, dialled, gone, modern

SUBSCRIPTION = f"{PREFIX}subscriptionId"


@pytest.fixture
async def agent(edge):
    async with dialled(edge) as talking:
        yield talking


def blocking(edge):
    """A tool that runs until released, and tells when it was cancelled."""

    async def slow(arguments, caller, exchange):
        edge.root.started.set()
        try:
            await edge.root.release.wait()
        except asyncio.CancelledError:
            edge.root.cancelled.set()
            raise
        return edge.text(arguments.get("say", "done"))

    edge.root.tools["slow"] = slow


def listen(request_id, *uris, **lists):
    return modern("subscriptions/listen", request_id, notifications={"resourceSubscriptions": list(uris), **lists})


# ---- sessions of the earlier revisions ----------------------------------------------------------


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_initialize_opens_a_session_in_which_calls_run(edge, agent, version):
    async def echo(arguments, caller, exchange):
        return edge.text(f"{caller.era} {arguments['word']}")

    edge.root.tools["echo"] = echo
    assert (await agent.initialize(version))["result"]["protocolVersion"] == version
    for request_id in (1, "1", 0, "é", 2**70):
        answer = await agent.ask("tools/call", {"name": "echo", "arguments": {"word": "größe"}}, request_id)
        assert answer == {"jsonrpc": "2.0", "id": request_id, **edge.text(f"{version} größe")}
    assert await agent.ask("ping", None, "p") == {"jsonrpc": "2.0", "id": "p", "result": {}}
    assert edge.ingress.stats()["sessions"] == 1


async def test_what_is_sent_while_a_server_still_starts_waits_with_initialize(edge):
    edge.endpoints.starting["time"] = up = asyncio.Event()
    async with dialled(edge, "/ws/time") as agent:
        opened = asyncio.create_task(agent.initialize())
        await edge.wait(edge.endpoints.awaited)
        await agent.say(edge.call("ping", None, "p"))
        up.set()
        assert (await opened)["result"]["serverInfo"]["name"] == "twin"
        assert await agent.hear() == {"jsonrpc": "2.0", "id": "p", "result": {}}
        again = await agent.initialize()
        assert "is initialized" in again["error"]["message"]


async def test_an_agent_that_leaves_while_a_server_still_starts_leaves_nothing(edge):
    edge.endpoints.starting["time"] = asyncio.Event()
    async with dialled(edge, "/ws/time") as agent:
        opened = asyncio.create_task(agent.initialize())
        await edge.wait(edge.endpoints.awaited)
        opened.cancel()
        # What is sent is read only once there is a session: the close is to be seen all the same.
        await agent.socket.close()
    edge.endpoints.starting["time"].set()
    await gone(edge)


async def test_a_connection_has_one_session(agent):
    await agent.initialize()
    answer = await agent.initialize()
    assert answer["error"]["code"] == -32600
    assert "dial anew" in answer["error"]["message"]


async def test_nothing_runs_before_a_session_but_ping(edge, agent):
    assert (await agent.ask("ping"))["result"] == {}
    answer = await agent.ask("tools/list", {}, "early")
    assert (answer["id"], answer["error"]["code"]) == ("early", -32600)
    assert "initialize" in answer["error"]["message"]
    assert edge.root.seen == []


async def test_a_cancelled_request_ends_and_is_not_answered(edge, agent):
    blocking(edge)
    await agent.initialize()
    await agent.say(edge.tool_call("slow", "7"))
    await edge.wait(edge.root.started)
    await agent.cancel(7)  # another id: 7 is not "7"
    await agent.cancel("7")
    await edge.wait(edge.root.cancelled)
    assert (await agent.ask("ping", None, "next"))["id"] == "next"


async def test_a_batch_of_2025_03_26_is_answered_by_one_array(edge, agent):
    async def echo(arguments, caller, exchange):
        return edge.text("there")

    edge.root.tools["echo"] = echo
    await agent.initialize("2025-03-26")
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    await agent.say([edge.tool_call("echo", 1), note, edge.call("ping", None, 2), {"jsonrpc": "2.0"}])
    answers = {a["id"]: a for a in await agent.hear()}
    assert answers.keys() == {1, 2, None}
    assert answers[None]["error"]["code"] == -32600
    await agent.say([note])
    assert (await agent.ask("ping"))["result"] == {}


@pytest.mark.parametrize("version", ["2024-11-05", "2025-06-18"])
async def test_other_revisions_have_no_batches(edge, agent, version):
    await agent.say([edge.call("ping")])
    assert (await agent.hear())["error"]["code"] == -32600
    await agent.initialize(version)
    await agent.say([edge.call("ping")])
    assert f"MCP {version} has no batches" in (await agent.hear())["error"]["message"]


async def test_a_servers_question_is_asked_and_answered_on_the_connection(edge, agent):
    async def curious(arguments, caller, exchange):
        answer = await exchange.request({"method": "roots/list"})
        return edge.text(answer["result"]["roots"][0]["uri"])

    edge.root.tools["curious"] = curious
    await agent.initialize(capabilities={"roots": {}})
    asked = await agent.ask("tools/call", {"name": "curious"}, 1)
    assert asked["method"] == "roots/list"
    await agent.say({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": [{"uri": "file:///a"}]}})
    assert await agent.hear() == {"jsonrpc": "2.0", "id": 1, **edge.text("file:///a")}


async def test_what_belongs_to_no_request_goes_straight_out(edge):
    async with dialled(edge, "/ws/time") as agent:
        await agent.initialize()
        edge.endpoints.change("time", "tools")
        assert (await agent.hear())["method"] == "notifications/tools/list_changed"


async def test_a_clients_own_notification_is_passed_on(edge, agent):
    await agent.initialize()
    await agent.say({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"})
    await agent.ask("ping")
    assert [method for method, _, _ in edge.root.notified] == ["notifications/roots/list_changed"]


# ---- 2026-07-28 ---------------------------------------------------------------------------------


async def test_a_request_with_the_envelope_is_answered_without_a_session(edge, agent):
    async def echo(arguments, caller, exchange):
        exchange.event({"method": "notifications/progress", "params": {"progressToken": 5, "progress": 1}})
        return edge.text(caller.era)

    edge.root.tools["echo"] = echo
    await agent.say(modern("tools/call", 9, name="echo", arguments={}))
    assert (await agent.hear())["method"] == "notifications/progress"
    answer = await agent.hear()
    assert (answer["id"], answer["result"]["resultType"]) == (9, "complete")
    assert answer["result"]["content"][0]["text"] == MODERN
    assert edge.ingress.stats()["sessions"] == 0


@pytest.mark.parametrize(
    ("meta", "code"),
    [
        ({f"{PREFIX}protocolVersion": "2031-01-01", f"{PREFIX}clientCapabilities": {}}, -32022),
        ({f"{PREFIX}protocolVersion": MODERN}, -32602),
        ({f"{PREFIX}protocolVersion": MODERN, f"{PREFIX}clientCapabilities": []}, -32602),
    ],
)
async def test_a_wrong_envelope_is_refused_with_its_code(agent, meta, code):
    answer = await agent.ask("tools/list", {"_meta": meta}, 3)
    assert (answer["id"], answer["error"]["code"]) == (3, code)


async def test_a_modern_request_is_cancelled_by_notification(edge, agent):
    blocking(edge)
    await agent.say(modern("tools/call", 1, name="slow", arguments={}))
    await edge.wait(edge.root.started)
    await agent.cancel(1)
    await edge.wait(edge.root.cancelled)
    await agent.say(modern("tools/list", 2))
    assert (await agent.hear())["id"] == 2


async def test_many_subscriptions_share_a_connection_and_are_cancelled_one_by_one(edge):
    async with dialled(edge, "/ws/time") as agent:
        for request_id in ("a", "b"):
            await agent.say(listen(request_id, "file:///x", toolsListChanged=request_id == "a"))
            acknowledged = await agent.hear()
            assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
            assert acknowledged["params"]["_meta"] == {SUBSCRIPTION: request_id}
        edge.endpoints.change("time", "tools")
        assert (await agent.hear())["params"]["_meta"] == {SUBSCRIPTION: "a"}
        edge.time.tell({"method": "notifications/resources/updated", "params": {"uri": "file:///x"}})
        heard = [await agent.hear() for _ in "ab"]
        assert [m["params"]["_meta"][SUBSCRIPTION] for m in heard] == ["a", "b"]
        await agent.cancel("a")
        await edge.wait(edge.time.cancelled)
        edge.time.tell({"method": "notifications/resources/updated", "params": {"uri": "file:///x"}})
        assert (await agent.hear())["params"]["_meta"] == {SUBSCRIPTION: "b"}
        assert edge.ingress.stats()["streams"] == 1


async def test_a_client_may_probe_before_it_chooses_its_era(edge):
    async with dialled(edge) as agent:
        await agent.say(modern("server/discover", "probe"))
        assert (await agent.hear())["result"]["supportedVersions"] == [MODERN]
        assert "result" in await agent.initialize()
    async with dialled(edge) as agent:
        await agent.say(modern("server/discover", "probe"))
        await agent.hear()
        await agent.say(modern("tools/list", 1))
        assert "result" in await agent.hear()


async def test_an_era_once_chosen_stays(edge):
    async with dialled(edge) as agent:
        await agent.say(modern("tools/list", 1))
        await agent.hear()
        refused = (await agent.initialize("2025-06-18"))["error"]
        assert (refused["code"], refused["data"]) == (-32022, {"supported": [MODERN], "requested": "2025-06-18"})
        bare = await agent.ask("tools/list", {}, 2)
        assert bare["error"]["code"] == -32602
    async with dialled(edge) as agent:
        await agent.initialize()
        await agent.say(modern("tools/list", 1))
        assert (await agent.hear())["error"]["code"] == -32600


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "request_id"),
    [
        ("", -32700, None),
        ("nonsense", -32700, None),
        ('{"jsonrpc":"2.0","id":1,"method":"ping"}\n{"jsonrpc":"2.0","id":2,"method":"ping"}', -32700, None),
        ('{"a":"\\ud800"}', -32700, None),
        ("[" * 300 + "]" * 300, -32700, None),
        ("7", -32600, None),
        ("[]", -32600, None),
        ('{"jsonrpc":"2.0"}', -32600, None),
        ('{"id":4,"method":"ping"}', -32600, 4),
        ('{"jsonrpc":"2.0","id":5,"method":"ping","params":[]}', -32600, 5),
        ('{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600, None),
        ('{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, None),
    ],
)
async def test_what_is_no_message_gets_an_error_and_the_connection_stays(agent, text, code, request_id):
    await agent.say(text)
    answer = await agent.hear()
    assert (answer["id"], answer["error"]["code"]) == (request_id, code)
    assert (await agent.ask("ping", None, "after"))["id"] == "after"


# ---- bounds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_one_request_beyond_the_bound_is_refused_and_the_others_run(era):
    async with served(IngressSettings(session_calls_max=2)) as edge, dialled(edge) as agent:
        blocking(edge)
        if era == "legacy":
            await agent.initialize()
        for request_id in (1, 2, 3):
            call = edge.tool_call("slow", request_id)
            await agent.say(call if era == "legacy" else modern("tools/call", request_id, **call["params"]))
        refused = await agent.hear()
        assert (refused["id"], refused["error"]["data"]["kind"]) == (3, "exhausted")
        edge.root.release.set()
        assert {(await agent.hear())["id"] for _ in range(2)} == {1, 2}


def flooding(edge, events, size=64 * 1024):
    """A tool that says more before its answer than anybody has waited for."""

    async def flood(arguments, caller, exchange):
        for i in range(events):
            exchange.event({"method": "notifications/message", "params": {"level": "error", "data": f"{i}" * size}})
        return edge.text("the answer")

    edge.root.tools["flood"] = flood


async def test_notifications_make_room_for_the_answer_never_the_other_way_round():
    async with served(IngressSettings(stream_frames_max=8)) as edge, dialled(edge) as agent:
        flooding(edge, 100, size=10)
        await agent.initialize()
        await agent.say(edge.tool_call("flood"))
        heard = [await agent.hear()]
        while "method" in heard[-1]:
            heard.append(await agent.hear())
        assert heard[-1] == {"jsonrpc": "2.0", "id": 1, **edge.text("the answer")}
        # Eight waited at the most, and one answer more.
        assert len(heard) <= 9
        assert heard[-2]["params"]["data"] == "99" * 10


async def test_a_client_that_stops_reading_is_cut_off_with_all_it_has_open():
    settings = IngressSettings(stall_s=0.2, stream_bytes_max=64 * 1024 * 1024)
    async with served(settings) as edge, dialled(edge) as agent:
        blocking(edge)
        flooding(edge, 200)
        await agent.initialize()
        # More than the sockets take on the way, with nobody at the other end to take it.
        agent.socket._reader._protocol.pause_reading()  # type: ignore[attr-defined]
        await agent.say(edge.tool_call("slow", 1))
        await edge.wait(edge.root.started)
        for request_id in range(2, 6):
            await agent.say(edge.tool_call("flood", request_id))
        await edge.wait(edge.root.cancelled)
        await gone(edge)


# ---- the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["closed", "killed"])
async def test_the_end_of_a_connection_ends_its_calls_and_its_session(edge, how):
    blocking(edge)
    async with dialled(edge) as agent:
        await agent.initialize()
        await agent.say(edge.tool_call("slow"))
        await edge.wait(edge.root.started)
        if how == "killed":
            agent.socket._conn.transport.abort()  # type: ignore[attr-defined]
    await edge.wait(edge.root.cancelled)
    await gone(edge)


@pytest.mark.parametrize("how", ["closed", "killed"])
async def test_the_end_of_a_connection_ends_its_modern_calls_and_subscriptions(edge, how):
    blocking(edge)
    async with dialled(edge) as agent:
        await agent.say(listen(1, "file:///x"))
        await agent.hear()
        await agent.say(modern("tools/call", 2, name="slow", arguments={}))
        await edge.wait(edge.root.started)
        edge.root.cancelled.clear()
        if how == "killed":
            agent.socket._conn.transport.abort()  # type: ignore[attr-defined]
    await gone(edge)
    await edge.wait(edge.root.cancelled)
    assert edge.root.listening == []


async def test_a_closing_node_ends_subscriptions_with_their_result_and_says_goodbye(edge, agent):
    await agent.say(listen("l", "file:///x"))
    await agent.hear()
    closing = asyncio.create_task(edge.ingress.close())
    answer = await agent.hear()
    assert (answer["id"], answer["result"]["_meta"]) == ("l", {SUBSCRIPTION: "l"})
    assert await agent.closed() == 1001
    await closing
    assert edge.ingress.stats()["connections"] == 0


async def test_many_agents_get_their_own_answers_to_equal_ids(edge):
    async def echo(arguments, caller, exchange):
        return edge.text(arguments["word"])

    edge.root.tools["echo"] = echo

    async def talk(number):
        async with dialled(edge) as agent:
            if number % 2:
                await agent.initialize()
            for i in range(5):
                word = f"{number}/{i}"
                call = edge.tool_call("echo", 1, word=word)
                await agent.say(call if number % 2 else modern("tools/call", 1, **call["params"]))
                assert (await agent.hear())["result"]["content"][0]["text"] == word

    await asyncio.gather(*map(talk, range(50)))
    await gone(edge)


@pytest.mark.parametrize("path", ["/ws", "/sse"])
async def test_killed_agents_leave_no_task_and_no_descriptor(edge, path):
    blocking(edge)
    url = edge.url.removesuffix("/mcp") + path
    me = psutil.Process()
    before = (0, 0)
    # The first round warms up what is kept on purpose.
    for _ in range(2):
        before = len(asyncio.all_tasks()), me.num_fds()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as http:
            for _ in range(30):
                if path == "/ws":
                    agent = Agent(await http.ws_connect(url))
                    await agent.initialize()
                    await agent.say(edge.tool_call("slow"))
                    agent.socket._conn.transport.abort()
                else:
                    (await http.get(url)).connection.transport.abort()
            await gone(edge)
    # A closed socket of the client tells nobody when it is gone.
    async with asyncio.timeout(10):
        while len(asyncio.all_tasks()) > before[0] or me.num_fds() > before[1]:  # noqa: ASYNC110
            await asyncio.sleep(0)
