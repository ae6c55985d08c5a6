"""One call from end to end: agent, entry node, owner and server are real; what must not change on the way does not.

Everything is asked of both nodes (the server's owner, and a peer of it) and in both eras.
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
import pytest_asyncio

from federation.ca import init_ca, issue
from node.app import App
from node.config import parse
from node.guard.open import OpenGuard
from node.ports import Admission, Caller
from proto.calls import Answer, Call, Notification
from proto.errors import (
    ERRORS,
    Conflict,
    Exhausted,
    Expired,
    Fault,
    Forbidden,
    Invalid,
    MeshError,
    OutcomeUnknown,
    ScopeRequired,
    Unauthenticated,
    Unavailable,
    Unknown,
)
from proto.names import NodeId

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVER = Path(__file__).parent / "servers" / "peculiar.py"
MESH = "mesh.test"
MODERN, LEGACY = "2026-07-28", "2025-11-25"
BOTH = "application/json, text/event-stream"
SEEN = {"kept": [None, 1.5, 12345678901234567890, "é"], "_meta": {"vendor/x": None}}
PATIENCE_S = 20.0


@dataclass
class World:
    owner: App
    peer: App
    http: aiohttp.ClientSession

    def at(self, place: str) -> App:
        return self.owner if place == "local" else self.peer


async def up(app: App, owner: str, *servers: str) -> None:
    changed = asyncio.Event()
    app.catalog.listen(lambda *_: changed.set())

    def holds() -> bool:
        found = [app.catalog.find(owner, server) for server in servers]
        return all(s is not None and s.up and s.tools for s in found)

    async with asyncio.timeout(60):
        while not holds():
            changed.clear()
            await changed.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """ap-1 owns the server twice, once with a short limit for calls; eu-1 dials it."""
    base = tmp_path_factory.mktemp("mesh")
    init_ca(base / "ca", MESH)
    command = [sys.executable, "-S", "-E", str(SERVER)]
    servers = {"odd": {"command": command}, "hasty": {"command": command, "call_timeout_s": 1}}

    def settings(region: str, static: list[str], **more: Any) -> dict[str, Any]:
        name = f"{region}-1"
        files = issue(base / "ca", NodeId.of(MESH, region, name), base / name, hosts=["127.0.0.1"])
        return {
            "node": {"name": name, "region": region, "mesh": MESH, "data_dir": str(base / name / "data")},
            "http": {"listen": "127.0.0.1:0"},
            "search": {"embedder": "none"},
            "federation": {
                "listen": "127.0.0.1:0",
                "tls": {"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)},
                "static": static,
                "mdns": {"enabled": False},
            },
            **more,
        }

    async with AsyncExitStack() as stack:
        owner = App(parse(settings("ap", [], servers=servers), base))
        stack.push_async_callback(owner.stop)
        await owner.start()
        assert owner.federation is not None
        peer = App(parse(settings("eu", [f"127.0.0.1:{owner.federation.bound_port}"]), base))
        stack.push_async_callback(peer.stop)
        await peer.start()
        for app in (owner, peer):
            await up(app, "ap-1", *servers)
        # An answer that takes longer than a second is one line of an event stream, however long.
        http = await stack.enter_async_context(aiohttp.ClientSession(read_bufsize=2**24))
        yield World(owner, peer, http)


class Agent:
    """A client of one era at one path, on bare HTTP: what it is answered is what was sent."""

    def __init__(self, world: World, place: str, era: str, path: str = "/mcp/odd") -> None:
        self.era = era
        self._http = world.http
        self._url = world.at(place).url + path
        self._headers = {"Accept": BOTH}
        self._last_id = 0

    async def open(self) -> Agent:
        if self.era == LEGACY:
            params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
            async with self.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}) as response:
                assert response.status == 200, await response.text()
                self._headers["Mcp-Session-Id"] = response.headers["Mcp-Session-Id"]
        return self

    def request(self, method: str, params: dict[str, Any], request_id: int | None = None) -> dict[str, Any]:
        self._last_id += 1
        if self.era == MODERN:
            envelope = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            params = {**params, "_meta": {**params.get("_meta", {}), **envelope}}
        number = self._last_id if request_id is None else request_id
        return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}

    def post(self, message: dict[str, Any]) -> Any:
        headers = dict(self._headers)
        if self.era == MODERN:
            headers |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": message["method"]}
            named = message["params"].get("name") or message["params"].get("uri")
            if named:
                headers["Mcp-Name"] = named
        return self._http.post(self._url, json=message, headers=headers)

    @asynccontextmanager
    async def posted(self, message: dict[str, Any]) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Every message that comes back on the POST, as it comes."""
        async with self.post(message) as response:
            yield self._messages(response)

    async def _messages(self, response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
        if response.content_type == "text/event-stream":
            async for line in response.content:
                # The event that primes a stream for resumption is empty.
                if line.startswith(b"data: ") and (data := line[6:].strip()):
                    yield json.loads(data)
        elif response.status != 202:
            yield json.loads(await response.read())

    async def ask(self, method: str, params: dict[str, Any], request_id: int | None = None) -> dict[str, Any]:
        """The answer; what came before it is dropped."""
        async with asyncio.timeout(PATIENCE_S), self.posted(self.request(method, params, request_id)) as messages:
            return [m async for m in messages][-1]

    async def tool(self, name: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
        return await self.ask("tools/call", {"name": name, "arguments": arguments, **more})

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        async with self.post({"jsonrpc": "2.0", "method": method, "params": params}) as response:
            assert response.status == 202


EVERYWHERE = pytest.mark.parametrize(
    ("place", "era"), [(place, era) for place in ("local", "remote") for era in (MODERN, LEGACY)]
)


def as_told(result: dict[str, Any], era: str) -> dict[str, Any]:
    """The server's own result: 2026-07-28 demands members that the gateway adds for a server of an earlier one."""
    if era == LEGACY:
        return result
    assert result["resultType"] == "complete"
    return {k: v for k, v in result.items() if k not in ("resultType", "ttlMs", "cacheScope")}


@EVERYWHERE
@pytest.mark.parametrize("path", ["/mcp/odd", "/mcp"])
async def test_a_cancelled_call_is_cancelled_at_its_server(world: World, place: str, era: str, path: str) -> None:
    agent = await Agent(world, place, era, path).open()
    mark = f"{place}{era}{path}"
    params: dict[str, Any] = {"name": "slow", "arguments": {"mark": mark}, "_meta": {"progressToken": "p"}}
    if path == "/mcp":
        inner = {"mcp_server_name": "odd", "mcp_tool_name": "slow", "params": params["arguments"]}
        params = {**params, "name": "use_tool", "arguments": inner}
    message = agent.request("tools/call", params)
    async with asyncio.timeout(PATIENCE_S):
        async with agent.posted(message) as messages:
            begun = await anext(messages)
            assert begun["params"]["progressToken"] == "p"
            if era == LEGACY:
                await agent.notify("notifications/cancelled", {"requestId": message["id"]})
                assert [m async for m in messages] == []
        # At 2026-07-28 leaving the block, which closes the connection, was the cancel.
        watcher = await Agent(world, "local", LEGACY).open()
        assert "result" in await watcher.tool("cancelled", {"mark": mark})


@pytest.mark.parametrize("place", ["local", "remote"])
async def test_a_disconnect_of_a_session_is_no_cancel(world: World, place: str) -> None:
    agent = await Agent(world, place, LEGACY).open()
    mark = f"stays {place}"
    message = agent.request("tools/call", {"name": "slow", "arguments": {"mark": mark}, "_meta": {"progressToken": 1}})
    async with asyncio.timeout(PATIENCE_S):
        async with agent.posted(message) as messages:
            await anext(messages)
        assert world.at(place).gateway.in_flight == 1
        await agent.notify("notifications/cancelled", {"requestId": message["id"]})
        assert "result" in await agent.tool("cancelled", {"mark": mark})


@EVERYWHERE
@pytest.mark.parametrize("path", ["/mcp/odd", "/mcp"])
async def test_what_no_revision_knows_passes_both_ways_unchanged(world: World, place: str, era: str, path: str) -> None:
    agent = await Agent(world, place, era, path).open()
    arguments = {"null": None, "big": 12345678901234567890, "nested": {"_meta": {"a": None}}}
    name, outer = "odd", arguments
    if path == "/mcp":
        name, outer = "use_tool", {"mcp_server_name": "odd", "mcp_tool_name": "odd", "params": arguments}
    extra = {} if path == "/mcp" else {"x-vendor": [None]}
    told = await agent.tool(name, outer, _meta={"vendor/k": None}, **extra)
    result = as_told(told["result"], era)
    assert result == {
        "content": [
            {"type": "hologram", "frames": [1, None], "_meta": {"a": None}},
            {"type": "text", "text": "", "x": 0},
        ],
        "structuredContent": {"null": None, "deep": [[{}], []]},
        "isError": False,
        "x-unknown": SEEN,
        "_meta": {"vendor/trace": "t", "null": None},
        "x-params": {"name": "odd", "arguments": arguments, **extra},
        "x-meta": {"vendor/k": None},
    }


@EVERYWHERE
async def test_every_other_method_and_list_passes_unchanged(world: World, place: str, era: str) -> None:
    agent = await Agent(world, place, era).open()

    async def told(method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        return as_told((await agent.ask(method, params or {}))["result"], era)

    tools = (await told("tools/list"))["tools"]
    assert tools[0] == {"name": "slow", "inputSchema": {"type": "object"}, "x-unknown": SEEN}
    assert await told("prompts/list") == {"prompts": [{"name": "greet", "x-unknown": SEEN}]}
    assert await told("resources/list") == {"resources": [{"uri": "odd://note", "name": "note", "x-unknown": SEEN}]}
    templates = [{"uriTemplate": "odd://{x}", "name": "any", "x-unknown": SEEN}]
    assert await told("resources/templates/list") == {"resourceTemplates": templates}
    prompt = {"role": "user", "content": {"type": "hologram", "x": None}, "x-unknown": SEEN}
    assert await told("prompts/get", {"name": "greet"}) == {"messages": [prompt], "x-unknown": SEEN}
    note = {"contents": [{"uri": "odd://note", "x-bytes": None}], "x-unknown": SEEN}
    assert await told("resources/read", {"uri": "odd://note"}) == note
    ref = {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "x", "value": ""}}
    completion = {"completion": {"values": ["a"], "x": None}, "x-unknown": SEEN}
    assert await told("completion/complete", ref) == completion
    assert await told("vendor/echo", {"odd": [None]}) == {"params": {"odd": [None]}, "x-unknown": SEEN}


@EVERYWHERE
async def test_a_servers_own_error_is_the_answer_with_its_data(world: World, place: str, era: str) -> None:
    agent = await Agent(world, place, era).open()
    error = (await agent.tool("refuse", {}))["error"]
    assert error == {
        "code": -31234,
        "message": "not on Sundays",
        "data": {"until": None, "days": [1, {"x": 2.5}]},
        "x-more": [0],
    }
    missing = (await agent.ask("resources/read", {"uri": "odd://none"}))["error"]
    # Only its code differs: 2026-07-28 has another one for what is not found.
    code = -32602 if era == MODERN else -32002
    assert missing == {"code": code, "message": "no such note", "data": {"uri": "odd://none"}}
    unknown = (await agent.ask("vendor/none", {}))["error"]
    assert unknown == {"code": -32601, "message": "no such method"}


@EVERYWHERE
async def test_an_error_that_no_client_could_read_is_completed_and_keeps_what_it_held(
    world: World, place: str, era: str
) -> None:
    agent = await Agent(world, place, era).open()
    blunt = (await agent.tool("blunt", {}))["error"]
    assert (blunt["code"], blunt["data"]) == (-32603, "boom")
    assert "no object" in blunt["message"]
    mute = (await agent.tool("mute", {}))["error"]
    assert (mute["code"], mute["data"]) == (-32603, [None])
    assert "no message" in mute["message"]


@EVERYWHERE
async def test_progress_bears_each_callers_own_token(world: World, place: str, era: str) -> None:
    agent = await Agent(world, place, era).open()

    async def counted(token: str | int) -> list[tuple[Any, Any, Any]]:
        params = {"name": "count", "arguments": {}, "_meta": {"progressToken": token}}
        async with agent.posted(agent.request("tools/call", params)) as messages:
            heard = [m async for m in messages]
        assert "result" in heard.pop()
        return [(m["params"]["progressToken"], m["params"]["progress"], m["params"]["x-unknown"]) for m in heard]

    tokens: list[str | int] = ["same", "same", 7]
    async with asyncio.timeout(PATIENCE_S):
        heard = await asyncio.gather(*map(counted, tokens))
    assert heard == [[(token, done, SEEN) for done in (1, 2, 3)] for token in tokens]


@EVERYWHERE
async def test_two_calls_of_one_id_at_once_each_get_their_own_answer(world: World, place: str, era: str) -> None:
    agent = await Agent(world, place, era).open()

    async def pair(who: str) -> Any:
        params = {"name": "pair", "arguments": {"mark": f"{place}{era}", "who": who}}
        return (await agent.ask("tools/call", params, request_id=1))["result"]["who"]

    assert await asyncio.gather(pair("a"), pair("b")) == ["a", "b"]


@EVERYWHERE
async def test_a_result_of_many_megabytes_arrives_whole(world: World, place: str, era: str) -> None:
    agent = await Agent(world, place, era).open()
    result = (await agent.tool("big", {"characters": 2_600_000}))["result"]
    assert result["content"] == [{"type": "text", "text": "é" * 2_600_000}]


@EVERYWHERE
async def test_a_call_beyond_its_servers_limit_has_expired_and_was_cancelled(
    world: World, place: str, era: str
) -> None:
    agent = await Agent(world, place, era, "/mcp/hasty").open()
    mark = f"late {place}{era}"
    error = (await agent.tool("slow", {"mark": mark}))["error"]
    assert (error["code"], error["data"]["kind"], error["data"]["started"]) == (-32055, "expired", True)
    assert "1 s" in error["message"]
    assert "result" in await agent.tool("cancelled", {"mark": mark})


class Quiet:
    def event(self, notification: Notification) -> None:
        return

    async def request(self, request: Notification) -> Answer:
        raise AssertionError("nothing was to be asked")


@pytest.mark.parametrize("place", ["local", "remote"])
async def test_a_call_whose_own_budget_is_over_has_expired_and_was_cancelled(world: World, place: str) -> None:
    params = {"name": "slow", "arguments": {"mark": f"budget {place}"}}
    with pytest.raises(Expired):
        await world.at(place).gateway.call("odd", "tools/call", params, Caller(), Quiet(), budget_ms=300)
    agent = await Agent(world, "local", LEGACY).open()
    assert "result" in await agent.tool("cancelled", params["arguments"])  # type: ignore[arg-type]


@EVERYWHERE
async def test_a_request_cannot_cancel_what_another_caller_runs(world: World, place: str, era: str) -> None:
    agent = await Agent(world, place, era).open()
    error = (await agent.ask("notifications/cancelled", {"requestId": 1}))["error"]
    assert error["code"] == -32601


class Refusing(OpenGuard):
    """The owner's guard, saying no in a given way."""

    def __init__(self, error: MeshError) -> None:
        self._error = error

    async def admit(self, call: Call, *resources: Any) -> Admission:
        raise self._error


REFUSALS: dict[str, tuple[MeshError, int, int]] = {
    "unknown": (Unknown("gone"), -32602, 400),
    "forbidden": (Forbidden("secret rule"), -32602, 400),
    "invalid": (Invalid("wrong"), -32602, 400),
    "unauthenticated": (Unauthenticated("who"), -32050, 401),
    "scope_required": (ScopeRequired("more", scopes=["a:b"]), -32051, 403),
    "conflict": (Conflict("two"), -32052, 200),
    "exhausted": (Exhausted("full", retry_after_s=3), -32053, 429),
    "unavailable": (Unavailable("away", retry_after_s=3), -32054, 503),
    "expired": (Expired("late"), -32055, 200),
    "outcome_unknown": (OutcomeUnknown("who knows", call_id="c"), -32056, 200),
    "fault": (Fault("secret detail"), -32603, 200),
}


@pytest.mark.parametrize("kind", list(ERRORS))
@pytest.mark.parametrize("era", [MODERN, LEGACY])
async def test_an_owners_refusal_is_told_alike_next_door_and_across_the_mesh(
    world: World, kind: str, era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, code, status = REFUSALS[kind]
    agents = [await Agent(world, place, era).open() for place in ("local", "remote")]
    monkeypatch.setattr(world.owner.gateway._attempts, "_guard", Refusing(error))
    told = []
    for agent in agents:
        async with agent.post(agent.request("tools/call", {"name": "count", "arguments": {}})) as response:
            body = (await response.json())["error"]
            told.append((response.status, response.headers.get("Retry-After"), body))
    assert told[0] == told[1]
    assert (told[1][2]["code"], told[1][2]["data"]["kind"]) == (code, "unknown" if kind == "forbidden" else kind)
    assert told[1][0] == (status if era == MODERN or status in (401, 403) else 200)
    assert "secret" not in str(told)


async def test_nothing_is_left_running(world: World) -> None:
    """Stands last: whatever was cancelled above has ended on both nodes."""
    for app in (world.owner, world.peer):
        assert app.gateway.in_flight == 0
        assert {r.outcome for r in app.gateway.recent} <= {"ok", "tool_error", "cancelled", *ERRORS}
