"""MCP over a WebSocket, the client's side: one JSON text a frame, subprotocol `mcp`.

No revision standardises it. Both eras run over it, as over pipes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp

from node.upstreams.client import CLOSE_TIMEOUT_S, broken, client_for, in_words, stay
from node.upstreams.login import TRIES_MAX, Login
from node.upstreams.spec import UpstreamSpec
from node.upstreams.wire import TURN_MESSAGES, Message, Sink, logger
from proto import jsons
from proto.errors import Invalid, OutcomeUnknown, Unavailable

SUBPROTOCOL = "mcp"
HEARTBEAT_S = 20.0
"""Between pings of the transport's own; without a pong in half of it the connection counts as lost."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: int
    headers: Mapping[str, str]


class WebSocketWire:
    """One connection, which is the session. A frame beyond `message_bytes_max` ends it (RFC 6455 §7.4.1, 1009).

    Nothing says to which request a message belongs: `related` is never given.
    """

    def __init__(self, spec: UpstreamSpec, login: Login) -> None:
        self._spec = spec
        self._login = login
        self._client: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse[bool] | None = None
        self._reading: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"WebSocketWire({self._spec.name} {'open' if self._socket and not self._socket.closed else 'closed'})"

    async def open(self, sink: Sink) -> None:
        self._client = client_for(self._spec, stay)
        for tries_left in reversed(range(TRIES_MAX)):
            signed = await self._login.headers()
            try:
                self._socket = await self._connect(self._client, signed)
                break
            except aiohttp.WSServerHandshakeError as e:
                if not tries_left or not await self._login.again(_Refusal(e.status, e.headers or {}), signed):
                    raise Unavailable(self._refused(e.status)) from e
            except (aiohttp.ClientError, OSError, TimeoutError) as e:
                raise broken(self._spec, e, sent=False) from e
        if self._socket is not None:
            self._reading = asyncio.create_task(self._read(self._socket, sink))

    async def _connect(
        self, client: aiohttp.ClientSession, headers: Mapping[str, str]
    ) -> aiohttp.ClientWebSocketResponse[bool]:
        return await client.ws_connect(
            self._spec.url,
            protocols=(SUBPROTOCOL,),
            headers=headers,
            heartbeat=HEARTBEAT_S,
            max_msg_size=self._spec.message_bytes_max,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
        )

    async def carry(self, message: Message, sent: Callable[[], None]) -> None:
        text = jsons.dumps(message)
        if self._socket is None or self._socket.closed:
            raise Unavailable(f"server {self._spec.name!r} has closed its WebSocket")
        sent()
        try:
            await self._socket.send_frame(text, aiohttp.WSMsgType.TEXT)
        except (aiohttp.ClientError, OSError, RuntimeError) as e:
            raise OutcomeUnknown(f"server {self._spec.name!r} went away while it was written to: {in_words(e)}") from e

    async def agreed(self, protocol_version: str) -> None:
        """Nothing to do: frames carry no headers."""

    def renew(self) -> None:
        """Nothing to do: the connection is the session."""

    def last_words(self) -> str:
        return ""

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._socket is not None:
            await self._socket.close()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse[bool], sink: Sink) -> None:
        cause = "it closed its WebSocket"
        try:
            taken = 0
            async for frame in socket:
                taken += 1
                if taken % TURN_MESSAGES == 0:
                    await asyncio.sleep(0)
                if frame.type is aiohttp.WSMsgType.TEXT or frame.type is aiohttp.WSMsgType.BINARY:
                    self._take(frame.data, sink)
                elif frame.type is aiohttp.WSMsgType.ERROR:
                    cause = f"its WebSocket broke: {in_words(frame.data)}"
            if socket.close_code not in (None, 1000, 1006):
                cause = f"{cause} (code {socket.close_code})"
        finally:
            sink.lost(cause)

    def _take(self, text: str | bytes, sink: Sink) -> None:
        try:
            value = jsons.loads(text)
        except Invalid as e:
            logger.warning("server %s: a frame is not JSON (%s)", self._spec.name, e)
            sink.unreadable(None, e.message)
            return
        sink.received(value)

    def _refused(self, status: int) -> str:
        name, where = self._spec.name, self._spec.where
        if status in (401, 403):
            return f"server {name!r} refused with status {status}: {self._login.mend}"
        return f"server {name!r} answered with status {status}; is {where} the address of a WebSocket?"
