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
from proto.records import ANONYMOUS
from tests.node.credentials.conftest import new_pem


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
            await app.adding.add("chosen", Caller())
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


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "127.0.0.1.", "[::ffff:127.0.0.1]"])
async def test_no_other_way_to_write_a_private_address_is_dialled(
    tmp_path: Path, listener: tuple[int, list[bytes]], host: str
) -> None:
    port, heard = listener
    await added(tmp_path, {"url": f"http://{host}:{port}/mcp", "transport": "http"})
    assert heard == []


async def test_what_signs_in_to_an_entry_dials_no_private_address_either(
    tmp_path: Path, listener: tuple[int, list[bytes]]
) -> None:
    port, heard = listener
    auth = {"kind": "client_credentials", "client_id": "node", "client_key": new_pem()}
    settings = {
        "node": {"data_dir": str(tmp_path)},
        "search": {"embedder": "none"},
        "catalogue": {"chosen": {"url": f"http://127.0.0.1:{port}/mcp", "auth": auth}},
    }
    app = App(parse(settings, tmp_path))
    credentials = app.adding.spec("chosen").credentials
    assert credentials is not None
    with pytest.raises(Unavailable, match=r"must begin with https://|is loopback"):
        await credentials.headers(ANONYMOUS)
    await credentials.close()
    assert heard == []
