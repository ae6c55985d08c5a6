from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from proto import jsons
from router.memory import HashingEmbedder
from router.ports import Embedder, ToolEntry, ToolKey, VectorStore
from router.router import Router
from tests.router.shelves import ChromaProcess

MakeEntry = Callable[..., ToolEntry]
MakeRouter = Callable[..., Awaitable[Router]]


@pytest.fixture
def entry() -> MakeEntry:
    def make(
        tool: str, description: Any = "", *, owner: str = "eu-1", server: str = "tools", schema: Any = None, **rest: Any
    ) -> ToolEntry:
        definition: dict[str, Any] = {"name": tool, "description": description}
        if schema is not None:
            definition["inputSchema"] = schema
        rest.setdefault("digest", jsons.digest(definition))
        return ToolEntry(ToolKey(owner, server, tool), definition, **rest)

    return make


@pytest.fixture
def sample(entry: MakeEntry) -> list[ToolEntry]:
    return [
        entry("convert_currency", "Convert an amount of money from one currency to another.", server="bank"),
        entry("get_exchange_rate", "Look up the exchange rate of two currencies.", server="bank"),
        entry("weather_forecast", "Weather forecast for a city and the coming days.", server="weather"),
        entry("read_file", "Read the contents of a file from disk.", server="files"),
        entry("write_file", "Write text to a file on disk.", server="files"),
        entry("send_email", "Send an email message to a recipient.", server="mail"),
        entry("resize_image", "Resize an image to a given width and height.", server="images"),
        entry("play_song", "Play a song on the speaker in the living room.", server="music"),
    ]


@pytest.fixture
async def make_router() -> AsyncIterator[MakeRouter]:
    async with AsyncExitStack() as stack:

        async def make(
            entries: list[ToolEntry] = [],  # noqa: B006 - never written to
            *,
            embedder: Embedder | None = None,
            store: VectorStore | None = None,
            lexical: bool = False,
            **rest: Any,
        ) -> Router:
            router = Router(None if lexical else embedder or HashingEmbedder(), store, **rest)
            stack.push_async_callback(router.stop)
            router.apply(entries, ())
            await router.start()
            await router.settled()
            return router

        yield make


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaProcess]:
    """One server for tests that leave it running; each uses a model of its own."""
    server = ChromaProcess(tmp_path_factory.mktemp("chroma-server"))
    server.start()
    yield server
    server.kill()
