"""What HTTP can be made to look like: requests that two readers would read in two ways get no further than the first.

Against a whole node, byte by byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from node.app import App
from node.config import parse

pytestmark = pytest.mark.asyncio(loop_scope="module")

WAIT_S = 10.0
HELLO = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
    b'"clientInfo":{"name":"t","version":"1"}}}'
)
JSON = b"Host: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    base: Path = tmp_path_factory.mktemp("node")
    settings = {"node": {"data_dir": str(base)}, "http": {"listen": "127.0.0.1:0"}, "search": {"embedder": "none"}}
    app = App(parse(settings, base))
    await app.start()
    yield app
    await app.stop()


async def said(node: App, *parts: bytes) -> bytes:
    """All that is answered until the node closes the connection, which it must."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.http_port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        answer = b""
        async with asyncio.timeout(WAIT_S):
            try:
                while part := await reader.read(65_536):
                    answer += part
            except ConnectionError:
                pass
        return answer
    finally:
        writer.close()


def statuses(answer: bytes) -> list[int]:
    return [int(line.split(b" ", 2)[1]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/")]


def post(headers: bytes, body: bytes, path: bytes = b"/mcp") -> bytes:
    return b"POST %b HTTP/1.1\r\n%b%b\r\n%b" % (path, JSON, headers, body)


async def test_what_is_well_formed_is_answered(node: App) -> None:
    whole = post(b"Content-Length: %d\r\nConnection: close\r\n" % len(HELLO), HELLO)
    chunked = post(
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(HELLO), HELLO)
    )
    assert statuses(await said(node, whole)) == statuses(await said(node, chunked)) == [200]
    for byte_by_byte in (whole, chunked):
        parts = [byte_by_byte[i : i + 1] for i in range(len(byte_by_byte))]
        assert statuses(await said(node, *parts)) == [200]


HIDDEN = (
    b"POST /api/v1/drain HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n"
)


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(HIDDEN),
        b"Content-Length: 0, %d\r\n" % len(HIDDEN),
        b"Content-Length: +0\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 0x10\r\n",
        b"Content-Length: 1_0\r\n",
        b"Content-Length : 0\r\n",
        b"Content-Length: \r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: identity, chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"X: y\r\n Transfer-Encoding: chunked\r\n",
        b"X: y\x00z\r\n",
        b"X\x00: y\r\n",
        b": y\r\n",
        b"no colon\r\n",
        b"X: y\rContent-Length: 7\r\n",
    ],
)
async def test_a_length_that_two_readers_would_read_in_two_ways_is_refused(node: App, headers: bytes) -> None:
    answer = await said(node, post(headers, HIDDEN))
    assert statuses(answer) == [400], answer
    assert not node.draining.state().draining


@pytest.mark.parametrize(
    "chunks",
    [
        b"5;\n\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"zz\r\nhello\r\n0\r\n\r\n",
    ],
)
async def test_chunks_that_are_none_end_the_connection(node: App, chunks: bytes) -> None:
    answer = await said(node, post(b"Transfer-Encoding: chunked\r\n", chunks + HIDDEN))
    assert all(status == 400 for status in statuses(answer)), answer
    assert len(statuses(answer)) <= 1
    assert not node.draining.state().draining


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        (b"GET http://evil.example.org/healthz HTTP/1.1", 400),
        (b"GET http://evil.example.org/mcp HTTP/1.1", 400),
        (b"GET http://localhost/healthz HTTP/1.1", 200),
        (b"OPTIONS * HTTP/1.1", 400),
        (b"CONNECT localhost:80 HTTP/1.1", 400),
        (b"CONNECT evil.example.org:443 HTTP/1.1", 400),
        (b"GET //healthz HTTP/1.1", 400),
        (b"GET //evil.example.org/healthz HTTP/1.1", 400),
        (b"GET /mcp/../healthz HTTP/1.1", 400),
        (b"GET /mcp/%2e%2e/healthz HTTP/1.1", 400),
        (b"GET /%68ealthz HTTP/1.1", 400),
        (b"GET /healthz%00 HTTP/1.1", 400),
        (b"GET /healthz; HTTP/1.1", 400),
        (b"GET /healthz;x=1 HTTP/1.1", 400),
        (b"GET /healthz/ HTTP/1.1", 404),
        (b"GET /HEALTHZ HTTP/1.1", 404),
        (b"GET /Mcp HTTP/1.1", 404),
        (b"GET healthz HTTP/1.1", 400),
        (b"GET /healthz HTTP/1.0", 200),
        (b"GET /healthz HTTP/0.9", 505),
        (b"GET /healthz HTTP/2.0", 505),
        (b"GET /healthz HTTP/1.1 HTTP/1.1", 400),
        (b"GET\t/healthz HTTP/1.1", 400),
        (b"G\x00T /healthz HTTP/1.1", 400),
        (b"GET /healthz", 505),
        (b"TRACE /healthz HTTP/1.1", 405),
        (b"DELETE /healthz HTTP/1.1", 405),
        (b"GET /healthz?" + b"a" * 40_000 + b" HTTP/1.1", 431),
    ],
)
async def test_an_address_is_read_in_one_way_or_refused(node: App, request_line: bytes, expected: int) -> None:
    answer = await said(node, request_line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert statuses(answer) == [expected], answer[:300]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (b"", 400),
        (b"Host: localhost\r\nHost: evil.example.org\r\n", 400),
        (b"Host: localhost\r\nHost: localhost\r\n", 400),
        (b"Host: localhost, evil.example.org\r\n", 421),
        (b"Host: \r\n", 421),
        (b"Host: localhost\r\nX-Forwarded-Host: evil.example.org\r\nForwarded: host=evil.example.org\r\n", 200),
        (b"Host: evil.example.org\r\nX-Forwarded-Host: localhost\r\nX-Forwarded-For: 127.0.0.1\r\n", 421),
        (b"Host: localhost\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(200)), 400),
        (b"Host: localhost\r\nX: " + b"y" * 20_000 + b"\r\n", 431),
    ],
    ids=["none", "two", "twice", "a list", "empty", "forwarded", "not believed", "many", "long"],
)
async def test_a_request_has_one_host_and_heads_have_bounds(node: App, headers: bytes, expected: int) -> None:
    answer = await said(node, b"GET /healthz HTTP/1.1\r\n" + headers + b"Connection: close\r\n\r\n")
    assert statuses(answer) == [expected], answer[:300]


async def test_a_body_longer_than_it_may_be_is_refused_before_it_is_read(node: App) -> None:
    too_long = node.config.http.body_bytes_max + 1
    assert statuses(await said(node, post(b"Connection: close\r\nContent-Length: %d\r\n" % too_long, b""))) == [413]
    chunk = b"%x\r\n%b\r\n" % (2**20, b" " * 2**20)
    chunks = [chunk] * (too_long // 2**20 + 1)
    head = post(b"Connection: close\r\nTransfer-Encoding: chunked\r\n", b"")
    assert statuses(await said(node, head, *chunks, b"0\r\n\r\n")) == [413]


async def test_every_route_is_behind_the_door(node: App) -> None:
    assert node.listener is not None
    routes = {(route.method, route.resource.canonical) for route in node.listener.app.router.routes() if route.resource}
    assert len(routes) > 20
    for method, path in sorted(routes):
        line = f"{'POST' if method == '*' else method} {path.replace('{', 'x').replace('}', '')} HTTP/1.1\r\n".encode()
        for headers, expected in (
            (b"Host: evil.example.org\r\n", 421),
            (b"Host: localhost\r\nOrigin: https://evil.example.org\r\n", 403),
        ):
            answer = await said(node, line + headers + b"Connection: close\r\nContent-Length: 0\r\n\r\n")
            assert statuses(answer) == [expected], (method, path)
            assert b"nosniff" in answer
