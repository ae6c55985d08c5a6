"""One node as its agents and operators reach it: HTTP on its own loopback, whatever is cut around it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import aiohttp

from tests.lab.net import Lab

PORT = 7400
ANSWER_S = 20.0
REVISION = "2026-07-28"
_META = "io.modelcontextprotocol/"


class Outcome(NamedTuple):
    """Of one call: the text of its result, or (`failed`) why there is none."""

    text: str
    failed: bool


class Api:
    """Not answering is an answer: `status` is None then, and a call has failed. `key` is shown with every request."""

    def __init__(self, lab: Lab, node: str, key: str = "") -> None:
        self.node = node
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        self._session = aiohttp.ClientSession(
            f"http://127.0.0.1:{PORT}",
            connector=lab.connector(node),
            timeout=timeout,
            headers={"Authorization": f"Bearer {key}"} if key else None,
        )

    async def close(self) -> None:
        await self._session.close()

    async def ready(self) -> bool:
        try:
            async with self._session.get("/readyz") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def status(self) -> dict[str, Any] | None:
        """`/api/v1/status`; None if the node does not answer."""
        try:
            async with self._session.get("/api/v1/status") as response:
                answer: dict[str, Any] = await response.json()
                return answer
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def ask(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, dict[str, Any]]:
        """(status, JSON) of an operator's route; `key` is shown in place of the operator's."""
        headers = {"Authorization": f"Bearer {key}"} if key else None
        async with self._session.request(method, f"/api/v1{path}", json=body, headers=headers) as response:
            return response.status, await response.json()

    async def call(self, server: str, tool: str, **arguments: Any) -> Outcome:
        """One tool, as an agent would: `use_tool` of MCP 2026-07-28."""
        use = {"mcp_server_name": server, "mcp_tool_name": tool, "params": arguments}
        meta = {
            f"{_META}protocolVersion": REVISION,
            f"{_META}clientInfo": {"name": "lab", "version": "1"},
            f"{_META}clientCapabilities": {},
        }
        params = {"name": "use_tool", "arguments": use, "_meta": meta}
        headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": REVISION,
            "Mcp-Method": "tools/call",
            "Mcp-Name": "use_tool",
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        try:
            async with self._session.post("/mcp", json=body, headers=headers) as response:
                return _outcome(await response.text())
        except (aiohttp.ClientError, TimeoutError) as e:
            return Outcome(f"{self.node}: {type(e).__name__}: {e}", failed=True)


def _outcome(text: str) -> Outcome:
    """Of a JSON body, or of the last event of a stream."""
    if not text.startswith("{"):
        text = [line.removeprefix("data:") for line in text.splitlines() if line.startswith("data:")][-1]
    answer = json.loads(text)
    result = answer.get("result")
    if result is None:
        return Outcome(json.dumps(answer.get("error") or answer), failed=True)
    said = " ".join(part.get("text", "") for part in result.get("content", ()))
    return Outcome(said, failed=bool(result.get("isError")))
