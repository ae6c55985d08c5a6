"""Two nodes and one mirror of each era behind each transport, all real; what must not change can be held against it.

ap-1 owns `stdio-old`, `http-old`, `stdio-new` and `http-new`; eu-1 knows them from ap-1.
"""

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
from aiohttp import web

from federation.ca import init_ca
from node.app import App
from tests.node.mirrored.agents import LEGACY
from tests.node.mirrored.mirror import MODERN, TOOLS, Mirror
from tests.node.waiting import until
from tests.node.working import MESH, app_of, settings_of

SERVER = Path(__file__).parent / "mirror.py"
SERVERS = ("stdio-old", "http-old", "stdio-new", "http-new")
PLACES = ("local", "remote")
CELL = [(era, server, place) for era in (LEGACY, MODERN) for server in SERVERS for place in PLACES]
CELLS = pytest.mark.parametrize(("era", "server", "place"), CELL)
"""Each era of the client at each server, next door and across a hop."""

MESSAGE_BYTES_MAX = 64 * 1024 * 1024


class HttpMirror:
    """The mirror behind Streamable HTTP: one per session before 2026-07-28, one for all from then on."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.mirrors: dict[str, Mirror] = {}
        self.streams: dict[tuple[str, Any], asyncio.Queue[str]] = {}
        self.opened = 0
        self.closed = 0
        self.news = asyncio.Event()
        self.url = ""
        self.silent = False
        """Whether it no longer answers `initialize`, nor anything else, on new sessions."""

    @property
    def counts(self) -> dict[str, int]:
        """Of all sessions together."""
        total: dict[str, int] = {}
        for mirror in self.mirrors.values():
            for name, n in mirror.counts.items():
                total[name] = total.get(name, 0) + n
        return total

    async def until(self, holds: Any) -> None:
        async with asyncio.timeout(20):
            while not holds():
                self.news.clear()
                await self.news.wait()

    async def post(self, request: web.Request) -> web.StreamResponse:
        message = json.loads(await request.read())
        key = request.headers.get("Mcp-Session-Id", "")
        headers = {}
        if message.get("method") == "initialize" and self.version != MODERN:
            if self.silent:
                await asyncio.Event().wait()
            self.opened += 1
            key = f"session-{self.opened}"
            headers["Mcp-Session-Id"] = key
            self.mirrors[key] = Mirror(self.version)
        elif self.version == MODERN:
            self.mirrors.setdefault(key, Mirror(self.version))
        mirror = self.mirrors.get(key)
        if mirror is None:
            return web.Response(status=404 if key else 400)
        request_id = message.get("id") if "method" in message else None
        if request_id is None:
            self.say(key, mirror.take(message))
            return web.Response(status=202, headers=headers)
        return await self.answer(request, key, mirror, message, headers)

    async def answer(
        self, request: web.Request, key: str, mirror: Mirror, message: dict[str, Any], headers: dict[str, str]
    ) -> web.StreamResponse:
        place = (key, message["id"])
        assert place not in self.streams, f"two requests of one id at once: {place}"
        mine = self.streams[place] = asyncio.Queue()
        try:
            said = mirror.take(message)
            if len(said) == 1 and said[0][0] == message["id"] and answers(message, said[0][1]):
                return web.Response(text=said[0][1], content_type="application/json", headers=headers)
            self.say(key, said)
            stream = web.StreamResponse(headers={**headers, "Content-Type": "text/event-stream"})
            await stream.prepare(request)
            while True:
                text = await mine.get()
                await stream.write(f"data: {text}\n\n".encode())
                if answers(message, text):
                    return stream
        finally:
            del self.streams[place]
            if self.version == MODERN and mirror.held.pop(message["id"], None) is not None:
                mirror.counts["released"] += 1
            self.news.set()

    def say(self, key: str, said: list[tuple[Any, str]]) -> None:
        for request_id, text in said:
            if (stream := self.streams.get((key, request_id))) is not None:
                stream.put_nowait(text)
        self.news.set()

    async def delete(self, request: web.Request) -> web.Response:
        self.closed += self.mirrors.pop(request.headers.get("Mcp-Session-Id", ""), None) is not None
        self.news.set()
        return web.Response(status=204)

    async def start(self) -> web.AppRunner:
        app = web.Application(client_max_size=MESSAGE_BYTES_MAX)
        app.router.add_post("/mcp", self.post)
        app.router.add_delete("/mcp", self.delete)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
        return runner


def answers(request: dict[str, Any], text: str) -> bool:
    said = json.loads(text)
    return "method" not in said and said.get("id") == request["id"]


@dataclass
class Mirrors:
    owner: App
    peer: App
    old: HttpMirror
    new: HttpMirror
    http: aiohttp.ClientSession

    def at(self, place: str) -> App:
        return self.owner if place == "local" else self.peer

    def url(self, place: str, path: str) -> str:
        return self.at(place).url + path


@asynccontextmanager
async def mirrors(base: Path) -> AsyncIterator[Mirrors]:
    """All up, and all known at both nodes."""
    init_ca(base / "ca", MESH)
    old, new = HttpMirror(LEGACY), HttpMirror(MODERN)
    # A probe in the midst of a test would only disturb its counts.
    common = {"probe_every_s": 3600, "concurrency": 512, "sessions_max": 64}
    stdio = [sys.executable, "-S", "-E", str(SERVER)]
    async with AsyncExitStack() as stack:
        for mirror in (old, new):
            stack.push_async_callback((await mirror.start()).cleanup)
        servers = {
            "stdio-old": {"command": [*stdio, LEGACY], **common},
            "stdio-new": {"command": [*stdio, MODERN], **common},
            "http-old": {"url": old.url, **common},
            "http-new": {"url": new.url, **common},
            "http-hasty": {"url": old.url, **common, "start_timeout_s": 1, "call_timeout_s": 1},
        }
        http = {"listen": "127.0.0.1:0", "body_bytes_max": MESSAGE_BYTES_MAX}
        owner = app_of(settings_of("ap", base, servers=servers, http=http), base)
        stack.push_async_callback(owner.stop)
        await owner.start()
        assert owner.federation is not None
        there = [f"127.0.0.1:{owner.federation.bound_port}"]
        peer = app_of(settings_of("eu", base, static=there, http=http), base)
        stack.push_async_callback(peer.stop)
        await peer.start()
        for app in (owner, peer):
            await until(app, lambda app=app: all(known(app, server) for server in servers))  # type: ignore[misc]
        client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None), read_bufsize=2**20
        )
        yield Mirrors(owner, peer, old, new, await stack.enter_async_context(client))


def known(app: App, server: str) -> bool:
    found = app.catalog.find("ap-1", server)
    return found is not None and found.up and len(found.tools) == len(TOOLS)
