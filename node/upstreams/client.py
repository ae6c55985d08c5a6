"""What every wire over HTTP shares: a client session of its own, a body that tells when it leaves, and causes in words.

Redirects are not followed: credentials stay with the address that they were given for.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from node.upstreams.spec import UpstreamSpec
from proto.errors import MeshError, OutcomeUnknown, Unavailable

CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 4.0
"""Below the 5 s after which common servers close an idle connection: a POST must not race that."""
CLOSE_TIMEOUT_S = 3.0
READ_BYTES = 256 * 1024
_WRITE_BYTES = 256 * 1024

_TCP_IDLE_S = 60
_TCP_PROBE_EVERY_S = 20
_TCP_PROBES_MAX = 3


class Redirected(aiohttp.ClientError):
    """A WebSocket's address answered with a redirect."""


def client_for(spec: UpstreamSpec, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
    """A pool of connections to one server. How long a call may take is its caller's to say: nothing limits it here.

    Nor does the pool bound its number: what runs is bounded by `concurrency`, and whoever listens, or waits for a
    person's answer, where that is counted. With a bound here those would keep connections from those who call.
    """
    pool: dict[str, Any] = {"limit": 0, "keepalive_timeout": KEEPALIVE_S, "socket_factory": _watched_socket}
    judged = spec.outbound
    return aiohttp.ClientSession(
        connector=judged.connector(f"server {spec.name!r}", **pool) if judged else aiohttp.TCPConnector(**pool),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        headers={"User-Agent": "toolmesh"},
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=READ_BYTES,
        middlewares=middlewares,
    )


async def stay(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """A middleware for requests whose redirects aiohttp would follow unasked. Raises `Redirected`."""
    response = await handler(request)
    if 300 <= response.status < 400:
        target = response.headers.get("Location", "elsewhere")
        response.close()
        raise Redirected(f"it redirects to {target}; if that is the right address, use it as 'url'")
    return response


def _watched_socket(address: Any) -> socket.socket:
    """One whose peer's silent death is noticed within two minutes: a GET stream may wait for days."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _TCP_IDLE_S),
        ("TCP_KEEPINTVL", _TCP_PROBE_EVERY_S),
        ("TCP_KEEPCNT", _TCP_PROBES_MAX),
    ):
        if (option := getattr(socket, name, None)) is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


class Body(aiohttp.Payload):
    """JSON that tells when it begins to leave: from then on the server may act on it."""

    _autoclose = True

    def __init__(self, text: bytes, tell: Callable[[], None]) -> None:
        super().__init__(text, content_type="application/json")
        self._size = len(text)
        self._tell = tell
        self.leaving = False

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        text: bytes = self._value
        return text.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        self.leaving = True
        self._tell()
        text: bytes = self._value
        if len(text) <= _WRITE_BYTES:
            await writer.write(text)
            return
        # In parts, so that a slow server holds up nobody else and nothing is copied.
        view = memoryview(text)
        for at in range(0, len(text), _WRITE_BYTES):
            await writer.write(view[at : at + _WRITE_BYTES])


def broken(spec: UpstreamSpec, error: Exception, *, sent: bool) -> MeshError:
    """What the end of a connection means for the request that was on it."""
    if sent:
        return OutcomeUnknown(
            f"the connection to server {spec.name!r} broke after the request was sent: {in_words(error)}"
        )
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLError):
        return Unavailable(f"server {spec.name!r}: the certificate of {spec.where} was refused: {in_words(error)}")
    return Unavailable(f"server {spec.name!r} cannot be reached at {spec.where}: {in_words(error)}")


def in_words(error: BaseException) -> str:
    """In a few, without the address that the sentence around it names already."""
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(inner, ssl.SSLCertVerificationError):
        return inner.verify_message
    if isinstance(inner, OSError) and inner.errno:
        return os.strerror(inner.errno).lower() if inner.errno > 0 else str(inner.strerror or inner)
    return str(inner) or type(inner).__name__
