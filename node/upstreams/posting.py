"""POSTs over the connections of an aiohttp client, without the objects that it builds for each request.

aiohttp dials, keeps and bounds the connections and parses what comes; here a request is one write of bytes that are
mostly ready, and an answer its status, headers and stream. docs/decisions/0017 has the figures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import aiohttp
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from node.upstreams.client import READ_BYTES
from proto.errors import Invalid

WRITE_BYTES = 256 * 1024
"""A longer body leaves in parts: a slow server holds up nobody else, and may answer before it has read all."""


class Reply:
    """What came back. Whoever has it calls `keep` or `close`, once."""

    __slots__ = ("_connection", "_writing", "content", "headers", "status")

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        content: aiohttp.StreamReader,
        connection: Connection,
        writing: asyncio.Task[None] | None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.content = content
        self._connection = connection
        self._writing = writing

    @property
    def content_type(self) -> str:
        """Without its parameters; empty if there is none."""
        kind = self.headers.get("Content-Type", "")
        return kind if kind == "application/json" else kind.partition(";")[0].strip().lower()

    def keep(self) -> None:
        """All that is wanted was read; the connection serves on if the answer has ended."""
        if self._writing is not None and not self._writing.done():
            self.close()
        else:
            self._connection.release()

    def close(self) -> None:
        """End the connection: where the answer has not ended, that tells the server."""
        if self._writing is not None:
            self._writing.cancel()
        self._connection.close()


class Posts:
    """POSTs to one address over the pool of `client`, by HTTP/1.1, redirects never followed."""

    def __init__(self, client: aiohttp.ClientSession, url: URL, timeout: aiohttp.ClientTimeout) -> None:
        connector = client.connector
        assert connector is not None  # noqa: S101
        self._connector = connector
        self._timeout = timeout
        # Never sent: it tells the connector where to dial.
        self._address = ClientRequest("POST", url, loop=asyncio.get_running_loop(), ssl=True)
        host = url.host_subcomponent or ""
        self._line = f"POST {url.raw_path_qs} HTTP/1.1\r\n"
        self._host = host if url.is_default_port() else f"{host}:{url.port}"

    def head(self, headers: Mapping[str, str]) -> bytes:
        """The beginning of requests that have these headers, of which those named here are the defaults."""
        every = CIMultiDict(
            {
                "Host": self._host,
                "Accept-Encoding": "gzip, deflate",
                "User-Agent": "toolmesh",
                "Content-Type": "application/json",
            }
        )
        every.update(headers)
        return self._line.encode() + fields(every)

    async def send(self, head: bytes, more: bytes, body: bytes, leaving: Callable[[], None]) -> Reply:
        """`head` and `more` are whole header lines. `leaving` is called just before the first byte goes.

        Raises `aiohttp.ClientError`, `OSError` or `TimeoutError`.
        """
        connection = await self._connector.connect(self._address, [], self._timeout)
        writing: asyncio.Task[None] | None = None
        try:
            protocol, transport = connection.protocol, connection.transport
            if protocol is None or transport is None:
                raise aiohttp.ServerDisconnectedError
            protocol.set_response_params(read_until_eof=True, read_bufsize=READ_BYTES)
            start = b"%b%bContent-Length: %d\r\n\r\n" % (head, more, len(body))
            leaving()
            if len(body) <= WRITE_BYTES:
                transport.write(start + body)
            else:
                transport.write(start)
                writing = asyncio.create_task(_write(connection, body))
            while True:
                message, content = await protocol.read()
                if message.code >= 200 or message.code == 101:
                    return Reply(message.code, message.headers, content, connection, writing)
        except HttpProcessingError as e:
            connection.close()
            raise aiohttp.ClientPayloadError(f"its answer is not HTTP/1.1: {e.message}") from e
        except BaseException:
            if writing is not None:
                writing.cancel()
            connection.close()
            raise


async def _write(connection: Connection, body: bytes) -> None:
    """In parts, each once the one before it has mostly left. A connection that breaks tells its reader."""
    view = memoryview(body)
    for at in range(0, len(body), WRITE_BYTES):
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None or transport.is_closing():
            return
        transport.write(view[at : at + WRITE_BYTES])
        if protocol.writing_paused:
            try:
                await protocol._drain_helper()
            except (aiohttp.ClientError, OSError):
                return


def fields(headers: Mapping[str, str]) -> bytes:
    """Header lines. Raises `Invalid` for a value that would end its line."""
    lines: list[str] = []
    for name, value in headers.items():
        if "\r" in value or "\n" in value or "\0" in value:
            raise Invalid(f"header {name!r} would hold a line break")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode()
