"""What passes unchanged over Streamable HTTP does so over WebSocket, HTTP+SSE and stdio: in each era, place and server.

A call, what comes ahead of its answer, the server's questions and the client's replies, and giving up on it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp
import pytest

from tests.node.mirrored.agents import CAPABILITIES, Agent, Told, as_told, bare, saw, text_of
from tests.node.mirrored.messages import same
from tests.node.mirrored.world import CELLS, Mirrors

pytestmark = pytest.mark.asyncio(loop_scope="module")

STRANGE = {"x": [None, 1.0, -0.0, 2**70, "\U0001f600\u2028\u0000"], "": {"content": [{"type": "unheard-of"}]}}

PROGRESS = {"method": "notifications/progress", "params": {"progressToken": "t", "progress": 1}}


class Wire(Protocol):
    """One connection: messages out, messages in."""

    async def say(self, text: str) -> None: ...

    async def hear(self) -> str: ...


class Socket:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def say(self, text: str) -> None:
        await self._socket.send_str(text)

    async def hear(self) -> str:
        return await self._socket.receive_str()


class Stream:
    def __init__(self, http: aiohttp.ClientSession, base: str, response: aiohttp.ClientResponse) -> None:
        self._http = http
        self._base = base
        self._response = response
        self._address = ""

    async def say(self, text: str) -> None:
        address = self._address = self._address or self._base + await self.hear()
        headers = {"Content-Type": "application/json"}
        async with self._http.post(address, data=text.encode(), headers=headers) as response:
            assert response.status == 202, await response.text()

    async def hear(self) -> str:
        async for line in self._response.content:
            if line.startswith(b"data: "):
                return line[6:].decode().rstrip("\n")
        raise AssertionError("the stream has ended")


class Pipe:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def say(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")
        await self._process.stdin.drain()

    async def hear(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode()


class TwoWay(Agent):
    """The client of the other tests, on one connection."""

    def __init__(self, wire: Wire, era: str, capabilities: dict[str, Any]) -> None:
        super().__init__(None, "", era, capabilities)  # type: ignore[arg-type]
        self.wire = wire

    async def open(self) -> TwoWay:
        if not self.modern:
            info = {"name": "raw", "version": "1"}
            params = {"protocolVersion": self.era, "capabilities": self.capabilities, "clientInfo": info}
            await self._round({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}, Told())
            await self.notify("notifications/initialized")
        return self

    async def _round(self, message: dict[str, Any], told: Told) -> None:
        told.answer = {}
        await self.wire.say(text_of(message))
        while not told.answer:
            said = json.loads(await self.wire.hear())
            if "method" not in said:
                assert said["id"] == message["id"], said
                told.answer = said
            elif "id" in said:
                told.asked.append({k: v for k, v in said.items() if k in ("method", "params")})
                await self.reply({"jsonrpc": "2.0", "id": said["id"], "result": self.replies(told.asked[-1])})
            else:
                told.events.append(said)

    async def reply(self, message: dict[str, Any]) -> None:
        await self.wire.say(text_of(message))


@asynccontextmanager
async def over(transport: str, world: Mirrors, place: str, server: str) -> AsyncIterator[Wire]:
    base = world.at(place).url
    if transport == "ws":
        async with world.http.ws_connect(f"{base}/ws/{server}", max_msg_size=0) as socket:
            yield Socket(socket)
    elif transport == "sse":
        async with world.http.get(f"{base}/sse/{server}") as response:
            yield Stream(world.http, base, response)
    else:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "node.cli", "stdio", "--url", base, "--server", server,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env={**os.environ}, limit=2**26,
        )  # fmt: skip
        try:
            yield Pipe(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            async with asyncio.timeout(20):
                assert await process.wait() == 0


TRANSPORTS = pytest.mark.parametrize("transport", ["ws", "sse", "stdio"])


@TRANSPORTS
@CELLS
async def test_a_call_its_questions_and_its_answer_pass_unchanged(
    world: Mirrors, transport: str, era: str, server: str, place: str
) -> None:
    questions = [
        {"method": "roots/list", "params": {"x-number": 0, **STRANGE}},
        {"method": "sampling/createMessage", "params": {"x-number": 1, "messages": [], "maxTokens": 7, **STRANGE}},
    ]
    replies = [{"roots": [], **STRANGE}, {"role": "assistant", "content": {"type": "x"}, "model": "m", **STRANGE}]
    async with over(transport, world, place, server) as wire:
        agent = await TwoWay(wire, era, CAPABILITIES).open()
        agent.replies = lambda question: replies[question["params"]["x-number"]]
        progress = {"method": "notifications/progress", "params": {"progressToken": "t", "progress": 0.5, **STRANGE}}
        orders = {"answer": {"content": [], **STRANGE}, "notify": [progress], **STRANGE}
        told = await agent.tool("mirror", orders, _meta={"progressToken": "t", "x-vendor": STRANGE})
        assert same(as_told(told), {"content": [], **STRANGE})
        assert same(saw(told)["arguments"], orders)
        assert same([bare(event) for event in told.events], [progress])
        told = await agent.tool("mirror", {"ask": questions})
        assert same(sorted(told.asked, key=lambda question: question["params"]["x-number"]), questions)
        assert same(json.loads(told.result["x-replies"]), replies)


@TRANSPORTS
@CELLS
async def test_what_a_client_gives_up_ends_at_the_server(
    world: Mirrors, transport: str, era: str, server: str, place: str
) -> None:
    async with over(transport, world, place, server) as wire:
        agent = await TwoWay(wire, era, {}).open()
        before = (await agent.tool("counts", {})).result["structuredContent"].get("released", 0)
        held = agent.request(
            "tools/call", {"name": "mirror", "arguments": {"hold": True, "notify": [PROGRESS]}}, "held"
        )
        held["params"].setdefault("_meta", {})["progressToken"] = "t"
        await wire.say(text_of(held))
        # It runs: the server has said something.
        assert json.loads(await wire.hear())["method"] == "notifications/progress"
        await agent.notify("notifications/cancelled", {"requestId": "held"})
        async with asyncio.timeout(20):
            while (await agent.tool("counts", {})).result["structuredContent"].get("released", 0) == before:
                pass
