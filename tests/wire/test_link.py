"""How a peer is dialled: attempts that hang, and what makes them begin anew."""

from __future__ import annotations

import asyncio

import pytest

from federation.events import Liveness
from federation.ports import Found
from tests.wire.meshes import Mesh, at, node_id, status_where, tool


class Hole:
    """An address where somebody accepts connections and says nothing on them: packets of a cut, to whoever waits."""

    def __init__(self) -> None:
        self.taken = asyncio.Event()
        self._kept: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> str:
        async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._kept.append(writer)
            self.taken.set()

        self._server = await asyncio.start_server(take, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._kept:
            writer.transport.abort()
        await self._server.wait_closed()


async def test_an_attempt_that_hangs_is_dropped_when_the_peer_shows_itself(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.link.CONNECT_S", 3600)
    monkeypatch.setattr("federation.link.CONNECT_MAX_S", 3600)
    monkeypatch.setattr("federation.link.AFRESH_S", 0)
    monkeypatch.setattr("federation.tls.RECONNECT_MIN_MS", 3_600_000)
    hole = Hole()
    async with hole as address:
        b, heard = await mesh.node("b")
        b._finder.found(Found(address, node_id("a")))
        async with asyncio.timeout(20):
            await hole.taken.wait()
        await mesh.node("a", at(b), records=[tool("one")])
        await heard.until(lambda: heard.ids("a") == {"time/one"})
        status = await status_where(b, lambda s: s.state is Liveness.ALIVE)
        assert status.address != address
        await b.stop()
