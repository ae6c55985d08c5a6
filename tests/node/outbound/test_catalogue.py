"""An entry of the catalogue is brought in by others: where it leads is judged, over every transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node.app import App
from node.config import parse
from node.ports import Caller
from proto.errors import Unavailable


@pytest.fixture
async def listener() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A port of this machine, and what was said to it."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], heard
    server.close()
    await server.wait_closed()


async def added(base: Path, entry: dict[str, Any], **sections: Any) -> str:
    """Why the catalogue's entry could not be brought in."""
    entry = {"start_timeout_s": 5, **entry}
    settings = {
        "node": {"data_dir": str(base)},
        "http": {"listen": "127.0.0.1:0"},
        "search": {"embedder": "none"},
        "catalogue": {"chosen": entry},
        **sections,
    }
    app = App(parse(settings, base))
    await app.start()
    try:
        with pytest.raises(Unavailable) as caught:
            await app._add("chosen", Caller())
        return caught.value.message
    finally:
        await app.stop()


@pytest.mark.parametrize(
    ("scheme", "transport"), [("http", "auto"), ("http", "http"), ("http", "sse"), ("ws", "websocket")]
)
async def test_a_private_address_is_not_dialled(
    tmp_path: Path, listener: tuple[int, list[bytes]], scheme: str, transport: str
) -> None:
    port, heard = listener
    for host in ("127.0.0.1", "localhost"):
        why = await added(tmp_path, {"url": f"{scheme}://{host}:{port}/mcp", "transport": transport})
        assert "127.0.0.1 is loopback. If it is meant, add it to outbound.allow" in why
    assert heard == []


async def test_an_operator_may_allow_it(tmp_path: Path, listener: tuple[int, list[bytes]]) -> None:
    port, heard = listener
    entry = {"url": f"http://127.0.0.1:{port}/mcp", "transport": "http"}
    await added(tmp_path, entry, outbound={"allow": [f"127.0.0.1:{port}"]})
    assert heard[0].startswith(b"POST /mcp HTTP/1.1")
