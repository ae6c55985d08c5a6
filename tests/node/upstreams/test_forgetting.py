"""A grant that ends takes with it what was opened in its name, also what is only being opened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from node.upstreams.pool import Key
from node.upstreams.sessions import Sessions
from node.upstreams.spec import UpstreamSpec
from proto.errors import Unavailable
from proto.records import Principal

ANN = Principal("ann", "idp", kind="user")
PATIENCE_S = 10.0


class Mute:
    """A server that takes what it is sent and never answers."""

    def __init__(self) -> None:
        self.port = 0
        self.asked, self.left = asyncio.Event(), asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        self.asked.set()
        while await reader.read(4_096):
            pass
        self.left.set()
        writer.close()


@pytest.fixture
async def mute() -> AsyncIterator[Mute]:
    made = Mute()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


async def test_a_session_that_is_being_opened_for_somebody_who_is_forgotten_is_closed(mute: Mute) -> None:
    spec = UpstreamSpec("mute", url=f"http://127.0.0.1:{mute.port}/mcp", transport="http")
    sessions = Sessions(spec, lambda _kind: None)
    taking = asyncio.create_task(
        sessions.take(Key(ANN.identity, "{}"), "holder", {"roots": {}}, None, "http", principal=ANN)
    )
    async with asyncio.timeout(PATIENCE_S):
        await mute.asked.wait()
        sessions.forget(ANN.identity)
        with pytest.raises(Unavailable):
            await taking
        await mute.left.wait()
    await sessions.stop("the test is over")
