"""What a server says that belongs to no call reaches the session of a legacy client, next door and across a hop."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from federation.ca import init_ca
from node.app import App
from tests.node.waiting import until
from tests.node.working import MESH, app_of, settings_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVER = Path(__file__).parent / "servers" / "telling.py"
PLACES = pytest.mark.parametrize("place", ["local", "remote"])


@dataclass
class World:
    owner: App
    peer: App
    http: aiohttp.ClientSession

    def at(self, place: str) -> App:
        return self.owner if place == "local" else self.peer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    base = tmp_path_factory.mktemp("mesh")
    init_ca(base / "ca", MESH)
    servers = {"telling": {"command": [sys.executable, "-S", "-E", str(SERVER)]}}
    async with AsyncExitStack() as stack:
        owner = app_of(settings_of("ap", base, servers=servers), base)
        stack.push_async_callback(owner.stop)
        await owner.start()
        assert owner.federation is not None
        peer = app_of(settings_of("eu", base, static=[f"127.0.0.1:{owner.federation.bound_port}"]), base)
        stack.push_async_callback(peer.stop)
        await peer.start()

        def known(app: App) -> bool:
            found = app.catalog.find("ap-1", "telling")
            return found is not None and found.up and bool(found.tools)

        for app in (owner, peer):
            await until(app, lambda app=app: known(app))  # type: ignore[misc]
        yield World(owner, peer, await stack.enter_async_context(aiohttp.ClientSession()))


class Agent:
    """A legacy client on bare HTTP with its GET stream open."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self._headers = {"Accept": "application/json, text/event-stream"}
        self._heard: AsyncIterator[dict[str, Any]]

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        async with self._http.post(self._url, json=message, headers=self._headers) as response:
            self._headers.update({k: v for k, v in response.headers.items() if k == "Mcp-Session-Id"})
            return (await response.json())["result"]

    async def say(self, message: dict[str, Any]) -> None:
        async with self._http.post(self._url, json={"jsonrpc": "2.0", **message}, headers=self._headers) as response:
            assert response.status == 202

    async def hear(self, method: str) -> dict[str, Any]:
        """The next message; it is one of this method."""
        message = await anext(self._heard)
        assert message["method"] == method, message
        return message

    @asynccontextmanager
    async def open(self, capabilities: dict[str, Any]) -> AsyncIterator[Agent]:
        info = {"name": "t", "version": "1"}
        initialize = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": info}
        await self.ask("initialize", initialize)
        async with asyncio.timeout(30), self._http.get(self._url, headers=self._headers) as stream:
            self._heard = _messages(stream)
            yield self
            async with self._http.delete(self._url, headers=self._headers):
                pass


async def _messages(stream: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    async for line in stream.content:
        if line.startswith(b"data: ") and line[6:].strip():
            yield json.loads(line[6:])


def agent(world: World, place: str) -> Agent:
    return Agent(world.http, f"{world.at(place).url}/mcp/telling")


@PLACES
async def test_a_subscribed_resource_is_told_of_and_one_that_is_not_is_not(world: World, place: str) -> None:
    async with agent(world, place).open({}) as client:
        assert await client.ask("resources/subscribe", {"uri": "note://a"}) == {}
        await client.ask("tools/call", {"name": "touch", "arguments": {}})
        assert (await client.hear("notifications/resources/updated"))["params"] == {"uri": "note://a"}
        assert await client.ask("resources/unsubscribe", {"uri": "note://a"}) == {}
        # The server hears of it once nobody is left who subscribed.
        async with asyncio.timeout(20):
            while (await client.ask("tools/call", {"name": "touch", "arguments": {}}))["content"][0]["text"]:
                await client.hear("notifications/resources/updated")


@PLACES
async def test_logs_out_of_calls_come_at_the_level_that_was_set(world: World, place: str) -> None:
    async with agent(world, place).open({}) as client:
        assert await client.ask("logging/setLevel", {"level": "warning"}) == {}
        await client.say({"method": "notifications/vendor/speak"})
        assert (await client.hear("notifications/message"))["params"] == {"level": "warning", "data": "warning is said"}


@PLACES
async def test_a_server_that_hears_of_new_roots_may_ask_for_them_out_of_a_call(world: World, place: str) -> None:
    async with agent(world, place).open({"roots": {"listChanged": True}}) as client:
        await client.ask("logging/setLevel", {"level": "error"})
        await client.say({"method": "notifications/roots/list_changed"})
        question = await client.hear("roots/list")
        await client.say({"id": question["id"], "result": {"roots": [{"uri": "file:///x"}]}})
        logged = await client.hear("notifications/message")
        assert logged["params"] == {"level": "error", "data": {"roots": [{"uri": "file:///x"}]}}
