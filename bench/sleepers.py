"""Agents that do nothing: `python -m bench.sleepers HOST PORT PATH N` opens N legacy sessions, each with a GET stream.

Says `open` on stdout when all are, and holds them until it is ended. Sockets without a client library: ten thousand of
its own connections would cost this side more than the node.
"""

from __future__ import annotations

import asyncio
import re
import sys

import orjson

AT_ONCE = 64
_OPENING = orjson.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "sleeper", "version": "1"},
        },
    }
)
_SESSION_ID = re.compile(rb"\r\nMcp-Session-Id: ([^\r]+)\r\n", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)


async def sleep_at(host: str, port: int, path: str) -> asyncio.StreamWriter:
    """A session and its stream, both on one connection."""
    reader, writer = await asyncio.open_connection(host, port, limit=8192)
    head = f"HTTP/1.1\r\nHost: {host}:{port}\r\nMCP-Protocol-Version: 2025-11-25\r\n"
    post = f"POST {path} {head}Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
    writer.write(f"{post}Content-Length: {len(_OPENING)}\r\n\r\n".encode() + _OPENING)
    answer = await reader.readuntil(b"\r\n\r\n")
    session_id, length = _SESSION_ID.search(answer), _LENGTH.search(answer)
    if session_id is None or length is None:
        raise RuntimeError(f"no session: {answer.decode(errors='replace')}")
    await reader.readexactly(int(length[1]))
    get = f"GET {path} {head}Accept: text/event-stream\r\nMcp-Session-Id: {session_id[1].decode()}\r\n\r\n"
    writer.write(get.encode())
    if not (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200"):
        raise RuntimeError("no stream")
    return writer


async def main() -> None:
    host, port, path, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    room = asyncio.Semaphore(AT_ONCE)

    async def one() -> asyncio.StreamWriter:
        async with room:
            return await sleep_at(host, port, path)

    writers = await asyncio.gather(*(one() for _ in range(count)))
    print("open", flush=True)
    await asyncio.Event().wait()
    assert writers


if __name__ == "__main__":
    asyncio.run(main())
