"""MCP over stdio on one side, a node's WebSocket on the other: the same messages, byte for byte, in either era."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from typing import Any

from node.ingress import envelope
from node.upstreams.lines import Overlong
from node.verbs.descriptors import Sink, Source
from node.verbs.websocket import WebSocket
from proto import jsons
from proto.errors import Invalid, OutcomeUnknown

ANSWERS_AWAITED_S = 1.5
"""Once the agent has closed our input, so long may what it asked before still be answered. Agents that stop a server
close its input, wait, and send SIGTERM after two seconds."""

LAST_WORDS_S = 1.0
PARSE_ERROR = -32700
INVALID_REQUEST = -32600


class Ending(Enum):
    AGENT_LEFT = 0
    NODE_LOST = 1


class Pipe:
    """One conversation. It knows which requests of the agent are open, so that none is left without a word."""

    def __init__(self, socket: WebSocket, source: Source, sink: Sink) -> None:
        self._socket = socket
        self._source = source
        self._sink = sink
        self._open: dict[bytes, envelope.RequestId] = {}
        self._none_open = asyncio.Event()
        self._none_open.set()

    def __repr__(self) -> str:
        return f"Pipe({len(self._open)} requests open)"

    async def run(self) -> Ending:
        """Until the agent closes its end or the node is lost."""
        loop = asyncio.get_running_loop()
        up, down = loop.create_task(self._up()), loop.create_task(self._down())
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            if not down.done():
                await asyncio.wait(
                    (down, loop.create_task(self._none_open.wait())),
                    timeout=ANSWERS_AWAITED_S,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            # Done first, and not because the agent reads no more: the node has gone.
            return down.result() if down.done() else Ending.AGENT_LEFT
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.wait((up, down))

    async def fail_open(self) -> None:
        """Tell the agent of every request that nobody will answer now, if it takes that soon."""
        # Takes longer to import than all else here.
        from node.ingress.errors import refusal

        lost = OutcomeUnknown("the connection to the node was lost before the answer came; the request may have run")
        detail = refusal(lost).error
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                for request_id in self._open.values():
                    await self._sink.write(envelope.refused(request_id, detail))
        self._open.clear()

    async def _up(self) -> None:
        async for line in self._source.lines():
            if isinstance(line, Overlong):
                await self._refuse(None, INVALID_REQUEST, "the message is longer than any node takes")
            elif line.strip():
                await self._send(line)

    async def _send(self, line: bytes) -> None:
        try:
            line.decode()
        except UnicodeDecodeError as e:
            await self._refuse(None, PARSE_ERROR, f"the line is not UTF-8: {e.reason} at byte {e.start}")
            return
        asked = list(_asked(line))
        if len(line) > self._socket.sends_bytes_max:
            why = (
                f"the message is {len(line)} bytes long, and the node takes {self._socket.sends_bytes_max} "
                "(http.body_bytes_max)"
            )
            for request_id in asked:
                await self._refuse(request_id, INVALID_REQUEST, why)
            if not asked:
                await self._refuse(None, INVALID_REQUEST, why)
            return
        for request_id in asked:
            self._open[jsons.dumps(request_id)] = request_id
            self._none_open.clear()
        try:
            await self._socket.send(line)
        except ConnectionError:
            # `_down` learns of it too, and says so.
            await asyncio.Event().wait()

    async def _down(self) -> Ending:
        while (text := await self._socket.receive()) is not None:
            for request_id in _answered(text):
                self._open.pop(jsons.dumps(request_id), None)
            try:
                # JSON may hold a line break between its tokens, a line of stdio may not.
                await self._sink.write(text.replace(b"\n", b" ") if b"\n" in text else text)
            except OSError:
                return Ending.AGENT_LEFT
            if not self._open:
                self._none_open.set()
        return Ending.NODE_LOST

    async def _refuse(self, request_id: envelope.RequestId | None, code: int, why: str) -> None:
        await self._sink.write(envelope.error(request_id, code, why))


def _asked(text: bytes) -> Iterator[envelope.RequestId]:
    """The ids of the requests in a message, or in an array of them."""
    for message in _messages(text):
        if "method" in message and envelope.is_request_id(message.get("id")):
            yield message["id"]


def _answered(text: bytes) -> Iterator[envelope.RequestId]:
    for message in _messages(text):
        if "method" not in message and envelope.is_request_id(message.get("id")):
            yield message["id"]


def _messages(text: bytes) -> list[dict[str, Any]]:
    try:
        value = jsons.loads(text)
    except Invalid:
        # The node says what is wrong with it.
        return []
    return [m for m in (value if isinstance(value, list) else [value]) if isinstance(m, dict)]
