"""MCP over HTTP+SSE (2024-11-05), the client's side: one GET stream for what the server says, POSTs for what we say.

The stream is the session: once it ends, the connection is lost. Deprecated, and still met in the field.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
from yarl import URL

from node.upstreams.client import CLOSE_TIMEOUT_S, Body, broken, client_for, in_words
from node.upstreams.login import TRIES_MAX, Login
from node.upstreams.refusals import judge
from node.upstreams.spec import UpstreamSpec
from node.upstreams.sse import SseEvent, SseParser
from node.upstreams.wire import TURN_MESSAGES, Message, Sink, logger
from proto import jsons
from proto.errors import Invalid, Unavailable

_REFUSAL_BYTES_MAX = 64 * 1024


class SseWire:
    """The server names, in its first event, the address that takes our messages; only one of its own origin is used.

    Nothing says to which request a message belongs: `related` is never given.
    """

    def __init__(self, spec: UpstreamSpec, login: Login) -> None:
        self._spec = spec
        self._login = login
        self._url = URL(spec.url)
        self._sink: Sink | None = None
        self._client: aiohttp.ClientSession | None = None
        self._stream: aiohttp.ClientResponse | None = None
        self._reading: asyncio.Task[None] | None = None
        self._endpoint: asyncio.Future[URL] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"SseWire({self._spec.name} {'open' if self._stream is not None else 'closed'})"

    async def open(self, sink: Sink) -> None:
        self._sink = sink
        self._client = client_for(self._spec)
        for tries_left in reversed(range(TRIES_MAX)):
            signed = await self._login.headers()
            headers = {**signed, "Accept": "text/event-stream", "Cache-Control": "no-store"}
            try:
                stream = self._stream = await self._client.get(self._url, headers=headers, allow_redirects=False)
            except (aiohttp.ClientError, OSError, TimeoutError) as e:
                raise broken(self._spec, e, sent=False) from e
            if not tries_left or not await self._login.again(stream, signed):
                break
            stream.close()
        if stream.status != 200:
            text = await stream.content.read(_REFUSAL_BYTES_MAX)
            judge(self._spec.name, stream, text, asked=True, had_session=False, login=self._login.mend)
        if stream.status != 200 or stream.content_type != "text/event-stream":
            raise Unavailable(
                f"server {self._spec.name!r} answered the GET of {self._spec.where} with status {stream.status} and "
                f"{stream.content_type!r}, not with an event stream"
            )
        self._reading = asyncio.create_task(self._read(stream, sink))
        await self._endpoint

    async def carry(self, message: Message, sent: Callable[[], None]) -> None:
        if self._client is None or self._sink is None or self._reading is None or self._reading.done():
            raise Unavailable(f"server {self._spec.name!r} has ended its event stream")
        text_sent = jsons.dumps(message)
        for tries_left in reversed(range(TRIES_MAX)):
            if not await self._post(self._client, message, Body(text_sent, sent), self._sink, last=not tries_left):
                return

    async def _post(
        self, client: aiohttp.ClientSession, message: Message, body: Body, sink: Sink, *, last: bool
    ) -> bool:
        """Whether it has to be sent once more, signed in anew."""
        asked = "method" in message and "id" in message
        signed = await self._login.headers()
        try:
            async with client.post(await self._endpoint, data=body, headers=signed, allow_redirects=False) as response:
                if not last and await self._login.again(response, signed):
                    return True
                text = await response.content.read(_REFUSAL_BYTES_MAX)
                if response.status < 300:
                    return False
                if response.status == 404 and self._reading is not None:
                    # The session that the address stands for is over; waiting for its stream to end would take long.
                    self._reading.cancel()
                answer = judge(self._spec.name, response, text, asked=asked, had_session=False, login=self._login.mend)
                if answer is not None:
                    sink.received({"jsonrpc": "2.0", "id": message["id"], **answer})
                return False
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            raise broken(self._spec, e, sent=body.leaving) from e

    async def agreed(self, protocol_version: str) -> None:
        """Nothing to do: this transport is older than the header."""

    def renew(self) -> None:
        """Nothing to do: the stream is the session."""

    def last_words(self) -> str:
        return ""

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if not self._endpoint.cancel() and not self._endpoint.cancelled():
            self._endpoint.exception()
        if self._stream is not None:
            self._stream.close()
        client, self._client = self._client, None
        if client is not None:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await client.close()

    # ---- the stream ------------------------------------------------------------------------------

    async def _read(self, stream: aiohttp.ClientResponse, sink: Sink) -> None:
        parser = SseParser(self._spec.message_bytes_max)
        cause = "it ended its event stream"
        try:
            async for chunk in stream.content.iter_any():
                for n, event in enumerate(parser.feed(chunk), 1):
                    self._take(event, sink)
                    if n % TURN_MESSAGES == 0:
                        await asyncio.sleep(0)
        except asyncio.CancelledError:
            cause = "it no longer knows the session"
            raise
        except Invalid as e:
            cause = e.message
        except Unavailable as e:
            cause = e.message
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            cause = f"its event stream broke: {in_words(e)}"
        finally:
            if not self._endpoint.done():
                self._endpoint.set_exception(Unavailable(f"server {self._spec.name!r}: {cause}"))
            sink.lost(cause)

    def _take(self, event: SseEvent, sink: Sink) -> None:
        if event.event == "endpoint":
            if not self._endpoint.done():
                self._endpoint.set_result(self._address(event.data.decode("utf-8", "replace")))
        elif event.event == "message" and event.data:
            try:
                value = jsons.loads(event.data)
            except Invalid as e:
                logger.warning("server %s: an event is not JSON (%s)", self._spec.name, e)
                sink.unreadable(None, e.message)
                return
            sink.received(value)

    def _address(self, said: str) -> URL:
        """Where to POST. Raises `Unavailable`: elsewhere our credentials would reach a stranger."""
        try:
            address = self._url.join(URL(said))
            same = address.origin() == self._url.origin()
        except ValueError as e:
            raise Unavailable(f"it names an endpoint that is no address: {said[:200]!r}") from e
        if not same:
            raise Unavailable(f"it names an endpoint of another origin, {str(address.origin())!r}; that is refused")
        return address
