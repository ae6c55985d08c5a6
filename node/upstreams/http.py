"""MCP over Streamable HTTP, the client's side (MCP 2025-11-25, transports): POST, its answers, GET, DELETE."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, Protocol

import aiohttp
from yarl import URL

from node.upstreams.client import CLOSE_TIMEOUT_S, Body, broken, client_for, in_words
from node.upstreams.refusals import judge
from node.upstreams.spec import UpstreamSpec
from node.upstreams.sse import SseEvent, SseParser
from node.upstreams.wire import Message, Sink, logger
from proto import jsons
from proto.errors import Invalid, OutcomeUnknown, Unavailable

RESUMES_MAX = 5
"""Attempts in a row to take up a broken answer stream (Last-Event-ID) without hearing anything new."""
RESUME_AFTER_MS = 1000
RESUME_AFTER_MIN_MS = 20
REOPEN_FIRST_S = 1.0
REOPEN_MAX_S = 60.0
LINGER_S = 1.0
_LINGERING_MAX = 64

_ACCEPT = "application/json, text/event-stream"
_BUSY = (409, 429)
"""A server that has not noticed yet that the stream before this one is gone, or that is asked too often."""
_SESSION_ID = re.compile(r"[\x21-\x7e]*")  # MCP 2025-11-25, session management


class Envelope(Protocol):
    """What a revision asks of each message: the headers that repeat its body."""

    def __call__(self, message: Message) -> dict[str, str]: ...


class HttpWire:
    """One pooled client session for one server. Redirects are not followed: credentials stay with their address."""

    def __init__(self, spec: UpstreamSpec) -> None:
        self.envelope: Envelope | None = None
        """Set for a stateless revision: no session, no GET stream, no DELETE."""
        self._spec = spec
        self._url = URL(spec.url)
        self._session_id = ""
        self._protocol_version = ""
        self._client: aiohttp.ClientSession | None = None
        self._sink: Sink | None = None
        self._listening: asyncio.Task[None] | None = None
        self._lingering: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"HttpWire({self._spec.name} session={'yes' if self._session_id else 'no'})"

    async def open(self, sink: Sink) -> None:
        self._sink = sink
        self._client = client_for(self._spec)

    async def carry(self, message: Message, sent: Callable[[], None]) -> None:
        sink = self._sink
        if self._client is None or sink is None:
            raise Unavailable(f"server {self._spec.name!r} is not connected")
        body = Body(jsons.dumps(message), sent)
        headers = self._headers(message)
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._client.post(self._url, data=body, headers=headers, allow_redirects=False)
            await self._take(message, response, sink, had_session="Mcp-Session-Id" in headers)
            self._let_go(response)
            response = None
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            raise broken(self._spec, e, sent=body.leaving) from e
        except Invalid as e:
            raise OutcomeUnknown(f"server {self._spec.name!r} answered what cannot be taken: {e.message}") from e
        finally:
            if response is not None:
                # Where a request was given up, closing its stream is what tells a server of 2026-07-28.
                response.close()

    async def agreed(self, protocol_version: str) -> None:
        self._protocol_version = protocol_version
        if self.envelope is None and self._listening is None and self._sink is not None:
            self._listening = asyncio.create_task(self._listen(self._sink))

    def renew(self) -> None:
        self._session_id = ""
        self._protocol_version = ""
        if self._listening is not None:
            # The stream belongs to the session; the next agreement opens another.
            self._listening.cancel()
            self._listening = None

    def last_words(self) -> str:
        return ""

    async def close(self) -> None:
        tasks = [*self._lingering, *([self._listening] if self._listening else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        client, self._client = self._client, None
        if client is None:
            return
        if self._session_id:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    async with client.delete(self._url, headers=self._headers(None), allow_redirects=False):
                        pass
            except (aiohttp.ClientError, OSError, TimeoutError) as e:
                logger.debug("server %s: its session could not be ended: %s", self._spec.name, e)
        await client.close()

    # ---- one POST and its answer -----------------------------------------------------------------

    def _headers(self, message: Message | None) -> dict[str, str]:
        headers = {**self._spec.headers, "Accept": _ACCEPT}
        if self._protocol_version:
            headers["MCP-Protocol-Version"] = self._protocol_version
        if self.envelope is not None and message is not None:
            headers.update(self.envelope(message))
        elif message is not None and message.get("method") == "initialize":
            # A server of 2026-07-28 may hear it, to be refused; that revision wants this header with every POST.
            headers["Mcp-Method"] = "initialize"
        elif self._session_id:
            headers["Mcp-Session-Id"] = self._session_id
        return headers

    async def _take(self, message: Message, response: aiohttp.ClientResponse, sink: Sink, *, had_session: bool) -> None:
        asked = "method" in message and "id" in message
        request_id: int | None = message["id"] if asked else None
        if response.status >= 300:
            text = await self._body(response)
            answer = judge(self._spec.name, response, text, asked=asked, had_session=had_session)
            if answer is not None:
                sink.received({"jsonrpc": "2.0", "id": request_id, **answer}, request_id)
            return
        if message.get("method") == "initialize":
            session_id = response.headers.get("Mcp-Session-Id", "")
            if not _SESSION_ID.fullmatch(session_id):
                raise Invalid("its session id holds other than visible ASCII characters, which no header can repeat")
            self._session_id = session_id
        if request_id is None:
            return
        kind = response.content_type
        if kind == "text/event-stream":
            await self._stream(response, request_id, sink)
        elif kind == "application/json":
            value = jsons.loads(await self._body(response))
            if not _deliver(value, request_id, sink):
                raise OutcomeUnknown(f"server {self._spec.name!r} answered without the response to the request")
        elif response.status == 202:
            raise OutcomeUnknown(
                f"server {self._spec.name!r} took a request for a notification (202) and will not answer"
            )
        else:
            raise OutcomeUnknown(
                f"server {self._spec.name!r} answered a request with status {response.status} and {kind!r}; "
                "is 'url' an MCP endpoint?"
            )

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        parts: list[bytes] = []
        held = 0
        async for chunk in response.content.iter_any():
            parts.append(chunk)
            held += len(chunk)
            if held > self._spec.message_bytes_max:
                raise Invalid(f"it is longer than {self._spec.message_bytes_max} bytes ('message_bytes_max')")
        return b"".join(parts)

    async def _stream(self, response: aiohttp.ClientResponse, request_id: int, sink: Sink) -> None:
        """Until the answer has come; a stream that ended before it is taken up again where it can be (Last-Event-ID).

        A server that says when to come back (`retry`) is asked again for as long as the call lasts: polling.
        """
        parser = SseParser(self._spec.message_bytes_max)
        if await self._events(response, parser, request_id, sink):
            return
        attempts = 0
        while parser.last_event_id and attempts < RESUMES_MAX and self._client is not None:
            wait_ms = RESUME_AFTER_MS if parser.retry_ms is None else max(parser.retry_ms, RESUME_AFTER_MIN_MS)
            await asyncio.sleep(wait_ms / 1000)
            before, parser = parser.last_event_id, parser.successor()
            heard = False
            headers = {**self._headers(None), "Last-Event-ID": before}
            try:
                async with self._client.get(self._url, headers=headers, allow_redirects=False) as resumed:
                    if resumed.status == 200 and resumed.content_type == "text/event-stream":
                        if await self._events(resumed, parser, request_id, sink):
                            return
                        heard = parser.last_event_id != before or parser.retry_ms is not None
                    elif resumed.status < 500:
                        break
            except (aiohttp.ClientError, OSError, TimeoutError) as e:
                logger.debug("server %s: an answer stream could not be resumed: %s", self._spec.name, e)
            attempts = 0 if heard else attempts + 1
        raise OutcomeUnknown(f"server {self._spec.name!r} ended the answer stream before it answered")

    async def _events(
        self, response: aiohttp.ClientResponse, parser: SseParser, request_id: int | None, sink: Sink
    ) -> bool:
        """Whether the answer to `request_id` came. Returns False when the stream ended, however it did."""
        try:
            async for chunk in response.content.iter_any():
                answered = False
                for event in parser.feed(chunk):
                    answered = self._event(event, request_id, sink) or answered
                if answered:
                    return True
        except (aiohttp.ClientPayloadError, ConnectionError) as e:
            logger.debug("server %s: a stream broke off: %s", self._spec.name, e)
        return False

    def _event(self, event: SseEvent, request_id: int | None, sink: Sink) -> bool:
        if event.event != "message" or not event.data:
            return False
        try:
            value = jsons.loads(event.data)
        except Invalid as e:
            logger.warning("server %s: an event is not JSON (%s)", self._spec.name, e)
            # On the stream of one request, what cannot be read was most likely its answer.
            sink.unreadable(request_id, e.message)
            return request_id is not None
        return _deliver(value, request_id, sink)

    # ---- the GET stream --------------------------------------------------------------------------

    async def _listen(self, sink: Sink) -> None:
        """Notifications outside any request. A server that has no such stream (405) is not asked again."""
        parser = SseParser(self._spec.message_bytes_max)
        wait_s = REOPEN_FIRST_S
        while self._client is not None:
            headers = {**self._headers(None), "Accept": "text/event-stream"}
            if parser.last_event_id:
                headers["Last-Event-ID"] = parser.last_event_id
            try:
                async with self._client.get(self._url, headers=headers, allow_redirects=False) as response:
                    if response.status != 200 or response.content_type != "text/event-stream":
                        logger.debug("server %s: no GET stream (status %d)", self._spec.name, response.status)
                        if response.status < 500 and response.status not in _BUSY:
                            return
                    else:
                        wait_s = REOPEN_FIRST_S
                        await self._events(response, parser, None, sink)
            except (aiohttp.ClientError, OSError, TimeoutError, Invalid) as e:
                logger.debug("server %s: the GET stream broke: %s", self._spec.name, e)
            parser = parser.successor()
            await asyncio.sleep(max(wait_s, (parser.retry_ms or 0) / 1000))
            wait_s = min(wait_s * 2, REOPEN_MAX_S)

    # ---- ends ------------------------------------------------------------------------------------

    def _let_go(self, response: aiohttp.ClientResponse) -> None:
        if response.connection is None:
            return
        if not response.content.is_eof() and not response.content.exception():
            # The end of a stream follows its last event closely; waiting for it saves the connection.
            if len(self._lingering) < _LINGERING_MAX and self._client is not None:
                task = asyncio.create_task(_linger(response))
                self._lingering.add(task)
                task.add_done_callback(self._lingering.discard)
                return
            response.close()
            return
        response.release()


async def _linger(response: aiohttp.ClientResponse) -> None:
    try:
        async with asyncio.timeout(LINGER_S):
            async for _ in response.content.iter_any():
                break
            else:
                response.release()
                return
    except (aiohttp.ClientError, OSError, TimeoutError) as e:
        logger.debug("an answer stream did not end: %s", in_words(e))
    finally:
        response.close()


def _deliver(value: Any, request_id: int | None, sink: Sink) -> bool:
    """Pass a message on; whether it (or one in it: 2025-03-26 batches) was the answer to `request_id`."""
    answered = False
    for message in value if isinstance(value, list) else (value,):
        if isinstance(message, dict) and "method" not in message and request_id is not None:
            # Errors raised before the id was read carry null; on this stream only one request can be meant.
            if message.get("id") is None and "error" in message:
                message["id"] = request_id
            answered = answered or str(message.get("id")) == str(request_id)
        sink.received(message, request_id)
    return answered
