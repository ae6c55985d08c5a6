"""A listener of its own behind doors of a test's choice, and raw sockets to say anything to it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from node.doors.door import DoorSettings
from node.doors.listener import Listener

WAIT_S = 20.0


@dataclass
class Port:
    """What came through is in `asked`, and sets `came`; `release` lets a waiting handler answer."""

    listener: Listener
    barred: list[str]
    asked: list[str] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def number(self) -> int:
        return self.listener.port

    async def open(self, said: bytes = b"", source: str = "127.0.0.1") -> Wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.number, local_addr=(source, 0))
        writer.write(said)
        return Wire(reader, writer)

    async def say(self, said: bytes, source: str = "127.0.0.1") -> bytes:
        """All that is answered until the connection ends."""
        wire = await self.open(said, source)
        try:
            return await wire.rest()
        finally:
            wire.close()

    async def get(self, path: str = "/mcp", source: str = "127.0.0.1", **headers: str) -> bytes:
        lines = {"Host": "localhost", "Connection": "close", **{k.replace("_", "-"): v for k, v in headers.items()}}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return await self.say(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode(), source)


@dataclass
class Wire:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def rest(self) -> bytes:
        """Until its end, however that comes."""
        parts = []
        async with asyncio.timeout(WAIT_S):
            try:
                while part := await self.reader.read(65_536):
                    parts.append(part)
            except ConnectionError:
                pass
        return b"".join(parts)

    async def until(self, mark: bytes) -> bytes:
        async with asyncio.timeout(WAIT_S):
            return await self.reader.readuntil(mark)

    def close(self) -> None:
        self.writer.close()


def status(answer: bytes) -> int:
    """Of the first answer; 0 where there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0


Opens = Callable[..., Awaitable[Port]]


@asynccontextmanager
async def port_of(settings: DoorSettings, tls: ssl.SSLContext | None = None) -> AsyncIterator[Port]:
    async def serve(request: web.Request) -> web.StreamResponse:
        port.asked.append(f"{request.method} {request.path} {(await request.read()).decode()}".strip())
        port.came.set()
        if request.path == "/mcp/slow":
            await port.release.wait()
        if request.path == "/mcp/bug":
            raise RuntimeError("the secret of /etc/secret")
        if request.path == "/mcp/long":
            return web.Response(body=bytes(32 * 2**20))
        denied = "Authorization" in request.headers and request.headers["Authorization"] != "Bearer good"
        return web.Response(status=401 if denied else 200, text="served")

    app = web.Application()
    app.router.add_route("*", "/mcp", serve)
    app.router.add_route("*", "/mcp/{name}", serve)
    barred: list[str] = []
    listener = Listener(app, settings, "127.0.0.1", 0, tls, barred.append)
    port = Port(listener, barred)
    await listener.start()
    try:
        yield port
    finally:
        port.release.set()
        await listener.stop()


@pytest.fixture
async def opens() -> AsyncIterator[Opens]:
    async with AsyncExitStack() as stack:

        async def make(settings: DoorSettings | None = None, tls: ssl.SSLContext | None = None) -> Port:
            return await stack.enter_async_context(port_of(settings or DoorSettings(), tls))

        yield make
