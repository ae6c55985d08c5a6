"""A bare MCP server over Streamable HTTP, the cheapest answer that is still the protocol.

`python -m bench.upstream PORT`
"""

from __future__ import annotations

import sys

import orjson
from aiohttp import web

TOOL = {
    "name": "echo",
    "description": "Return the text that was given",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}


async def handle(request: web.Request) -> web.Response:
    body = orjson.loads(await request.read())
    if "id" not in body:
        return web.Response(status=202)
    method, params = body["method"], body.get("params") or {}
    if method == "initialize":
        result: dict[str, object] = {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "bench", "version": "1"},
        }
    elif method == "tools/list":
        result = {"tools": [TOOL]}
    elif method == "tools/call":
        result = {"content": [{"type": "text", "text": params["arguments"]["text"]}], "isError": False}
    else:
        result = {}
    answer = orjson.dumps({"jsonrpc": "2.0", "id": body["id"], "result": result})
    return web.Response(body=answer, content_type="application/json")


async def refuse(_: web.Request) -> web.Response:
    return web.Response(status=405)


def main() -> None:
    app = web.Application()
    app.router.add_post("/mcp", handle)
    app.router.add_get("/mcp", refuse)
    app.router.add_delete("/mcp", refuse)
    import uvloop

    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
