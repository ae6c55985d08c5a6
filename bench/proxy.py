"""The yardstick: a bare aiohttp proxy that parses each JSON-RPC message both ways and does nothing else.

`python -m bench.proxy PORT UPSTREAM_URL`
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import orjson
from aiohttp import ClientSession, web

UPSTREAM = web.AppKey("upstream", str)
SESSION = web.AppKey("session", ClientSession)


async def handle(request: web.Request) -> web.Response:
    body = orjson.loads(await request.read())
    session, url = request.app[SESSION], request.app[UPSTREAM]
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    async with session.post(url, data=orjson.dumps(body), headers=headers) as response:
        answer = orjson.loads(await response.read())
    return web.Response(body=orjson.dumps(answer), content_type="application/json")


async def client(app: web.Application) -> AsyncIterator[None]:
    async with ClientSession() as session:
        app[SESSION] = session
        yield


def main() -> None:
    app = web.Application()
    app[UPSTREAM] = sys.argv[2]
    app.cleanup_ctx.append(client)
    app.router.add_post("/mcp", handle)
    import uvloop

    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
