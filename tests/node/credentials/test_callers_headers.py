"""Nothing that a caller sends to a node in headers reaches a server, over any transport; nor does the node's own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from mcp.client import Client
from mcp.client.sse import sse_client

from node.app import App
from tests.node.credentials.conftest import World, started
from tests.node.waiting import WAIT_S, until
from tests.node.working import app_of

KEY = "tm_callers-own-key-0123456789abcdef"
MODERN = "2026-07-28"
NAMES = (
    *("Cookie", "Proxy-Authorization", "X-Auth-Token", "X-Forwarded-Access-Token", "X-Amzn-Oidc-Data", "DPoP"),
    *("X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-User", "X-Remote-User", "Referer", "From"),
    *("Mcp-Param-Secret", "Mcp-Custom", "X-Goog-IAP-JWT-Assertion", "Cf-Access-Token", "X-Vault-Token", "User-Agent"),
    *("X-CSRF-Token", "Client-Cert", "X-Client-Cert", "Via", "Authentication-Info", "X-Anything-At-All"),
)
CREDENTIALS = (
    {"Authorization": f"Bearer {KEY}"},
    {"X-API-Key": KEY},
)


def marked(n: int) -> dict[str, str]:
    """Every header with a value of its own, which is found again wherever it goes."""
    return {name: f"marker-{n}-{i}-zz" for i, name in enumerate(NAMES)}


pytestmark = pytest.mark.asyncio(loop_scope="module")

ENVIRONMENT = "import json, os, sys; from mcp.server.mcpserver import MCPServer\n" + (
    "server = MCPServer('env', log_level='WARNING')\n"
    "@server.tool()\n"
    "def whoami() -> str:\n"
    "    return json.dumps([dict(os.environ), sys.argv[1:]])\n"
    "server.run()\n"
)
ARGUMENTS = ("$(touch pwned)", "`touch pwned`", "; touch pwned", "a b", "*", "$HOME", "&& touch pwned", "")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    async with started() as world:
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(world: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    tmp_path = tmp_path_factory.mktemp("node")
    monkeypatch = pytest.MonkeyPatch()
    for name in ("TOOLMESH_SECRET_OF_THE_NODE", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD_HINT"):
        monkeypatch.setenv(name, "marker-environment-zz")
    ws = world.server.url.replace("http:", "ws:")
    auth = world.auth(token_url=f"{world.issuer.url}/token", scopes=["read"])
    servers: dict[str, dict[str, Any]] = {
        "over-http": {"url": f"{world.server.url}/mcp", "auth": auth},
        "over-sse": {"url": f"{world.server.url}/sse", "transport": "sse", "auth": auth},
        "over-ws": {"url": f"{ws}/ws", "auth": auth},
        "over-pipes": {"command": [sys.executable, "-c", ENVIRONMENT, *ARGUMENTS], "env": {"GIVEN": "given"}},
    }
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    keys = {"keys": [{"name": "caller", "sha256": digest, "scopes": ["operator"]}]}
    node = {"data_dir": str(tmp_path / "data")}
    app = app_of({"node": node, "servers": servers, "auth": keys}, tmp_path)
    await app.start()
    try:
        for name in servers:
            await until(app, lambda name=name: (s := app.catalog.find("local", name)) is not None and s.up)
        yield app
    finally:
        await app.stop()
        monkeypatch.undo()


async def call(http: aiohttp.ClientSession, app: App, name: str, headers: dict[str, str], *, modern: bool) -> str:
    """What `whoami` of that server answers."""
    params: dict[str, Any] = {"name": "whoami", "arguments": {}}
    sent = {"Accept": "application/json, text/event-stream", **headers}
    url = f"{app.url}/mcp/{name}"
    if modern:
        sent |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "whoami"}
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    else:
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        begin = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
        async with http.post(url, json=begin, headers=sent) as opened:
            assert opened.status == 200, await opened.text()
            sent["Mcp-Session-Id"] = opened.headers["Mcp-Session-Id"]
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    async with http.post(url, json=message, headers=sent) as answer:
        text = await answer.text()
    payload = next(line[5:] for line in text.splitlines() if line.startswith("data:")) if "data:" in text else text
    said: str = json.loads(payload)["result"]["content"][0]["text"]
    return said


@pytest.mark.parametrize("modern", [True, False], ids=["modern", "legacy"])
async def test_no_header_of_a_caller_reaches_a_server(world: World, app: App, modern: bool) -> None:
    before = len(world.server.seen)
    async with aiohttp.ClientSession() as http:
        for n, credential in enumerate(CREDENTIALS):
            for name in ("over-http", "over-sse", "over-ws", "over-pipes"):
                said = await call(http, app, name, {**marked(n), **credential}, modern=modern)
                assert "marker-" not in said
                assert KEY not in said
    assert len(world.server.seen) > before
    sent = json.dumps(world.server.seen) + "".join(world.server.bodies)
    assert "marker-" not in sent
    assert KEY not in sent
    for seen in world.server.seen:
        assert seen.get("Authorization", "").removeprefix("Bearer ") in {*world.issuer.tokens, ""}
        assert not {"cookie", "x-api-key"} & {name.lower() for name in seen}


async def over_websocket(app: App, name: str, headers: dict[str, str]) -> str:
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    url = f"{app.url.replace('http:', 'ws:')}/ws/{name}"
    async with aiohttp.ClientSession() as http, http.ws_connect(url, headers=headers, protocols=("mcp",)) as socket:
        await socket.send_json({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello})
        await socket.receive_json()
        await socket.send_json({"jsonrpc": "2.0", "method": "notifications/initialized"})
        call = {"name": "whoami", "arguments": {}}
        await socket.send_json({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call})
        async with asyncio.timeout(WAIT_S):
            while (answer := await socket.receive_json()).get("id") != 1:
                pass
    said: str = answer["result"]["content"][0]["text"]
    return said


async def over_sse(app: App, name: str, headers: dict[str, str]) -> str:
    async with Client(sse_client(f"{app.url}/sse/{name}", headers=headers)) as agent:
        return str((await agent.call_tool("whoami", {})).content)


@pytest.mark.parametrize("way", [over_websocket, over_sse])
async def test_no_header_of_a_connection_that_stays_reaches_a_server(world: World, app: App, way: Any) -> None:
    before = len(world.server.bodies)
    for n, credential in enumerate(CREDENTIALS):
        for name in ("over-http", "over-sse", "over-ws", "over-pipes"):
            said = await way(app, name, {**marked(n), **credential})
            assert "marker-" not in said
    assert len(world.server.bodies) > before
    sent = json.dumps(world.server.seen) + "".join(world.server.bodies)
    assert "marker-" not in sent
    assert KEY not in sent


async def test_a_command_sees_a_short_list_of_variables_and_its_arguments_as_they_are(app: App) -> None:
    async with aiohttp.ClientSession() as http:
        environment, arguments = json.loads(await call(http, app, "over-pipes", dict(CREDENTIALS[0]), modern=True))
    allowed = {"PATH", "HOME", "LANG", "TMPDIR", "TZ", "GIVEN", "LC_CTYPE"}
    assert {name for name in environment if not name.startswith("LC_")} <= allowed
    assert environment["GIVEN"] == "given"
    assert tuple(arguments) == ARGUMENTS


async def test_no_secret_is_in_what_a_node_tells_of_itself(
    world: World, app: App, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.node.credentials.world import SECRET

    async with aiohttp.ClientSession() as http:
        await call(http, app, "over-http", dict(CREDENTIALS[0]), modern=True)
        told = []
        for path in ("/api/v1/status", "/api/v1/explain?tool=over-http/whoami", "/api/v1/servers", "/metrics"):
            async with http.get(f"{app.url}{path}", headers=CREDENTIALS[0]) as answer:
                told.append(await answer.text())
    told += [repr(app.config), app.config.model_dump_json(), repr(app.hosting), repr(app.signing_in), caplog.text]
    for secret in (SECRET, KEY, *world.issuer.tokens):
        assert not any(secret in text for text in told)
