"""A real node, asked anything by anybody: every answer is one of HTTP that it means, and no fault is in its log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from node.app import App
from tests.node.working import app_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

REQUESTS = int(os.environ.get("FUZZ", "30")) * 8
PATIENCE_S = 20.0
UNFINISHED_S = 0.3
"""For what may be the beginning of a longer request: whether it is, only the node can tell."""
MEANT = {100, 101, 200, 202, 204, 303,
         400, 401, 403, 404, 405, 406, 408, 409, 411, 413, 415, 416, 417, 421, 422, 426, 429, 431,
         501, 503, 505}  # fmt: skip
"""What a node may answer to nonsense. 500 is none of it."""
PATHS = ["/", "/mcp", "/mcp/none", "/mcp-all", "/v1/mcp", "/sse", "/ws", "/healthz", "/readyz", "/metrics", "/oauth",
         "/api/v1/status", "/api/v1/search?q=x", "/api/v1/policies/x", "/api/v1/audit", "/api/v1/explain?server=x",
         "/.well-known/oauth-protected-resource", "*", "http://127.0.0.1/mcp", "/%00", "/mcp/%2e%2e/x"]  # fmt: skip
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "CONNECT", "BREW", "get", "P\x00ST"]
HEADERS = {
    "Host": ["127.0.0.1", "localhost:1", "evil.example", "", "[::1", "a b"],
    "Authorization": [
        "Bearer x",
        "Bearer",
        "Basic !!!",
        "Basic Zm9vOmJhcg==",
        "Digest a",
        "\xff",
        "Bearer " + "e" * 9_000,
    ],
    "X-API-Key": ["x", "", "\x7f", "k" * 9_000],
    "Accept": ["application/json, text/event-stream", "*/*", "text/event-stream;q=abc", ",,,;q=", "text/html"],
    "Content-Type": ["application/json", "application/json; charset=utf-7", "text/plain", "multipart/form-data", ";"],
    "Content-Length": ["0", "5", "-1", "1e3", "99999999999999999999", "5, 5"],
    "Transfer-Encoding": ["chunked", "gzip, chunked", "identity", "chunked, chunked", "xchunked"],
    "MCP-Protocol-Version": ["2026-07-28", "2025-11-25", "9999-99-99", "\xe9"],
    "Mcp-Session-Id": ["x", "eu-1.AAAA", "." * 500, "../.."],
    "Mcp-Method": ["tools/call", "", "=?base64?Zm9v?="],
    "Mcp-Name": ["x", "=?base64?!!?=", "=?base64?/////w==?="],
    "Last-Event-ID": ["0", "x:-1", "1" * 400, "\x00"],
    "Origin": ["http://localhost", "http://evil.example", "null", "http://[", "file://"],
    "X-Forwarded-For": ["127.0.0.1", ",,", "::::"],
    "Forwarded": ['for="', "for=_x;by", ";;;;"],
    "Cookie": ["__Host-toolmesh=x", "=;=;=", "a=" + "b" * 4_000],
    "Expect": ["100-continue", "200-ok"],
    "Upgrade": ["websocket", "h2c", "x"],
    "Connection": ["Upgrade", "close", "keep-alive, Upgrade"],
    "Sec-WebSocket-Key": ["dGhlIHNhbXBsZSBub25jZQ==", "x"],
    "Sec-WebSocket-Version": ["13", "0", "x"],
    "traceparent": ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "ff-"],
    "Range": ["bytes=0-", "x"],
    "If-None-Match": ['"x"', "*"],
}
META = (
    '"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", '
    '"io.modelcontextprotocol/clientCapabilities": {}}'
)
BODIES = [
    "", "{", "[]", "null", "1e999", '"\\ud800"', "[" * 20_000, '{"a":' * 5_000, "\xff\xfe", "{}" * 50,
    '{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": 7}}',
    '{"jsonrpc": "2.0", "id": 1, "method": "initialize", '
    '"params": {"protocolVersion": "2025-11-25", "capabilities": {}}}',
    '{"jsonrpc": "2.0", "id": null, "method": "ping"}', '{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}',
    '{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"cursor": "AAAA", ' + META + "}}",
    '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": 7, ' + META + "}}",
    '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": '
    '{"name": "use_tool", "arguments": [], ' + META + "}}",
    '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search_mcp_server", "arguments": '
    '{"task_description": {"a": 1}, "key_words": [[]]}, ' + META + "}}",
    '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "use_tool", "arguments": '
    '{"mcp_server_name": "x", "mcp_tool_name": "y", "params": "{", "requestState": "zz"}, "requestState": 1, '
    + META + "}}",
    '{"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {"notifications": 1, ' + META + "}}",
    '{"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "file:///\\u0000", ' + META + "}}",
    '{"jsonrpc": "2.0", "id": 1, "method": "completion/complete", "params": {"ref": 1, "argument": [], ' + META + "}}",
    '[{"jsonrpc": "2.0", "id": 1, "method": "ping"}, 7, {}]', '{"jsonrpc": "2.0", "id": 1, "result": {}}',
    '{"text": "permit(", "mode": "x"}', '{"sha256": 1}', '{"principal": {}, "name": "\\u202e"}',
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    base = tmp_path_factory.mktemp("fuzzed")
    app = app_of({"node": {"name": "solo", "data_dir": str(base / "data")}}, base)
    try:
        await app.start()
        yield app
    finally:
        await app.stop()


def a_request(draw: random.Random) -> bytes:
    body = draw.choice(BODIES).encode("latin-1")
    if draw.random() < 0.3 and body:
        at = draw.randrange(len(body))
        body = body[:at] + bytes([draw.randrange(256)]) + body[at + 1 :]
    lines = [f"{draw.choice(METHODS[:4] * 4 + METHODS)} {draw.choice(PATHS)} HTTP/1.1"]
    names = draw.sample(sorted(HEADERS), draw.randrange(7))
    if draw.random() < 0.8:
        names = [n for n in names if n not in ("Host", "Transfer-Encoding", "Content-Length")]
        lines += ["Host: 127.0.0.1", f"Content-Length: {len(body)}"]
        if draw.random() < 0.8:
            names = [n for n in names if n not in ("Content-Type", "Accept", "Origin")]
            lines += ["Content-Type: application/json", "Accept: application/json, text/event-stream"]
    lines += [f"{name}: {draw.choice(HEADERS[name])}" for name in names]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


async def first_line(app: App, request: bytes) -> bytes:
    """Of the answer; empty where the node hung up, or waits for the rest of the request."""
    head = request.partition(b"\r\n\r\n")[0]
    whole = head.count(b"Content-Length") == 1 and not any(odd in head for odd in (b"Transfer", b"Expect", b"Upgrade"))
    reader, writer = await asyncio.open_connection("127.0.0.1", app.http_port)
    try:
        writer.write(request)
        async with asyncio.timeout(PATIENCE_S if whole else UNFINISHED_S):
            return await reader.readline()
    except ConnectionError:
        return b""
    except TimeoutError:
        assert not whole, request
        return b""
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_no_request_brings_a_fault(app: App, caplog: pytest.LogCaptureFixture) -> None:
    seed = int(os.environ.get("FUZZ_SEED", "7"))
    draw = random.Random(seed)
    seen: Counter[int] = Counter()
    with caplog.at_level(logging.WARNING):
        for n in range(REQUESTS):
            request = a_request(draw)
            line = await first_line(app, request)
            seen[int(line.split()[1]) if line else 0] += 1
            if line:
                protocol, status = line.split()[:2]
                assert protocol in (b"HTTP/1.1", b"HTTP/1.0"), (seed, n, request)
                assert int(status) in MEANT, (seed, n, request, line)
            found = [r.getMessage() for r in caplog.records if r.exc_info or "fault" in r.getMessage()]
            assert found == [], (seed, n, request)
    # That most of it gets past the first check, and far, is what makes it worth anything.
    assert {200, 400, 404} <= set(seen)
    assert seen[0] < REQUESTS / 4, seen
    async with aiohttp.ClientSession() as http, http.get(f"{app.url}/healthz") as answer:
        assert await answer.json() == {"status": "ok"}


async def test_no_message_over_a_websocket_brings_a_fault(app: App, caplog: pytest.LogCaptureFixture) -> None:
    draw = random.Random(11)
    with caplog.at_level(logging.WARNING):
        async with aiohttp.ClientSession() as http:
            for _ in range(max(4, REQUESTS // 40)):
                async with http.ws_connect(f"{app.url}/ws") as socket:
                    for _ in range(10):
                        body = draw.choice(BODIES)
                        if draw.random() < 0.1:
                            await socket.send_bytes(body.encode("latin-1"))
                        else:
                            await socket.send_str(body)
                        if socket.closed:
                            break
                    with contextlib.suppress(ConnectionError):
                        await socket.send_str(json.dumps({"jsonrpc": "2.0", "id": "last", "method": "ping"}))
                    async with asyncio.timeout(PATIENCE_S):
                        while (said := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                            heard = json.loads(said.data)
                            assert "internal error" not in said.data
                            if isinstance(heard, dict) and heard.get("id") == "last":
                                break
        assert [r.getMessage() for r in caplog.records if r.exc_info or "fault" in r.getMessage()] == []
