"""A bare MCP server of one era, the cheapest answer that is still the protocol.

`python -m bench.upstream ERA TOOLS PORT` over Streamable HTTP, and without a port over pipes.
"""

from __future__ import annotations

import sys
from typing import Any

import orjson
from aiohttp import web

MODERN = "2026-07-28"
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


class Server:
    def __init__(self, era: str, tools: int) -> None:
        self._era = era
        self._added: dict[str, Any] = {"resultType": "complete"} if era == MODERN else {}
        self._about = {"capabilities": {"tools": {}}, "serverInfo": {"name": "bench", "version": "1"}}
        names = ["echo", *(f"echo-{n}" for n in range(1, tools))]
        self._tools = [
            {"name": n, "description": f"Return the text given to {n}", "inputSchema": SCHEMA} for n in names
        ]

    def answer(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """None for a notification."""
        if "id" not in message:
            return None
        method, params = message["method"], message.get("params") or {}
        if method == "tools/call":
            result: dict[str, Any] = {
                "content": [{"type": "text", "text": params["arguments"]["text"]}],
                "isError": False,
            }
        elif method == "tools/list":
            result = {"tools": self._tools}
        elif method == "initialize" and self._era != MODERN:
            result = {"protocolVersion": self._era, **self._about}
        elif method == "server/discover" and self._era == MODERN:
            result = {"supportedVersions": [MODERN], **self._about}
        elif method == "ping":
            result = {}
        else:
            error = {"code": -32601, "message": f"no method {method!r}"}
            return {"jsonrpc": "2.0", "id": message["id"], "error": error}
        return {"jsonrpc": "2.0", "id": message["id"], "result": {**result, **self._added}}

    async def handle(self, request: web.Request) -> web.Response:
        answer = self.answer(orjson.loads(await request.read()))
        if answer is None:
            return web.Response(status=202)
        return web.Response(body=orjson.dumps(answer), content_type="application/json")


async def refuse(_: web.Request) -> web.Response:
    return web.Response(status=405)


def main() -> None:
    server = Server(sys.argv[1], int(sys.argv[2]))
    if len(sys.argv) == 3:
        for line in sys.stdin.buffer:
            if (answer := server.answer(orjson.loads(line))) is not None:
                sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
                sys.stdout.buffer.flush()
        return
    app = web.Application()
    app.router.add_post("/mcp", server.handle)
    app.router.add_get("/mcp", refuse)
    app.router.add_delete("/mcp", refuse)
    import uvloop

    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[3]), print=None, access_log=None)


if __name__ == "__main__":
    main()
