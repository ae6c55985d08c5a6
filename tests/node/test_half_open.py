"""Connections that do not ask, or not in HTTP, as anybody who reaches the port can open them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from node.half_open import HalfOpen, quiet
from tests.node.working import app_of


class Port:
    def __init__(self, runner: web.AppRunner) -> None:
        self.number = runner.addresses[0][1]

    async def open(self, said: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.number)
        writer.write(said)
        return reader, writer


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application)
    await runner.setup()
    assert runner.server is not None
    half_open = HalfOpen(runner.server, 0.3)
    half_open.start()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield Port(runner)
    half_open.stop()
    await runner.cleanup()


async def ended(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(30):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Half"], ids=["nothing", "half a head"])
async def test_a_connection_that_does_not_finish_its_first_head_is_closed(port: Port, said: bytes) -> None:
    reader, writer = await port.open(said)
    assert await ended(reader) == b""
    writer.close()


async def test_a_connection_that_has_asked_is_left_alone(port: Port) -> None:
    asks = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    reader, writer = await port.open(asks)
    assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
    mute, its_writer = await port.open(b"")
    await ended(mute)
    writer.write(asks)
    assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
    writer.close()
    its_writer.close()


async def test_what_is_no_http_leaves_no_traceback_in_the_log(port: Port, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("aiohttp.server")
    logger.addFilter(quiet)
    try:
        reader, writer = await port.open(b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n")
        assert (await ended(reader)).startswith(b"HTTP/1.0 400")
        writer.close()
    finally:
        logger.removeFilter(quiet)
    assert not [r for r in caplog.records if r.exc_info or r.levelno > logging.INFO]


async def test_a_body_that_is_not_what_its_headers_say_is_refused_in_words(tmp_path) -> None:
    app = app_of({"node": {"data_dir": str(tmp_path)}}, tmp_path)
    await app.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.http_port)
        head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Encoding: gzip"
        writer.write(f"{head}\r\nContent-Length: 5\r\nConnection: close\r\n\r\n12345".encode())
        answer = await ended(reader)
        writer.close()
    finally:
        await app.stop()
    assert answer.startswith(b"HTTP/1.1 400")
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert error["code"] == -32700
    assert "what its headers say" in error["message"]
