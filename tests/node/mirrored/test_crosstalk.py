"""Many clients at once, each with a mark of its own: no mark comes to another, and whoever is killed leaves nothing."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import signal
import sys
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import psutil
import pytest

from tests.node.mirrored.agents import CAPABILITIES, META, Agent, text_of
from tests.node.mirrored.world import CELL, SERVER, SERVERS, Mirrors, known
from tests.node.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLIENTS = 200
PATIENCE_S = 15.0
ROOT = SERVER.parents[3]
MARK = re.compile(r"mark-[0-9a-f]{16}")


def mark() -> str:
    return f"mark-{secrets.token_hex(8)}"


async def started(world: Mirrors, n: int, capabilities: dict[str, Any] | None = None) -> Agent:
    era, server, place = CELL[n % len(CELL)]
    return await Agent(world.http, world.url(place, f"/mcp/{server}"), era, capabilities).open()


async def test_of_200_clients_in_all_cells_at_once_none_hears_what_is_anothers(world: Mirrors) -> None:
    # A multiple of the cells, so that each server is called by as many.
    count = CLIENTS - CLIENTS % len(CELL)
    agents = await asyncio.gather(*(started(world, n) for n in range(count)))

    async def use(agent: Agent) -> None:
        for _ in range(3):
            mine = mark()
            notify = [
                {"method": "notifications/progress", "params": {"progress": 1, "message": mine}},
                {"method": "notifications/progress", "params": {"progress": 2, "x-mark": mine}},
            ]
            # All clients say the same id and token, and all calls of a server end together, the last one first.
            orders = {"mark": mine, "notify": notify, "answer": {"x-mark": mine}, "together": count // len(SERVERS)}
            level = {META + "logLevel": "debug"} if agent.modern else {}
            told = await agent.tool("mirror", orders, request_id=1, _meta={"progressToken": "t", "x": mine, **level})
            assert set(MARK.findall(text_of(told.__dict__))) == {mine}
            assert [event["params"]["progressToken"] for event in told.events] == ["t", "t"]
            assert (told.result["x-mark"], mine in told.result["x-saw"]) == (mine, True)

    await asyncio.gather(*map(use, agents))
    await asyncio.gather(*(agent.close() for agent in agents))
    assert [app.gateway.in_flight for app in (world.owner, world.peer)] == [0, 0]


async def test_of_200_clients_that_are_asked_none_is_asked_what_is_anothers(world: Mirrors) -> None:
    count = CLIENTS - CLIENTS % len(CELL)
    agents = await asyncio.gather(*(started(world, n, CAPABILITIES) for n in range(count)))

    async def use(agent: Agent) -> None:
        mine = mark()
        agent.replies = lambda question: {"x-mark": mine, "to": question["params"]["x-mark"]}
        asked = {"messages": [], "maxTokens": 1, "x-mark": mine}
        questions = [{"method": "sampling/createMessage", "params": {**asked, "n": n}} for n in range(2)]
        notify = [{"method": "notifications/progress", "params": {"progress": 1, "message": mine}}]
        log = {"method": "notifications/message", "params": {"level": "info", "data": mine}}
        level = {META + "logLevel": "debug"} if agent.modern else {}
        orders = {"ask": questions, "notify": [*notify, log], "answer": {"x-mark": mine}}
        told = await agent.tool("mirror", orders, request_id=1, _meta={"progressToken": "t", **level})
        assert set(MARK.findall(text_of(told.__dict__))) == {mine}
        assert sorted(question["params"]["n"] for question in told.asked) == [0, 1]
        assert json.loads(told.result["x-replies"]) == [{"x-mark": mine, "to": mine}] * 2

    await asyncio.gather(*map(use, agents))
    await asyncio.gather(*(agent.close() for agent in agents))
    assert [app.gateway.in_flight for app in (world.owner, world.peer)] == [0, 0]


async def test_an_answer_of_many_equal_ids_at_once_is_each_callers_own(world: Mirrors) -> None:
    """One client that always says id 1, and says it twenty times at once."""
    for place in ("local", "remote"):
        agent = await Agent(world.http, world.url(place, "/mcp/http-old"), "2025-11-25").open()

        async def use(mine: str, agent: Agent = agent) -> None:
            told = await agent.tool("mirror", {"answer": {"x-mark": mine}, "together": 20}, request_id=1)
            assert MARK.findall(text_of(told.answer)).count(mine) == 2
            assert set(MARK.findall(text_of(told.answer))) == {mine}

        await asyncio.gather(*(use(mark()) for _ in range(20)))
        await agent.close()


# ---- killed ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Count:
    """What could be left behind in this process, where both nodes run, and below it."""

    sessions: int
    streams: int
    in_flight: int
    processes: int
    tasks: int
    descriptors: int

    @classmethod
    def of(cls, world: Mirrors) -> Count:
        nodes = (world.owner, world.peer)
        me = psutil.Process()
        return cls(
            sum(app.ingress.stats()["sessions"] for app in nodes),
            sum(app.ingress.stats()["streams"] for app in nodes),
            sum(app.gateway.in_flight for app in nodes),
            len(me.children(recursive=True)),
            len(asyncio.all_tasks()),
            me.num_fds(),
        )

    def within(self, other: Count) -> bool:
        return all(mine <= its for mine, its in zip(astuple(self), astuple(other), strict=True))


async def eventually(holds: Callable[[], bool], what: Callable[[], object]) -> None:
    """What is torn down tells nobody: looked at until it holds, and a minute at most."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(what()) from None


async def warm(world: Mirrors) -> None:
    """Every cell used once and left: what is kept on purpose (connections, the streams between nodes) is there."""
    agents = await asyncio.gather(*(started(world, n) for n in range(2 * len(CELL))))
    await asyncio.gather(*(agent.tool("mirror", {}) for agent in agents))
    await asyncio.gather(*(agent.close() for agent in agents))


async def release(world: Mirrors) -> None:
    for server in SERVERS:
        agent = await Agent(world.http, world.url("local", f"/mcp/{server}"), "2025-11-25").open()
        await agent.tool("mirror", {"release": True})
        await agent.close()


async def test_killed_clients_leave_nothing(world: Mirrors) -> None:
    await warm(world)
    before = Count.of(world)
    wanted = [part for era, server, place in CELL for part in (era, world.url(place, f"/mcp/{server}"))]
    victims = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.node.mirrored.victims", *wanted, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert victims.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        assert await victims.stdout.readline() == b"held\n"
    during = Count.of(world)
    # Half of the cells have sessions, with a stream each.
    opened = 3 * len(CELL) // 2
    assert (during.sessions - before.sessions, during.streams - before.streams) == (opened, opened)
    # A forwarded call is in flight at both nodes.
    assert during.in_flight == 3 * len(CELL) * 3 // 2
    victims.kill()
    await victims.wait()
    # At 2026-07-28 a disconnect is the cancel; before, the call runs on, and the session waits for its client.
    await eventually(lambda: Count.of(world).in_flight == during.in_flight // 2, lambda: Count.of(world))
    await eventually(lambda: Count.of(world).streams == before.streams, lambda: Count.of(world))
    await release(world)
    await eventually(lambda: Count.of(world).in_flight == 0, lambda: Count.of(world))
    kept = [app.ingress._legacy.sessions for app in (world.owner, world.peer)]
    # A call leaves the gateway a moment before its session knows.
    await eventually(lambda: not any(s.busy for sessions in kept for s in sessions._sessions.values()), lambda: kept)
    for sessions in kept:
        sessions.sweep(float("inf"))
    await eventually(lambda: Count.of(world).within(before), lambda: (Count.of(world), before))


@pytest.mark.parametrize("server", ["stdio-old", "stdio-new"])
async def test_a_killed_server_fails_its_own_calls_at_once_and_leaves_nothing(world: Mirrors, server: str) -> None:
    await warm(world)
    before = Count.of(world)
    cells = [(era, s, place) for era, s, place in CELL if s in (server, "http-old")]
    agents = [await Agent(world.http, world.url(place, f"/mcp/{s}"), era).open() for era, s, place in cells]
    calls = [asyncio.create_task(agent.tool("mirror", {"hold": True})) for agent in agents]
    await eventually(lambda: Count.of(world).in_flight == len(cells) * 3 // 2, lambda: Count.of(world))
    for process in psutil.Process().children(recursive=True):
        if process.cmdline()[-2:] == [str(SERVER), "2025-11-25" if server == "stdio-old" else "2026-07-28"]:
            process.send_signal(signal.SIGKILL)
    its_own = [call for call, cell in zip(calls, cells, strict=True) if cell[1] == server]
    others = [call for call in calls if call not in its_own]
    for told in await asyncio.gather(*its_own):
        assert told.error["data"]["kind"] == "outcome_unknown"
        assert server in told.error["message"]
    assert not any(call.done() for call in others)
    await release(world)
    assert all("x-saw" in told.result for told in await asyncio.gather(*others))
    await asyncio.gather(*(agent.close() for agent in agents))
    for app in (world.owner, world.peer):
        await until(app, lambda app=app: known(app, server))  # type: ignore[misc]
    await eventually(lambda: Count.of(world).within(before), lambda: (Count.of(world), before))
