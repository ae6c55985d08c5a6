"""A legacy session of one real node, used through another: DESIGN §8."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from federation.ca import init_ca
from node.app import App
from tests.node.waiting import until
from tests.node.working import MESH, app_of, settings_of

SERVER = Path(__file__).parent / "servers" / "peculiar.py"
VERSION = "2025-11-25"
INITIALIZE = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


@dataclass
class Pair:
    """ap-1 owns the server `odd`, eu-1 dials it."""

    owner: App
    peer: App
    http: aiohttp.ClientSession
    headers: dict[str, str] = field(default_factory=lambda: {"Accept": "application/json, text/event-stream"})

    async def open(self, app: App) -> None:
        message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": INITIALIZE}
        async with self.http.post(f"{app.url}/mcp/odd", json=message, headers=self.headers) as r:
            assert r.status == 200, await r.text()
            self.headers |= {"Mcp-Session-Id": r.headers["Mcp-Session-Id"], "MCP-Protocol-Version": VERSION}

    def post(self, app: App, method: str, params: dict[str, Any], **more: Any) -> Any:
        message = {"jsonrpc": "2.0", "method": method, "params": params, **more}
        return self.http.post(f"{app.url}/mcp/odd", json=message, headers=self.headers)

    def get(self, app: App, last_event_id: str = "") -> Any:
        headers = {**self.headers, "Accept": "text/event-stream"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        return self.http.get(f"{app.url}/mcp/odd", headers=headers)

    @asynccontextmanager
    async def within(self) -> AsyncIterator[None]:
        async with asyncio.timeout(30):
            yield


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    """(id, message or None) as they come."""
    assert response.content_type == "text/event-stream", await response.text()
    event_id = ""
    async for line in response.content:
        if line.startswith(b"id: "):
            event_id = line[4:].strip().decode()
        elif line.startswith(b"data: "):
            yield event_id, json.loads(line[6:]) if line[6:].strip() else None


def known(app: App) -> bool:
    found = app.catalog.find("ap-1", "odd")
    return found is not None and found.up and bool(found.tools)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    init_ca(tmp_path / "ca", MESH)
    servers = {"odd": {"command": [sys.executable, "-S", "-E", str(SERVER)]}}
    async with AsyncExitStack() as stack:
        owner = app_of(settings_of("ap", tmp_path, servers=servers), tmp_path)
        stack.push_async_callback(owner.stop)
        await owner.start()
        assert owner.federation is not None
        peer = app_of(settings_of("eu", tmp_path, static=[f"127.0.0.1:{owner.federation.bound_port}"]), tmp_path)
        stack.push_async_callback(peer.stop)
        await peer.start()
        for app in (owner, peer):
            await until(app, lambda app=app: known(app) and len(app.catalog.owners) == 2)  # type: ignore[misc]
        yield Pair(owner, peer, await stack.enter_async_context(aiohttp.ClientSession()))


@pytest.mark.parametrize("holder", ["owner", "peer"])
async def test_a_session_is_used_through_the_node_that_does_not_hold_it(pair: Pair, holder: str) -> None:
    held, other = (pair.owner, pair.peer) if holder == "owner" else (pair.peer, pair.owner)
    async with pair.within():
        await pair.open(held)
        assert pair.headers["Mcp-Session-Id"].startswith(f"{held.catalog.me.name}.")
        params = {"name": "count", "arguments": {}, "_meta": {"progressToken": "t"}}
        async with pair.post(other, "tools/call", params, id="x") as r:
            got = [e async for e in events(r)]
        assert [event_id for event_id, _ in got] == ["p1.0", "p1.1", "p1.2", "p1.3", "p1.4"]
        assert [m["params"]["progress"] for _, m in got[1:-1]] == [1, 2, 3]
        assert all(m["params"]["progressToken"] == "t" for _, m in got[1:-1])
        assert (got[-1][1]["id"], got[-1][1]["result"]["content"]) == ("x", [])
        assert (held.ingress.stats()["sessions"], other.ingress.stats()["sessions"]) == (1, 0)


async def test_a_call_goes_on_when_its_client_loses_one_node_and_is_read_and_cancelled_through_another(
    pair: Pair,
) -> None:
    async with pair.within():
        await pair.open(pair.peer)
        params = {"name": "slow", "arguments": {"mark": "m"}, "_meta": {"progressToken": 1}}
        response = await pair.post(pair.peer, "tools/call", params, id=7)
        first = events(response)
        assert (await anext(first))[1] is None
        last, progress = await anext(first)
        assert progress["params"]["progress"] == 1
        response.close()
        async with pair.get(pair.owner, last) as resumed:
            async with pair.post(pair.owner, "notifications/cancelled", {"requestId": 7}) as r:
                assert r.status == 202
            # MCP asks for no answer to what was cancelled; the stream ends.
            assert [e async for e in events(resumed)] == []
        told = {"name": "cancelled", "arguments": {"mark": "m"}}
        async with pair.post(pair.owner, "tools/call", told, id=8) as r:
            assert (await r.json())["id"] == 8


async def test_a_get_stream_through_another_node_hears_and_ends_with_the_session(pair: Pair) -> None:
    async with pair.within():
        await pair.open(pair.peer)
        async with pair.get(pair.owner) as stream:
            heard = events(stream)
            assert await anext(heard) == ("g1.0", None)
            for session in pair.peer.ingress._legacy.sessions._sessions.values():
                session.notify(b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}')
            assert (await anext(heard))[1]["method"] == "notifications/tools/list_changed"
            headers = pair.headers
            async with pair.http.delete(f"{pair.owner.url}/mcp/odd", headers=headers) as r:
                assert r.status == 204
            assert [e async for e in heard] == []
        async with pair.post(pair.owner, "ping", {}, id=1) as r:
            assert r.status == 404


async def test_a_holder_that_is_stopped_is_503_and_one_that_never_was_is_404(pair: Pair) -> None:
    async with pair.within():
        await pair.open(pair.peer)
        async with pair.get(pair.owner) as stream:
            heard = events(stream)
            await anext(heard)
            await pair.peer.stop()
            assert [e async for e in heard] == []
        async with pair.post(pair.owner, "ping", {}, id=1) as r:
            assert (r.status, r.headers["Retry-After"]) == (503, "5")
            assert "try again soon, or initialize anew" in (await r.json())["error"]["message"]
        pair.headers["Mcp-Session-Id"] = "us-1.made-up"
        async with pair.post(pair.owner, "ping", {}, id=1) as r:
            assert r.status == 404
