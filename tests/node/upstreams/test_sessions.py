"""Whose calls meet in which session, over real pipes: capabilities, leases, bounds, deaths."""

from __future__ import annotations

import asyncio
import json
import sys

import psutil
import pytest

from node.upstreams import sessions as sessions_module
from node.upstreams.pool import Key, Pool
from node.upstreams.spec import UpstreamSpec
from proto.calls import Call
from proto.errors import Exhausted, Expired, OutcomeUnknown
from proto.records import Principal
from tests.node.upstreams.conftest import SERVERS, Client

ASKS = {"sampling": {}, "elicitation": {}}
ALICE, BOB = Principal("alice"), Principal("bob")


def spec(*modes, **more):
    return UpstreamSpec(
        "asking", command=(sys.executable, "-S", "-E", str(SERVERS / "asking_stdio.py"), *modes), **more
    )


def said(answer):
    return json.loads(answer["result"]["content"][0]["text"])


async def who(w, **more):
    return said(await w.tool("whoami", **more))


async def test_the_main_session_declares_nothing_and_serves_those_who_declare_nothing(watch):
    w = await watch(spec())
    await w.until_up()
    one = await who(w, principal=ALICE, session_key="s1")
    assert one["capabilities"] == {}
    assert (await who(w, principal=ALICE, session_key="s2"))["pid"] == one["pid"]
    assert (await who(w, principal=BOB, session_key="s3"))["pid"] != one["pid"]


async def test_a_client_that_declares_something_has_a_session_that_declares_exactly_that(watch):
    w = await watch(spec())
    await w.until_up()
    plain = await who(w)
    capable = await who(w, client_capabilities={"sampling": {"x": 1}, "roots": {"listChanged": True}}, session_key="s")
    assert capable["capabilities"] == {"sampling": {"x": 1}, "roots": {"listChanged": True}}
    same = await who(w, client_capabilities={"roots": {"listChanged": True}, "sampling": {"x": 1}}, session_key="s")
    assert same["pid"] == capable["pid"] != plain["pid"]


async def test_agents_with_roots_of_their_own_never_meet_in_a_session(watch):
    w = await watch(spec())
    await w.until_up()
    roots, asks = {"roots": {"listChanged": True}}, {"sampling": {}}
    one, two = [(await who(w, client_capabilities=roots, session_key=key))["pid"] for key in "ab"]
    assert one != two
    assert (await who(w, client_capabilities=roots, session_key="a"))["pid"] == one
    shared = [(await who(w, client_capabilities=asks, session_key=key))["pid"] for key in "ab"]
    assert len(set(shared)) == 1


async def test_the_unused_are_looked_for_again_while_others_rest(watch):
    w = await watch(spec(session_idle_s=0.2))
    await w.until_up()
    one = (await who(w, client_capabilities={"roots": {}}, session_key="a"))["pid"]
    async with asyncio.timeout(10):
        gone = asyncio.create_task(asyncio.to_thread(psutil.Process(one).wait))
        while not gone.done():
            await who(w, client_capabilities={"roots": {}}, session_key="b")
        two = (await who(w, client_capabilities={"roots": {}}, session_key="b"))["pid"]
        await asyncio.to_thread(psutil.Process(two).wait)
    assert len(w.upstream._sessions.pool) == 0


async def test_a_modern_client_that_can_be_asked_nothing_starts_no_second_process(watch):
    w = await watch(spec("dual"))
    await w.until_up()
    main = (await who(w, principal=ALICE))["pid"]
    assert (await who(w, principal=ALICE, era="2026-07-28"))["pid"] == main
    await w.upstream.learn()
    assert w.upstream.modern
    assert (await who(w, principal=ALICE, era="2026-07-28"))["pid"] == main
    assert (await who(w, principal=ALICE, era="2026-07-28", client_capabilities=ASKS))["pid"] != main
    assert (await who(w, principal=BOB, era="2026-07-28"))["pid"] != main


@pytest.mark.parametrize("more", [{"sessions": "shared"}, {"stateless": True}])
async def test_principals_meet_where_that_is_configured(watch, more):
    w = await watch(spec(**more))
    await w.until_up()
    assert (await who(w, principal=ALICE))["pid"] == (await who(w, principal=BOB))["pid"]
    same = [await who(w, principal=p, client_capabilities=ASKS) for p in (ALICE, BOB)]
    assert same[0]["pid"] == same[1]["pid"]


async def test_each_client_session_has_its_own_where_that_is_configured(watch):
    w = await watch(spec(sessions="session"))
    await w.until_up()
    assert (await who(w, session_key="a"))["pid"] != (await who(w, session_key="b"))["pid"]
    assert (await who(w, session_key="a"))["pid"] == (await who(w, session_key="a"))["pid"]


async def test_clients_that_can_be_asked_never_share_a_session_at_the_same_time(watch):
    w = await watch(spec())
    await w.until_up()
    first = asyncio.create_task(w.tool("wait", client_capabilities=ASKS, session_key="a"))
    pid = (await who(w, client_capabilities=ASKS, session_key="a"))["pid"]
    other = await who(w, client_capabilities=ASKS, session_key="b")
    assert other["pid"] != pid
    await w.tool("go", client_capabilities=ASKS, session_key="a")
    await first
    # Free again, and each comes back to where it was.
    assert (await who(w, client_capabilities=ASKS, session_key="b"))["pid"] == other["pid"]
    assert (await who(w, client_capabilities=ASKS, session_key="a"))["pid"] == pid
    assert (await who(w, client_capabilities=ASKS, session_key="c"))["pid"] in (pid, other["pid"])


async def test_a_modern_call_is_alone_in_a_session_that_asks_back(watch):
    w = await watch(spec())
    await w.until_up()
    await w.upstream.learn()
    more = {"client_capabilities": ASKS, "session_key": "p", "era": "2026-07-28"}
    waiting = asyncio.create_task(w.tool("wait", call_id="c1", **more))
    pids = {said(a)["pid"] for a in await asyncio.gather(*(w.tool("whoami", call_id=f"x{i}", **more) for i in (1, 2)))}
    assert len(pids) == 2
    waiting.cancel()


async def test_at_the_bound_the_session_unused_for_longest_makes_room(watch):
    w = await watch(spec(sessions_max=2))
    await w.until_up()
    one, two = [(await who(w, client_capabilities=ASKS, principal=p))["pid"] for p in (ALICE, BOB)]
    assert (await who(w, client_capabilities=ASKS, principal=BOB))["pid"] == two
    await who(w, client_capabilities=ASKS, principal=Principal("carol"))
    assert (await who(w, client_capabilities=ASKS, principal=BOB))["pid"] == two
    assert (await who(w, client_capabilities=ASKS, principal=ALICE))["pid"] != one


async def test_beyond_the_bound_a_call_waits_for_its_turn_and_is_refused_in_the_end(watch, monkeypatch):
    w = await watch(spec(sessions_max=1))
    await w.until_up()
    waiting = asyncio.create_task(w.tool("wait", client_capabilities=ASKS, session_key="a"))
    await who(w, client_capabilities=ASKS, session_key="a")
    second = asyncio.create_task(who(w, client_capabilities=ASKS, session_key="b"))
    with pytest.raises(Expired, match="nothing ran"):
        await w.tool("whoami", client_capabilities=ASKS, session_key="c", budget_ms=50)
    monkeypatch.setattr(sessions_module, "WAIT_MAX_S", 0.01)
    with pytest.raises(Exhausted, match="sessions_max"):
        await w.tool("whoami", client_capabilities=ASKS, session_key="c")
    await w.tool("go", client_capabilities=ASKS, session_key="a")
    await waiting
    assert (await second)["capabilities"] == ASKS


async def test_with_no_sessions_allowed_everybody_shares_the_one_process(watch):
    w = await watch(spec("dual", sessions_max=0))
    await w.until_up()
    await w.upstream.learn()
    found = [
        await who(w, principal=p, client_capabilities=c, era=era)
        for p, c, era in ((ALICE, {}, ""), (BOB, ASKS, ""), (BOB, ASKS, "2026-07-28"))
    ]
    assert len({f["pid"] for f in found}) == 1
    assert w.upstream.modern is False


async def test_an_unused_session_ends_and_leaves_no_process(watch):
    w = await watch(spec(session_idle_s=0.05))
    await w.until_up()
    pid = (await who(w, client_capabilities=ASKS))["pid"]
    async with asyncio.timeout(10):
        await asyncio.to_thread(psutil.Process(pid).wait)
    assert len(w.upstream._sessions.pool) == 0
    assert (await who(w, client_capabilities=ASKS))["pid"] != pid


async def test_the_death_of_one_session_fails_its_own_calls_at_once_and_nobody_elses(watch):
    w = await watch(spec())
    await w.until_up()
    mine, others = {"client_capabilities": ASKS}, {"client_capabilities": ASKS, "principal": BOB}
    waiting = asyncio.create_task(w.tool("wait", **others))
    mains = asyncio.create_task(w.tool("wait"))
    await asyncio.gather(who(w, **others), who(w))
    with pytest.raises(OutcomeUnknown, match="status 3"):
        await w.tool("die", **mine)
    assert not waiting.done()
    assert not mains.done()
    assert w.upstream.health.state == "up"
    assert (await who(w, **mine))["capabilities"] == ASKS
    await asyncio.gather(w.tool("go"), w.tool("go", **others))
    await asyncio.gather(waiting, mains)


async def test_the_death_of_the_main_session_is_the_servers_and_the_other_sessions_live_on(watch):
    w = await watch(spec())
    await w.until_up()
    pid = (await who(w, client_capabilities=ASKS))["pid"]
    with pytest.raises(OutcomeUnknown):
        await w.tool("die")
    await w.until(lambda o: o.health.state == "up" and o.health.restarts == 1)
    assert (await who(w, client_capabilities=ASKS))["pid"] == pid


async def test_who_uses_the_main_session_first_has_it_until_the_server_starts_anew(watch):
    w = await watch(spec())
    await w.until_up()
    one = await who(w, principal=ALICE)
    with pytest.raises(OutcomeUnknown):
        await w.tool("die", principal=ALICE)
    await w.until(lambda o: o.health.state == "up" and o.health.restarts == 1)
    two = await who(w, principal=BOB)
    assert len(w.upstream._sessions.pool) == 0
    assert two["pid"] not in (one["pid"], (await who(w, principal=ALICE))["pid"])
    assert (await who(w, principal=BOB))["pid"] == two["pid"]


async def test_a_session_that_cannot_be_opened_says_why_and_the_next_call_tries_again(watch, tmp_path):
    counter = tmp_path / "starts"
    command = (sys.executable, "-S", "-E", str(SERVERS / "raw_stdio.py"), "second-fails")
    w = await watch(UpstreamSpec("raw", command=command, env={"RAW_COUNTER": str(counter)}))
    await w.until_up()
    with pytest.raises(Exception, match="no seat left") as e:
        await w.tool("echo", client_capabilities=ASKS)
    assert e.value.kind == "unavailable"
    assert "result" in await w.tool("echo", client_capabilities=ASKS)
    assert w.upstream.health.state == "up"


async def test_a_caller_that_gives_up_while_a_session_opens_does_not_take_it_along(watch):
    w = await watch(spec())
    await w.until_up()
    gone = asyncio.create_task(who(w, client_capabilities=ASKS, session_key="a"))
    stays = asyncio.create_task(who(w, client_capabilities=ASKS, session_key="a"))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await stays)["capabilities"] == ASKS
    (slot,) = w.upstream._sessions.pool
    assert slot.running == 0


async def test_nothing_is_left_when_it_stops_even_of_what_was_being_opened(watch):
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    tasks = set(asyncio.all_tasks())
    w = await watch(spec())
    await w.until_up()
    calls = [
        asyncio.create_task(w.tool("wait", client_capabilities=ASKS, session_key=str(i), principal=p))
        for i, p in enumerate((ALICE, BOB, Principal("carol")))
    ]
    await who(w, client_capabilities=ASKS, session_key="0", principal=ALICE)
    late = asyncio.create_task(who(w, client_capabilities={"sampling": {}}))
    await asyncio.sleep(0)
    await w.upstream.stop()
    outcomes = await asyncio.gather(*calls, late, return_exceptions=True)
    assert {type(o).__name__ for o in outcomes} <= {"OutcomeUnknown", "Unavailable"}
    assert {p.pid for p in psutil.Process().children(recursive=True)} == before
    assert set(asyncio.all_tasks()) == tasks


async def test_equal_ids_and_progress_tokens_of_two_clients_never_swap_answers(watch):
    w = await watch(spec())
    await w.until_up()
    calls = [
        Call(
            "same",
            "asking",
            "tools/call",
            {"name": "whoami", "arguments": {}, "_meta": {"progressToken": 1, "n": n}},
            principal=p,
            session_key=f"s{n}",
            client_capabilities=ASKS,
        )
        for n, p in enumerate((ALICE, BOB, ALICE, BOB))
    ]
    answers = await asyncio.gather(*(w.upstream.run(call, Client()) for call in calls))
    assert [said(a)["meta"]["n"] for a in answers] == [0, 1, 2, 3]


async def test_a_task_is_asked_about_where_it_was_begun_and_keeps_its_session_until_its_result_is_fetched(watch):
    w = await watch(spec(sessions_max=3))
    await w.until_up()
    await w.upstream.learn()
    modern = {"client_capabilities": ASKS, "session_key": "p", "era": "2026-07-28"}
    task = (await w.tool("begin", call_id="c1", **modern))["result"]["task"]["taskId"]
    waiting = asyncio.create_task(w.tool("wait", call_id="c2", **modern))
    assert "result" in await w.ask("tasks/get", {"taskId": task}, call_id="c3", **modern)
    for i in range(3):
        await who(w, principal=Principal(f"p{i}"), client_capabilities=ASKS)
    assert "result" in await w.ask("tasks/result", {"taskId": task}, call_id="c4", **modern)
    assert not any(slot.tasks for slot in w.upstream._sessions.pool)
    waiting.cancel()


async def test_a_call_that_waits_for_a_person_leaves_its_place_to_others(watch):
    w = await watch(spec(concurrency=1))
    await w.until_up()
    await who(w, client_capabilities=ASKS, session_key="a")
    client = Client(elicitation_create={"action": "accept"})
    for end in (client.go_on.set, None):
        client.go_on.clear()
        client.question.clear()
        calling = asyncio.create_task(
            w.tool("ask", {"method": "elicitation/create"}, client, client_capabilities=ASKS, session_key="a")
        )
        await client.question.wait()
        assert await asyncio.gather(who(w), who(w))
        if end is None:
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
        else:
            end()
            assert said(await calling) == {"result": {"action": "accept"}}
    assert w.upstream._gate.running == 0
    assert await asyncio.gather(who(w), who(w))
    assert w.upstream._gate._slots._value == 1


async def test_over_http_each_principal_has_a_session_beyond_the_bound_and_shares_it_there():
    """The bound on processes is none on sessions at a `url`: a principal always has one of its own there."""
    pool = Pool(1, keys_max=2)
    one, two, three = (Key((name,), "asks") for name in "abc")
    first = pool.add(one, 0)
    first.running = 1
    assert pool.add(one, 0) is None
    assert pool.least_busy(one) is first
    assert pool.add(two, 0) is not None
    assert pool.add(three, 0) is None
    first.connection, first.running = object(), 0
    assert pool.victim(0) is first
    first.tasks = {"t": 5.0}
    assert pool.victim(4) is None
    assert pool.victim(5) is first
