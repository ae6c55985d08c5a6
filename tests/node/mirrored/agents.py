"""A client of either era on bare HTTP: it says what it is told to say, and keeps all that it hears as it was said."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

MODERN, LEGACY = "2026-07-28", "2025-11-25"
META = "io.modelcontextprotocol/"
ENVELOPE = frozenset(META + word for word in ("protocolVersion", "clientCapabilities", "clientInfo", "logLevel"))
"""What 2026-07-28 writes into `_meta` about one connection; it says nothing beyond it."""
CAPABILITIES: dict[str, Any] = {
    "sampling": {"x-vendor": None},
    "elicitation": {"form": {}, "url": {}},
    "roots": {"listChanged": True},
}
PATIENCE_S = 60.0
ROUNDS_MAX = 10

Replies = Callable[[dict[str, Any]], Any]
"""Of a question `{method, params}`: the result that the client replies with."""


def nothing_to_say(question: dict[str, Any]) -> Any:
    raise AssertionError(f"nobody was to be asked {question}")


@dataclass
class Told:
    """The answer, what came ahead of it, and what was asked meanwhile (`{method, params}` each)."""

    answer: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)

    @property
    def result(self) -> dict[str, Any]:
        assert "result" in self.answer, self.answer
        result: dict[str, Any] = self.answer["result"]
        return result

    @property
    def error(self) -> dict[str, Any]:
        assert "error" in self.answer, str(self.answer)[:2_000]
        error: dict[str, Any] = self.answer["error"]
        return error


def text_of(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def header_of(value: str) -> str:
    """As 2026-07-28 writes a name that a header cannot hold."""
    if value.isascii() and value.isprintable() and value == value.strip():
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


async def messages_of(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Every message of an answer, as it comes, however long."""
    if response.content_type != "text/event-stream":
        body = await response.read()
        if body:
            yield json.loads(body)
        return
    held = bytearray()
    async for chunk in response.content.iter_any():
        begin = max(0, len(held) - 1)
        held += chunk
        while (end := held.find(b"\n\n", begin)) >= 0:
            event, begin = bytes(held[:end]), 0
            del held[: end + 2]
            data = b"".join(line[6:] for line in event.split(b"\n") if line.startswith(b"data: "))
            if data:
                yield json.loads(data)


class Agent:
    """One client of one era at one address. `open` it before it asks."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        era: str,
        capabilities: dict[str, Any] | None = None,
        replies: Replies = nothing_to_say,
    ) -> None:
        self.era = era
        self.url = url
        self.capabilities = {} if capabilities is None else capabilities
        self.replies = replies
        self.headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
        self._http = http
        self._ids = itertools.count(1)

    @property
    def modern(self) -> bool:
        return self.era >= MODERN

    async def open(self) -> Agent:
        if not self.modern:
            info = {"name": "raw", "version": "1"}
            params = {"protocolVersion": self.era, "capabilities": self.capabilities, "clientInfo": info}
            message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
            async with self.post(message) as response:
                assert response.status == 200, await response.text()
                self.headers["Mcp-Session-Id"] = response.headers["Mcp-Session-Id"]
            self.headers["MCP-Protocol-Version"] = self.era
            await self.notify("notifications/initialized")
        return self

    async def close(self) -> None:
        if not self.modern:
            async with self._http.delete(self.url, headers=self.headers) as response:
                assert response.status in (200, 204), await response.text()

    def request(self, method: str, params: dict[str, Any], request_id: Any = None) -> dict[str, Any]:
        if self.modern:
            envelope = {META + "protocolVersion": self.era, META + "clientCapabilities": self.capabilities}
            params = {**params, "_meta": {**params.get("_meta", {}), **envelope}}
        number = next(self._ids) if request_id is None else request_id
        return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}

    def post(self, message: dict[str, Any] | list[Any] | str, **headers: str) -> Any:
        """POST a message, or a text as it is (its headers are then the caller's)."""
        sent = {**self.headers, **headers}
        if self.modern and isinstance(message, dict):
            sent |= {"MCP-Protocol-Version": self.era, "Mcp-Method": message["method"]}
            named = message["params"].get("name", message["params"].get("uri"))
            if isinstance(named, str):
                sent["Mcp-Name"] = header_of(named)
        text = message if isinstance(message, str) else text_of(message)
        # In a file of its own, a long one does not hold the loop up.
        return self._http.post(self.url, data=io.BytesIO(text.encode()), headers=sent)

    @asynccontextmanager
    async def posted(self, message: dict[str, Any]) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """What comes back on one POST, as it comes."""
        async with self.post(message) as response:
            yield messages_of(response)

    async def ask(self, method: str, params: dict[str, Any], request_id: Any = None) -> Told:
        """One request to its answer, questions answered on the way."""
        told = Told()
        async with asyncio.timeout(PATIENCE_S):
            message = self.request(method, params, request_id)
            for _ in range(ROUNDS_MAX + 1):
                await self._round(message, told)
                result = told.answer.get("result")
                if not (self.modern and isinstance(result, dict) and result.get("resultType") == "input_required"):
                    return told
                message = self.request(method, {**params, **self._retry(result, told)})
        raise AssertionError(f"still asking after {ROUNDS_MAX} rounds: {told.asked}")

    async def _round(self, message: dict[str, Any], told: Told) -> None:
        told.answer = {}
        async with self.posted(message) as heard:
            async for said in heard:
                if "method" not in said:
                    assert said["id"] == message["id"], said
                    told.answer = said
                elif "id" in said:
                    told.asked.append({k: v for k, v in said.items() if k in ("method", "params")})
                    reply = self.replies(told.asked[-1])
                    await self.reply({"jsonrpc": "2.0", "id": said["id"], "result": reply})
                else:
                    told.events.append(said)

    def _retry(self, result: dict[str, Any], told: Told) -> dict[str, Any]:
        asked = result.get("inputRequests") or {}
        told.asked += asked.values()
        more = {"requestState": result["requestState"]} if "requestState" in result else {}
        return {"inputResponses": {key: self.replies(question) for key, question in asked.items()}, **more}

    async def reply(self, message: dict[str, Any]) -> None:
        async with self.post(message) as response:
            assert response.status == 202, await response.text()

    async def notify(self, method: str, params: dict[str, Any] | None = None) -> None:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        await self.reply(message)

    async def tool(self, name: str, arguments: dict[str, Any], request_id: Any = None, **more: Any) -> Told:
        return await self.ask("tools/call", {"name": name, "arguments": arguments, **more}, request_id)


def heard_meta(params: dict[str, Any]) -> dict[str, Any]:
    """`_meta` as a server heard it, without what belongs to its own connection."""
    return {k: v for k, v in (params.get("_meta") or {}).items() if k not in ENVELOPE and k != "progressToken"}


def as_told(told: Told) -> dict[str, Any]:
    """The server's own members of a result: what 2026-07-28 demands of every one, and the mirror's own, left out."""
    own = ("resultType", "ttlMs", "cacheScope", "x-saw", "x-replies")
    return {k: v for k, v in told.result.items() if k not in own}


def saw(told: Told) -> dict[str, Any]:
    """The params that the mirror was called with."""
    params: dict[str, Any] = json.loads(told.result["x-saw"])
    return params


def bare(message: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in message.items() if k != "jsonrpc"}


class Clients:
    """One client for each cell, opened when first asked for. `url(place, path)` is where a node listens."""

    def __init__(self, http: aiohttp.ClientSession, url: Callable[[str, str], str]) -> None:
        self._http = http
        self._url = url
        self._open: dict[tuple[str, str, str, bool], Agent] = {}

    async def of(self, era: str, server: str, place: str, answering: bool = False) -> Agent:
        key = (era, server, place, answering)
        if key not in self._open:
            agent = Agent(self._http, self._url(place, f"/mcp/{server}"), era, CAPABILITIES if answering else {})
            self._open[key] = await agent.open()
        return self._open[key]
