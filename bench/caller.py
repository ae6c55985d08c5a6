"""The client of every measurement: bare aiohttp, one prepared `tools/call` of either era, as cheap as it can be."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass

import aiohttp
import orjson

LEGACY, MODERN = "2025-11-25", "2026-07-28"
ERAS = (LEGACY, MODERN)
_META = "io.modelcontextprotocol/"
_BOTH = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
_INFO = {"name": "bench", "version": "1"}


@dataclass(frozen=True, slots=True)
class Caller:
    """`session` must allow as many connections as calls are made at once."""

    session: aiohttp.ClientSession
    url: str
    body: bytes
    headers: dict[str, str]

    @classmethod
    async def of(cls, session: aiohttp.ClientSession, url: str, era: str, tool: str = "echo") -> Caller:
        """Calls `tool` with 200 bytes of text; before 2026-07-28 within a session, if the other side has any."""
        headers = dict(_BOTH)
        params = {"name": tool, "arguments": {"text": "x" * 200}}
        if era == MODERN:
            headers |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": tool}
            envelope = {"protocolVersion": MODERN, "clientInfo": _INFO, "clientCapabilities": {}}
            params["_meta"] = {_META + name: value for name, value in envelope.items()}
        else:
            opening = {"protocolVersion": era, "capabilities": {}, "clientInfo": _INFO}
            async with session.post(url, data=_request("initialize", opening), headers=headers) as response:
                await response.read()
                if session_id := response.headers.get("Mcp-Session-Id"):
                    headers["Mcp-Session-Id"] = session_id
            headers["MCP-Protocol-Version"] = era
        return cls(session, url, _request("tools/call", params), headers)

    async def call(self) -> None:
        async with self.session.post(self.url, data=self.body, headers=self.headers) as response:
            text = await response.read()
            assert response.status == 200, text

    async def answers(self) -> bool:
        async with self.session.post(self.url, data=self.body, headers=self.headers) as response:
            text = await response.read()
            return response.status == 200 and b'"content"' in text and b'"isError":true' not in text

    async def load(self, calls: int, at_once: int) -> float:
        """Seconds for so many calls."""
        left = calls

        async def worker() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await self.call()

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(at_once)))
        return time.perf_counter() - began

    async def p50_ms(self, calls: int) -> float:
        """One after the other."""
        took = []
        for _ in range(calls):
            began = time.perf_counter()
            await self.call()
            took.append((time.perf_counter() - began) * 1e3)
        return statistics.median(took)


async def ready(session: aiohttp.ClientSession, url: str, era: str) -> bool:
    """Whether a server answers a call there."""
    caller = await Caller.of(session, url, era)
    return await caller.answers()


def _request(method: str, params: dict[str, object]) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
