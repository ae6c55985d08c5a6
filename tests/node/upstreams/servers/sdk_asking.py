"""An SDK server that asks, logs and lets itself be subscribed to; over pipes, or with `http` on a port it names."""

import asyncio
import socket
import sys

import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel

server = MCPServer("sdk-asking", version="1")


class Answer(BaseModel):
    word: str


@server.tool()
async def elicit(ctx: Context) -> str:
    """Ask for a word."""
    result = await ctx.elicit("which word?", Answer)
    return f"{result.action}:{result.data.word if result.action == 'accept' else ''}"


@server.tool()
async def sample(ctx: Context) -> str:
    """Ask for a completion."""
    message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text="hi"))
    result = await ctx.session.create_message([message], max_tokens=5)
    return result.content.text


@server.tool()
async def roots(ctx: Context) -> str:
    """Ask for roots outside of any request's stream, as servers do who keep the session."""
    return str([str(r.uri) for r in (await ctx.session.list_roots()).roots])


@server.tool()
async def log(ctx: Context) -> str:
    """Say something."""
    await ctx.info("working")
    return "logged"


@server.tool()
async def touch(uri: str, ctx: Context) -> str:
    """Change a resource, and tell clients of either era."""
    if ctx.protocol_version == "2026-07-28":
        await ctx.notify_resource_updated(uri)
    else:
        await ctx.session.send_resource_updated(uri)
    return "touched"


@server.resource("sdk://one")
def one() -> str:
    return "1"


async def subscribed(ctx, params):
    return types.EmptyResult()


for method, params in (
    ("resources/subscribe", types.SubscribeRequestParams),
    ("resources/unsubscribe", types.UnsubscribeRequestParams),
    ("logging/setLevel", types.SetLevelRequestParams),
):
    server._lowlevel_server.add_request_handler(method, params, subscribed)


if __name__ == "__main__":
    if "http" not in sys.argv:
        asyncio.run(server.run_stdio_async())
    else:
        import uvicorn

        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        print(sock.getsockname()[1], flush=True)
        uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="error")).run(sockets=[sock])
