"""A real process on the other side of real pipes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys

import pytest

from node.upstreams import keeping as keeping_module
from node.upstreams import upstream as upstream_module
from node.upstreams.spec import UpstreamSpec
from node.upstreams.stdio import StdioWire
from node.upstreams.wire import TURN_MESSAGES
from proto.errors import Exhausted, Expired, OutcomeUnknown, Unavailable


def text(answer):
    return answer["result"]["content"][0]["text"]


async def test_a_server_comes_up_with_everything_it_lists_and_every_unknown_field(watch, raw):
    offer = await (await watch(raw())).until_up()
    assert offer.protocol_version == "2025-06-18"
    assert offer.server_info == {"name": "raw", "version": "1", "x-unknown": True}
    assert offer.instructions == "be careful"
    assert len(offer.tools) == 12
    assert offer.tools[0]["x-unknown"] == {"kept": [None, 1.5, "é"]}
    assert [p["name"] for p in offer.prompts] == ["greet"]
    assert [r["uri"] for r in offer.resources] == ["raw://one"]
    assert offer.templates == ()


async def test_params_travel_as_they_are_and_are_not_changed(watch, raw, recorder):
    w = await watch(raw())
    await w.until_up()
    meta = {
        "progressToken": "mine",
        "x": {"deep": None},
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    }
    params = {"name": "echo", "arguments": {"n": 2**70, "s": "\u2028é"}, "_meta": meta, "extra": [True, None]}
    before = json.dumps(params)
    answer = await w.ask("tools/call", params, recorder())
    got = answer["result"]["x-params"]
    assert json.dumps(params) == before
    assert got["arguments"] == params["arguments"]
    assert got["extra"] == [True, None]
    assert got["_meta"]["x"] == {"deep": None}
    assert got["_meta"]["progressToken"] != "mine"
    assert "io.modelcontextprotocol/protocolVersion" not in got["_meta"]


async def test_a_json_rpc_error_is_an_answer(watch, raw):
    w = await watch(raw())
    await w.until_up()
    assert await w.ask("nosuch/method", {}) == {"error": {"code": -32601, "message": "no nosuch/method", "data": [1]}}


async def test_progress_comes_back_under_the_callers_own_token(watch, raw, recorder):
    w = await watch(raw())
    await w.until_up()
    for token in ("tok", 7):
        heard = recorder()
        await w.tool("progress", exchange=heard, params={"_meta": {"progressToken": token}})
        assert [n["params"] for n in heard.heard] == [
            {"progressToken": token, "progress": i + 1, "total": 3, "x": i} for i in range(3)
        ]
        assert all("jsonrpc" not in n for n in heard.heard)


async def test_two_callers_with_the_same_token_hear_only_their_own(watch, raw, recorder):
    w = await watch(raw())
    await w.until_up()
    one, two, silent = recorder(), recorder(), recorder()
    same = {"_meta": {"progressToken": 1}}
    await asyncio.gather(
        w.tool("progress", exchange=one, params=same),
        w.tool("progress", exchange=two, params=same),
        w.tool("progress", exchange=silent),
    )
    assert [len(r.heard) for r in (one, two, silent)] == [3, 3, 0]


async def test_a_log_line_reaches_the_only_running_call_and_no_other(watch, raw, recorder):
    w = await watch(raw())
    await w.until_up()
    alone = recorder()
    await w.tool("log", exchange=alone)
    assert [n["method"] for n in alone.heard] == ["notifications/message"]
    first, second = recorder(), recorder()
    pending = asyncio.create_task(w.tool("never", exchange=first))
    await asyncio.sleep(0)
    await w.tool("log", exchange=second)
    assert first.heard == second.heard == []
    pending.cancel()


async def test_a_log_line_is_nobodys_while_an_abandoned_call_may_still_speak(watch, raw, recorder):
    w = await watch(raw())
    await w.until_up()
    abandoned = asyncio.create_task(w.tool("never"))
    await w.tool("echo")
    abandoned.cancel()
    with pytest.raises(asyncio.CancelledError):
        await abandoned
    heard = recorder()
    await w.tool("log", exchange=heard)
    assert heard.heard == []


async def test_what_the_server_asks_of_us_is_declined_and_ping_answered(watch, raw):
    w = await watch(raw())
    await w.until_up()
    replies = json.loads(text(await w.tool("ask")))
    assert [r["id"] for r in replies] == ["q0", "q1", "q2", "q3"]
    assert [r["error"]["code"] for r in replies[:3]] == [-32601] * 3
    assert replies[3]["result"] == {}


async def test_a_cancelled_call_is_cancelled_at_the_server_under_the_id_that_it_knows(watch, raw):
    w = await watch(raw("polite"))
    await w.until_up()
    running = asyncio.create_task(w.tool("never"))
    await w.tool("echo")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await w.until(lambda o: len(o.tools) == 13)).tools[-1]["name"] == "cancelled"


async def test_a_call_beyond_its_budget_expires_says_that_it_had_started_and_its_late_answer_is_dropped(watch, raw):
    w = await watch(raw())
    await w.until_up()
    with pytest.raises(Expired) as e:
        await w.tool("late", budget_ms=50)
    assert e.value.data["started"] is True
    assert "had started" in e.value.message
    assert text(await w.tool("echo", {"still": "here"})) == '{"still": "here"}'


async def test_a_call_without_any_time_left_is_not_sent(watch, raw):
    w = await watch(raw())
    await w.until_up()
    with pytest.raises(Expired) as e:
        await w.tool("echo", budget_ms=0)
    assert e.value.data["started"] is False


async def test_the_spec_bounds_how_long_a_call_may_take(watch, raw):
    w = await watch(raw(call_timeout_s=0.05))
    await w.until_up()
    with pytest.raises(Expired):
        await w.tool("never")


async def test_garbage_on_stdout_is_skipped_and_logged(watch, raw, caplog):
    w = await watch(raw())
    await w.until_up()
    assert "result" in await w.tool("garbage")
    assert "a line that is not JSON" in caplog.text


async def test_an_answer_without_result_and_error_leaves_the_outcome_unknown(watch, raw):
    w = await watch(raw())
    await w.until_up()
    with pytest.raises(OutcomeUnknown, match="neither a result nor an error"):
        await w.tool("odd")


async def test_a_message_of_megabytes_passes_and_one_beyond_the_bound_fails_only_its_call(watch, raw):
    w = await watch(raw(message_bytes_max=8 * 2**20))
    await w.until_up()
    assert len(text(await w.tool("big", {"chars": 500_000}))) == 500_000
    with pytest.raises(OutcomeUnknown, match="longer than 8388608 bytes"):
        await w.tool("big", {"chars": 2_000_000})
    assert w.upstream.health.state == "up"
    assert "result" in await w.tool("echo")


async def test_changed_lists_are_listed_again_and_offered(watch, raw):
    w = await watch(raw())
    await w.until_up()
    await w.tool("grow")
    offer = await w.until(lambda o: len(o.tools) == 13)
    assert offer.tools[-1]["name"] == "grown12"


async def test_invalid_and_repeated_entries_are_dropped_by_name(watch, raw, caplog):
    offer = await (await watch(raw("invalid"))).until_up()
    assert len(offer.tools) == 12
    assert "title" not in offer.tools[0]
    assert "has no string 'name'" in caplog.text
    assert "names 'echo' twice" in caplog.text


async def test_a_list_whose_cursor_never_ends_ends(watch, raw, caplog):
    offer = await (await watch(raw("loop"))).until_up()
    assert [t["name"] for t in offer.tools] == ["echo"]
    assert "same cursor twice" in caplog.text


async def test_the_death_of_the_server_fails_the_running_call_at_once_and_it_comes_back(watch, raw):
    w = await watch(raw())
    await w.until_up()
    with pytest.raises(OutcomeUnknown, match="exited with status 3") as e:
        await w.tool("die")
    assert e.value.data["call_id"] == "c1"
    down = await w.until_down()
    assert down.health.cause == "exited with status 3; last stderr line: about to die"
    assert len(down.tools) == 12
    with pytest.raises(Unavailable, match="'raw' is down: exited with status 3"):
        await w.tool("echo")
    up = await w.until_up()
    assert up.health.restarts == 1
    assert "result" in await w.tool("echo")


async def test_a_server_killed_while_idle_is_noticed_without_a_call(watch, raw):
    w = await watch(raw())
    await w.until_up()
    pid = json.loads(text(await w.tool("env")))["pid"]
    os.kill(pid, signal.SIGKILL)
    assert (await w.until_down()).health.cause == "was killed by SIGKILL"


async def test_a_server_that_fails_once_is_started_again(watch, raw, tmp_path):
    w = await watch(raw("flaky", env={"RAW_COUNTER": str(tmp_path / "starts")}))
    down = await w.until_down()
    assert down.health.cause == "exited with status 3 during start; last stderr line: no licence found"
    assert (await w.until_up()).health.restarts == 1


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ({"command": ("no-such-program-here",)}, "command 'no-such-program-here' was not found on PATH"),
        ({"command": ("./nowhere",)}, "command './nowhere' does not exist"),
        ({"command": (__file__,)}, f"command {__file__!r} is not executable"),
        ({"command": (sys.executable,), "cwd": "/no/dir"}, "its working directory '/no/dir' does not exist"),
    ],
)
async def test_a_command_that_cannot_run_says_why(watch, more, cause):
    down = await (await watch(UpstreamSpec("broken", **more))).until_down()
    assert down.health.cause == cause


async def test_a_server_that_never_speaks_is_given_up_with_its_last_words(watch, raw):
    down = await (await watch(raw("mute", start_timeout_s=0.5))).until_down()
    assert down.health.cause == ("did not finish its start within 0.5 s; last stderr line: waiting for the moon")


async def test_an_unknown_revision_is_refused_by_name(watch, raw):
    down = await (await watch(raw("old"))).until_down()
    assert "'1999-01-01'" in down.health.cause
    assert "2025-11-25" in down.health.cause


async def test_a_flood_on_stderr_neither_blocks_the_server_nor_fills_the_log(watch, raw, caplog):
    caplog.set_level(logging.INFO, "toolmesh.upstreams")
    w = await watch(raw("noisy"))
    await w.until_up()
    assert len([r for r in caplog.records if "stderr:" in r.message]) < 500
    assert max(len(r.message) for r in caplog.records) < 1100


async def test_the_server_sees_few_of_our_variables_and_all_of_its_own(watch, raw, monkeypatch, tmp_path):
    monkeypatch.setenv("MY_SECRET", "hush")
    w = await watch(raw(env={"GIVEN": "1"}, cwd=str(tmp_path)))
    await w.until_up()
    seen = json.loads(text(await w.tool("env")))
    assert "MY_SECRET" not in seen["env"]
    assert seen["env"]["GIVEN"] == "1"
    assert seen["env"]["PATH"] == os.environ["PATH"]
    assert seen["cwd"] == str(tmp_path)
    assert seen["sid"] == seen["pid"]


async def test_stopping_kills_a_stubborn_server_and_its_children(watch, raw, monkeypatch):
    monkeypatch.setattr("node.upstreams.process.put_down.__defaults__", (0.2,))
    w = await watch(raw("stubborn"))
    offer = await w.until_up()
    child = int(offer.tools[-1]["name"].removeprefix("child-"))
    pid = json.loads(text(await w.tool("env")))["pid"]
    await w.upstream.stop()
    for gone in (pid, child):
        assert await _is_gone(gone)
    assert w.upstream.health.state == "down"
    assert w.upstream.health.cause == "stopped"


async def test_children_that_a_dying_server_leaves_behind_are_killed(watch, raw):
    w = await watch(raw("parent"))
    child = int((await w.until_up()).tools[-1]["name"].removeprefix("child-"))
    with pytest.raises(OutcomeUnknown):
        await w.tool("die")
    await w.until_down()
    assert await _is_gone(child)


async def _is_gone(pid):
    def state():
        try:
            with open(f"/proc/{pid}/stat") as f:
                return f.read().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return "gone"

    # An orphan stays a zombie for as long as init takes to collect it.
    for _ in range(200):
        if state() in ("gone", "Z", "X"):
            return True
        await asyncio.sleep(0.01)
    return False


async def test_an_idle_server_that_answers_no_probe_counts_as_down(watch, raw, monkeypatch):
    monkeypatch.setattr(keeping_module, "PROBE_TIMEOUT_S", 0.05)
    w = await watch(raw("deaf", probe_every_s=0.05))
    down = await w.until_down()
    assert down.health.cause == "did not answer 'ping'"


async def test_a_server_that_knows_no_ping_is_alive(watch, raw):
    w = await watch(raw("tattle", probe_every_s=0.02))
    await w.until_up()
    offer = await w.until(lambda o: sum(t["name"].startswith("pinged") for t in o.tools) >= 3)
    assert offer.health.state == "up"
    assert offer.health.restarts == 0


async def test_calls_beyond_concurrency_wait_and_beyond_the_queue_are_refused(watch, raw):
    w = await watch(raw(concurrency=1))
    await w.until_up()
    running = [asyncio.create_task(w.tool("never", budget_ms=60_000)) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(Exhausted) as e:
        await w.tool("echo")
    assert e.value.data["retry_after_s"] == 1
    running[0].cancel()
    running[1].cancel()
    waiting = asyncio.create_task(w.tool("echo", budget_ms=60_000))
    for task in running[2:]:
        task.cancel()
    assert "result" in await waiting


async def test_a_call_that_waits_longer_than_its_budget_expires_unsent(watch, raw):
    w = await watch(raw(concurrency=1))
    await w.until_up()
    running = asyncio.create_task(w.tool("never"))
    await asyncio.sleep(0)
    with pytest.raises(Expired, match="while server 'raw' was busy"):
        await w.tool("echo", budget_ms=30)
    running.cancel()


async def test_a_modern_only_server_is_spoken_to_without_a_handshake(watch, raw):
    w = await watch(raw("modern"))
    offer = await w.until_up()
    assert offer.protocol_version == "2026-07-28"
    got = (await w.tool("echo", params={"_meta": {"x": 1}}))["result"]["x-params"]["_meta"]
    assert got["x"] == 1
    assert got["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert got["io.modelcontextprotocol/clientCapabilities"] == {}


async def test_a_server_that_is_not_connected_is_unavailable_by_name_and_state(raw):
    upstream = upstream_module.Upstream(raw(), lambda _: None)
    with pytest.raises(Unavailable, match="'raw' is starting") as e:
        await upstream.run(_call(), None)
    assert e.value.data == {"server": "raw", "state": "starting"}


def _call():
    from proto.calls import Call

    return Call("c", "raw", "tools/call", {"name": "echo"})


async def test_of_what_a_server_says_in_one_breath_a_little_is_handed_over_at_a_time():
    class Ear:
        def __init__(self):
            self.heard = self.at_once = self.most_at_once = 0
            self.all = asyncio.Event()

        def received(self, message, related=None):
            self.heard += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            if self.heard == 3_000:
                self.all.set()

        def unreadable(self, request_id, why): ...

        def lost(self, cause): ...

    async def work_of_others():
        while not ear.all.is_set():
            ear.at_once = 0
            await asyncio.sleep(0)

    ear = Ear()
    say = "import sys; sys.stdout.write('{}\\n' * 3000); sys.stdout.flush(); sys.stdin.read()"
    wire = StdioWire(UpstreamSpec("talker", command=(sys.executable, "-c", say)))
    await wire.open(ear)
    async with asyncio.timeout(20):
        await work_of_others()
    await wire.close()
    assert ear.most_at_once <= TURN_MESSAGES
