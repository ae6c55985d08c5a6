"""MCP over Streamable HTTP, the client's side (MCP 2025-11-25, transports): POST, its answers, GET, DELETE."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import aiohttp
from yarl import URL

from node.upstreams.client import CLOSE_TIMEOUT_S, broken, client_for, in_words
from node.upstreams.login import TRIES_MAX, Login
from node.upstreams.posting import Posts, Reply, fields
from node.upstreams.refusals import judge
from node.upstreams.spec import UpstreamSpec
from node.upstreams.sse import SseEvent, SseParser
from node.upstreams.wire import TURN_MESSAGES, Message, Sink, logger
from proto import jsons
from proto.errors import Invalid, OutcomeUnknown, Unavailable

RESUMES_MAX = 5
"""Attempts in a row to take up a broken answer stream (Last-Event-ID) without hearing anything new."""
RESUME_AFTER_MS = 1000
RESUME_AFTER_MIN_MS = 20
REOPEN_FIRST_S = 1.0
REOPEN_MAX_S = 60.0
LINGER_S = 1.0
TUNE_IN_S = 1.0
"""So long the first request of a session waits for its GET stream, on which the server may ask back at once."""
_LINGERING_MAX = 64

_ACCEPT = "application/json, text/event-stream"
_BUSY = (409, 429)
"""A server that has not noticed yet that the stream before this one is gone, or that is asked too often."""
_SESSION_ID = re.compile(r"[\x21-\x7e]*")  # MCP 2025-11-25, session management


class Envelope(Protocol):
    """What a revision asks of each message: the headers that repeat its body."""

    def __call__(self, message: Message) -> dict[str, str]: ...


class Streamed(Protocol):
    """An answer whose body is read as it comes."""

    @property
    def content(self) -> aiohttp.StreamReader: ...


class HttpWire:
    """One pooled client session for one server. Redirects are not followed: credentials stay with their address."""

    def __init__(self, spec: UpstreamSpec, login: Login) -> None:
        self.envelope: Envelope | None = None
        """Set for a stateless revision: no session, no GET stream, no DELETE."""
        self._spec = spec
        self._login = login
        self._url = URL(spec.url)
        self._session_id = ""
        self._protocol_version = ""
        self._client: aiohttp.ClientSession | None = None
        self._posts: Posts | None = None
        self._head = b""
        """Of every POST of this session but the first; empty until it is needed."""
        self._signed: Mapping[str, str] = {}
        """What we sign in with, in `_head`."""
        self._sink: Sink | None = None
        self._listening: asyncio.Task[None] | None = None
        self._tuned_in = asyncio.Event()
        self._lingering: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"HttpWire({self._spec.name} session={'yes' if self._session_id else 'no'})"

    async def open(self, sink: Sink) -> None:
        self._sink = sink
        self._client = client_for(self._spec)
        self._posts = Posts(self._client, self._url, self._client.timeout)

    async def carry(self, message: Message, sent: Callable[[], None]) -> None:
        if self._listening is not None and not self._tuned_in.is_set() and "id" in message and "method" in message:
            await self._tune_in()
        posts, sink = self._posts, self._sink
        if posts is None or sink is None:
            raise Unavailable(f"server {self._spec.name!r} is not connected")
        body = jsons.dumps(message)
        left = False

        def leaving() -> None:
            nonlocal left
            left = True
            sent()

        reply: Reply | None = None
        try:
            for tries_left in reversed(range(TRIES_MAX)):
                signed = await self._sign()
                head, more, has_session = self._head_of(message, posts)
                # What was refused before has not run.
                left = False
                reply = await posts.send(head, more, body, leaving)
                if reply.status in (401, 403) and tries_left and await self._login.again(reply, signed):
                    reply.close()
                    reply = None
                    continue
                break
            if reply is None:
                return
            await self._take(message, reply, sink, had_session=has_session)
            self._let_go(reply)
            reply = None
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            raise broken(self._spec, e, sent=left) from e
        except Invalid as e:
            raise OutcomeUnknown(f"server {self._spec.name!r} answered what cannot be taken: {e.message}") from e
        finally:
            if reply is not None:
                # Where a request was given up, closing its stream is what tells a server of 2026-07-28.
                reply.close()

    async def agreed(self, protocol_version: str) -> None:
        self._protocol_version, self._head = protocol_version, b""
        if self.envelope is None and self._listening is None and self._sink is not None:
            self._listening = asyncio.create_task(self._listen(self._sink))

    def renew(self) -> None:
        self._session_id, self._protocol_version, self._head = "", "", b""
        if self._listening is not None:
            # The stream belongs to the session; the next agreement opens another.
            self._listening.cancel()
            self._listening = None
            self._tuned_in.clear()

    def last_words(self) -> str:
        return ""

    async def close(self) -> None:
        tasks = [*self._lingering, *([self._listening] if self._listening else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        client, self._client, self._posts = self._client, None, None
        if client is None:
            return
        if self._session_id:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    async with client.delete(self._url, headers=self._headers(), allow_redirects=False):
                        pass
            except (aiohttp.ClientError, OSError, TimeoutError) as e:
                logger.debug("server %s: its session could not be ended: %s", self._spec.name, e)
        await client.close()

    # ---- one POST and its answer -----------------------------------------------------------------

    def _head_of(self, message: Message, posts: Posts) -> tuple[bytes, bytes, bool]:
        """The header lines that a POST begins with, those that are of this message alone, and: is a session named?"""
        if self.envelope is not None:
            if not self._head:
                self._head = posts.head(self._headers(session=False))
            return self._head, fields(self.envelope(message)), False
        if message.get("method") == "initialize":
            # A server of 2026-07-28 may hear it, to be refused; that revision wants this header with every POST.
            return posts.head({**self._headers(session=False), "Mcp-Method": "initialize"}), b"", False
        if not self._head:
            self._head = posts.head(self._headers())
        return self._head, b"", bool(self._session_id)

    async def _sign(self) -> Mapping[str, str]:
        """What we sign in with now, into `_signed`. Raises `ConsentNeeded` or `Unavailable`."""
        signed = await self._login.headers()
        if signed is not self._signed:
            self._signed, self._head = signed, b""
        return signed

    def _headers(self, *, session: bool = True) -> dict[str, str]:
        headers = {**self._signed, "Accept": _ACCEPT}
        if self._protocol_version:
            headers["MCP-Protocol-Version"] = self._protocol_version
        if session and self._session_id:
            headers["Mcp-Session-Id"] = self._session_id
        return headers

    async def _take(self, message: Message, response: Reply, sink: Sink, *, had_session: bool) -> None:
        asked = "method" in message and "id" in message
        request_id: int | None = message["id"] if asked else None
        if response.status >= 300:
            text = await self._body(response)
            answer = judge(
                self._spec.name, response, text, asked=asked, had_session=had_session, login=self._login.mend
            )
            if answer is not None:
                sink.received({"jsonrpc": "2.0", "id": request_id, **answer}, request_id)
            return
        if message.get("method") == "initialize":
            session_id = response.headers.get("Mcp-Session-Id", "")
            if not _SESSION_ID.fullmatch(session_id):
                raise Invalid("its session id holds other than visible ASCII characters, which no header can repeat")
            self._session_id, self._head = session_id, b""
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

    async def _body(self, response: Reply) -> bytes:
        content, held_max = response.content, self._spec.message_bytes_max
        parts: list[bytes] = []
        held = 0
        while not content.at_eof():
            # Short answers are there whole when their head is.
            parts.append(content.read_nowait() if content.is_eof() else await content.readany())
            held += len(parts[-1])
            if held > held_max:
                raise Invalid(f"it is longer than {held_max} bytes ('message_bytes_max')")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _stream(self, response: Reply, request_id: int, sink: Sink) -> None:
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
            try:
                await self._sign()
                headers = {**self._headers(), "Last-Event-ID": before}
                async with self._client.get(self._url, headers=headers, allow_redirects=False) as resumed:
                    if resumed.status == 200 and resumed.content_type == "text/event-stream":
                        if await self._events(resumed, parser, request_id, sink):
                            return
                        heard = parser.last_event_id != before or parser.retry_ms is not None
                    elif resumed.status < 500:
                        break
            except (aiohttp.ClientError, OSError, TimeoutError, Unavailable) as e:
                logger.debug("server %s: an answer stream could not be resumed: %s", self._spec.name, e)
            attempts = 0 if heard else attempts + 1
        raise OutcomeUnknown(f"server {self._spec.name!r} ended the answer stream before it answered")

    async def _events(self, response: Streamed, parser: SseParser, request_id: int | None, sink: Sink) -> bool:
        """Whether the answer to `request_id` came. Returns False when the stream ended, however it did."""
        try:
            async for chunk in response.content.iter_any():
                answered = False
                for n, event in enumerate(parser.feed(chunk), 1):
                    answered = self._event(event, request_id, sink) or answered
                    if n % TURN_MESSAGES == 0:
                        await asyncio.sleep(0)
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

    async def _tune_in(self) -> None:
        """Until the server has answered the request for the stream, or is too slow with that."""
        try:
            async with asyncio.timeout(TUNE_IN_S):
                await self._tuned_in.wait()
        except TimeoutError:
            # It keeps back its headers until there is something to say, as some do.
            self._tuned_in.set()

    async def _listen(self, sink: Sink) -> None:
        """Notifications outside any request. A server that has no such stream (405) is not asked again."""
        parser = SseParser(self._spec.message_bytes_max)
        wait_s = REOPEN_FIRST_S
        while self._client is not None:
            try:
                signed = await self._sign()
                headers = {**self._headers(), "Accept": "text/event-stream"}
                if parser.last_event_id:
                    headers["Last-Event-ID"] = parser.last_event_id
                async with self._client.get(self._url, headers=headers, allow_redirects=False) as response:
                    self._tuned_in.set()
                    if response.status != 200 or response.content_type != "text/event-stream":
                        logger.debug("server %s: no GET stream (status %d)", self._spec.name, response.status)
                        if await self._login.again(response, signed):
                            pass
                        elif response.status < 500 and response.status not in _BUSY:
                            return
                    else:
                        wait_s = REOPEN_FIRST_S
                        await self._events(response, parser, None, sink)
            except (aiohttp.ClientError, OSError, TimeoutError, Invalid, Unavailable) as e:
                logger.debug("server %s: the GET stream broke: %s", self._spec.name, e)
            self._tuned_in.set()
            parser = parser.successor()
            await asyncio.sleep(max(wait_s, (parser.retry_ms or 0) / 1000))
            wait_s = min(wait_s * 2, REOPEN_MAX_S)

    # ---- ends ------------------------------------------------------------------------------------

    def _let_go(self, reply: Reply) -> None:
        content = reply.content
        if content.is_eof() or content.exception():
            reply.keep()
        elif len(self._lingering) < _LINGERING_MAX and self._posts is not None:
            # The end of a stream follows its last event closely; waiting for it saves the connection.
            task = asyncio.create_task(_linger(reply))
            self._lingering.add(task)
            task.add_done_callback(self._lingering.discard)
        else:
            reply.close()


async def _linger(reply: Reply) -> None:
    """Whatever else is on the stream is of no request: only its end is waited for."""
    ended = False
    try:
        async with asyncio.timeout(LINGER_S):
            ended = not await reply.content.readany()
    except (aiohttp.ClientError, OSError, TimeoutError) as e:
        logger.debug("an answer stream did not end: %s", in_words(e))
    finally:
        if ended:
            reply.keep()
        else:
            reply.close()


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
