"""An SDK server over Streamable HTTP on a port of the system's choice; the port is the first line on stdout."""

import socket
import sys

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("sdk", instructions="from the SDK", version="3")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@server.tool()
async def count(to: int, ctx: Context) -> str:
    """Count, and say how far."""
    for i in range(to):
        await ctx.report_progress(i + 1, to)
    return "done"


@server.resource("sdk://greeting")
def greeting() -> str:
    return "hello"


@server.prompt()
def greet(name: str) -> str:
    return f"Greet {name}"


sock = socket.socket()
sock.bind(("127.0.0.1", 0))
print(sock.getsockname()[1], flush=True)
app = server.streamable_http_app(json_response="json" in sys.argv, stateless_http="stateless" in sys.argv)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[sock])
