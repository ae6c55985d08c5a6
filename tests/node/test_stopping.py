"""A node that is told to stop: calls that run are answered, peers look elsewhere, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from federation.ca import init_ca
from node.app import App
from node.catalog import Catalog
from node.draining import Draining
from node.gateway import Gateway
from node.guard.open import OpenGuard
from node.serving import serve
from proto.calls import Answer, Call, Notification, Target
from proto.errors import Unavailable
from proto.names import NodeId
from tests.node.waiting import WAIT_S, until
from tests.node.working import MESH, Work, app_of, settings_of, up, working


class _Silent:
    def event(self, notification: Notification) -> None: ...

    async def request(self, request: Notification) -> Answer:
        raise Unavailable("nobody to ask")


def _none(name: str) -> Target:
    raise Unavailable(f"no {name}")


@pytest.fixture
async def alone(tmp_path: Path, work: Work) -> AsyncIterator[App]:
    app = app_of({"servers": {"slow": work.server}}, tmp_path)
    await app.start()
    await until(app, up(app, app.catalog.me.name))
    yield app
    await app.stop()


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_call_that_runs_when_the_node_is_told_to_stop_is_answered(alone: App, work: Work, mode: str) -> None:
    async with working(alone, work, mode) as call:
        draining = asyncio.create_task(alone.draining.finish(WAIT_S))
        await asyncio.sleep(0)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{alone.url}/readyz") as response:
                assert response.status == 503
            # Whoever still comes is served.
            async with Client(f"{alone.url}/mcp") as agent:
                assert len((await agent.list_tools()).tools) == 3
        assert not draining.done()
        work.end("just in time")
        await draining
        await alone.stop()
        assert "just in time" in await call


async def test_a_call_that_never_ends_holds_a_stop_up_no_longer_than_the_bound(
    alone: App, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(alone, work) as call:
        await alone.draining.finish(0.05)
        assert "1 calls have not ended within 0.05 s and are cut" in caplog.text
        assert alone.gateway.in_flight == 1
        await alone.stop()
        assert alone.gateway.in_flight == 0
        call.cancel()


async def test_a_node_without_calls_does_not_wait(alone: App) -> None:
    async with asyncio.timeout(WAIT_S):
        await alone.draining.finish(3_600)


async def test_what_comes_once_a_node_has_left_is_refused_before_it_runs(alone: App, work: Work) -> None:
    await alone.draining.finish(WAIT_S)
    async with Client(f"{alone.url}/mcp/slow") as agent:
        with pytest.raises(MCPError, match="this node is stopping and took no part of the call"):
            await agent.call_tool("work", {})
    call = Call("c1", "slow", "tools/call", {"name": "work"}, via=("eu-1",))
    with pytest.raises(Unavailable) as e:
        await alone.gateway.answer(call, _Silent(), NodeId.of(MESH, "eu", "eu-1"))
    assert e.value.data["stopping"] is True
    assert not work.begun.is_set()


async def test_a_node_with_calls_that_do_not_end_refuses_new_ones_before_it_cuts(alone: App, work: Work) -> None:
    async with working(alone, work) as call:
        leaving = asyncio.create_task(alone.draining.finish(1.0))
        async with asyncio.timeout(WAIT_S), Client(f"{alone.url}/mcp/slow") as agent:
            while not alone.gateway.refusing:
                await agent.list_tools()
            with pytest.raises(MCPError, match="this node is stopping"):
                await agent.call_tool("work", {})
            assert not leaving.done()
            work.end("at the last moment")
            await leaving
        assert "at the last moment" in await call


async def test_a_drained_node_says_so_and_takes_work_again_when_it_is_told(alone: App, work: Work) -> None:
    async with working(alone, work) as call:
        state = await alone.drain()
        assert (state.draining, state.in_flight, state.for_peers, state.done) == (True, 1, 0, False)
        waiting = asyncio.create_task(alone.drain(WAIT_S))
        work.end("done")
        assert "done" in await call
        assert (await waiting).done
    assert not alone.undrain().draining
    async with aiohttp.ClientSession() as session, session.get(f"{alone.url}/readyz") as response:
        assert response.status == 200


async def test_draining_is_not_done_before_it_has_been_quiet_for_a_moment() -> None:
    gateway = Gateway(Catalog(NodeId.of(MESH, "eu", "eu-1")), OpenGuard(), local=_none, remote=_none)
    told: list[bool] = []
    draining = Draining(gateway, told.append, lambda: 3)
    draining.begin()
    draining.begin()
    assert not await draining.wait(0)
    assert draining.state() == (True, 0, 0, 3, False)
    assert await draining.wait(WAIT_S)
    assert draining.state().done
    draining.end()
    assert draining.state() == (False, 0, 0, 3, False)
    assert told == [True, False]


async def test_a_signal_drains_and_a_second_one_ends_the_draining(
    tmp_path: Path, work: Work, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_of({"servers": {"slow": work.server}}, tmp_path)
    began = asyncio.Event()
    finish = app.finish

    async def watched() -> None:
        began.set()
        await finish()

    monkeypatch.setattr(app, "finish", watched)
    serving = asyncio.create_task(serve(app))
    await until(app, up(app, app.catalog.me.name))
    async with working(app, work) as call:
        os.kill(os.getpid(), signal.SIGTERM)
        await began.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, WAIT_S)
        assert "told to stop again: 1 running calls are cut" in caplog.text
        call.cancel()


async def test_peers_see_a_node_drain_and_get_the_answers_that_it_still_owes_them(tmp_path: Path, work: Work) -> None:
    init_ca(tmp_path / "ca", MESH)

    async with AsyncExitStack() as stack:
        ap = app_of(settings_of("ap", tmp_path, servers={"slow": work.server}), tmp_path)
        stack.push_async_callback(ap.stop)
        await ap.start()
        assert ap.federation is not None
        eu = app_of(settings_of("eu", tmp_path, static=[f"127.0.0.1:{ap.federation.bound_port}"]), tmp_path)
        stack.push_async_callback(eu.stop)
        await eu.start()
        await until(eu, up(eu, "ap-1"))
        async with working(eu, work) as call:
            draining = asyncio.create_task(ap.finish())
            await until(eu, lambda: eu.catalog.owners["ap-1"].draining)
            assert up(eu, "ap-1")()
            work.end("owed " * 100_000)
            await draining
            await ap.stop()
            assert "owed owed" in await call
