"""A WebSocket client (RFC 6455) for one connection to a node.

By hand, because an agent waits for the process that it starts: importing aiohttp takes longer than all else together.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import socket
import ssl
from contextlib import suppress
from urllib.parse import urlsplit

from node.verbs.address import KEY_VARIABLE
from proto import jsons
from proto.errors import Invalid, MeshError, Unauthenticated, Unavailable

MESSAGE_BYTES_MAX = 256 * 1024 * 1024
CONNECT_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0
SUBPROTOCOL = "mcp"
BYTES_MAX_HEADER = "toolmesh-message-bytes-max"


_BODY_BYTES_MAX = 64 * 1024
_BUFFER_BYTES = 256 * 1024
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _CLOSE, _PING = 0x0, 0x1, 0x8, 0x9
_PONG = 0xA
_GOING_AWAY = (1001).to_bytes(2)
# A node's machine that vanished without a word is missed after 20 + 3 x 5 s.
_KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


class NoNode(Unavailable):
    """Nothing listens there."""


class WebSocket:
    """An open connection. `sends_bytes_max`: the longest message that the node takes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sends_bytes_max: int) -> None:
        self.sends_bytes_max = sends_bytes_max
        self._reader = reader
        self._writer = writer
        self._closing = False

    @classmethod
    async def dial(cls, url: str, path: str, key: str) -> WebSocket:
        """`url` as `http(s)://host[:port]`. Raises `NoNode`, `Unavailable`, or what the node's refusal stands for."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await _connect(url)
                try:
                    status, headers = await _upgrade(reader, writer, url, path, key)
                    if status != 101:
                        raise await _refusal(reader, url, status, headers, key)
                except BaseException:
                    writer.close()
                    raise
        except TimeoutError:
            raise Unavailable(f"{url} gave no answer within {CONNECT_TIMEOUT_S:g} s; check --url") from None
        except (OSError, EOFError) as e:
            raise Unavailable(f"{url} hung up without an answer ({e or type(e).__name__}); check --url") from None
        bytes_max = headers.get(BYTES_MAX_HEADER, "")
        return cls(reader, writer, int(bytes_max) if bytes_max.isdecimal() else MESSAGE_BYTES_MAX)

    async def send(self, text: bytes) -> None:
        """One message; valid UTF-8. Raises `ConnectionError`."""
        await self._send(_TEXT, text)

    async def receive(self) -> bytes | None:
        """The next message; None once the connection is over, however it ended."""
        parts: list[bytes] = []
        size = 0
        try:
            while True:
                final, opcode, length = await self._head()
                size += length
                if size > MESSAGE_BYTES_MAX:
                    return None
                data = await self._reader.readexactly(length)
                if opcode == _CLOSE:
                    await self._send(_CLOSE, data[:2])
                    return None
                if opcode == _PING:
                    await self._send(_PONG, data)
                elif opcode in (_TEXT, _CONTINUATION):
                    parts.append(data)
                    if final:
                        return b"".join(parts)
                if opcode >= _CLOSE:
                    size -= length
        except (OSError, EOFError):
            return None

    async def close(self) -> None:
        """Say goodbye, and wait a moment for it to be heard."""
        if self._closing:
            return
        self._closing = True
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._send(_CLOSE, _GOING_AWAY)
                self._writer.close()
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            pass
        finally:
            self._writer.transport.abort()

    async def _head(self) -> tuple[bool, int, int]:
        first, second = await self._reader.readexactly(2)
        if second & 0x80:
            raise ConnectionError("a node masks no frame (RFC 6455 §5.1)")
        length = second & 0x7F
        if length == 126:
            length = int.from_bytes(await self._reader.readexactly(2))
        elif length == 127:
            length = int.from_bytes(await self._reader.readexactly(8))
        return bool(first & 0x80), first & 0x0F, length

    async def _send(self, opcode: int, data: bytes) -> None:
        size = len(data)
        if size < 126:
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 1 << 16:
            head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2)
        else:
            head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8)
        mask = os.urandom(4)
        # One write: no other frame comes between a head and its data.
        self._writer.write(head + mask + _masked(data, mask))
        await self._writer.drain()


def _masked(data: bytes, mask: bytes) -> bytes:
    """RFC 6455 §5.3, as one exclusive-or of two long numbers: 3 ms per MB, where a loop over bytes takes 60."""
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    try:
        port = parts.port or (443 if tls else 80)
        reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=tls, limit=_BUFFER_BYTES)
    except ValueError as e:
        raise Invalid(f"--url {url!r} is not an address: {e}") from None
    except ssl.SSLCertVerificationError as e:
        raise Unavailable(
            f"the certificate of {url} is not trusted ({e.verify_message}); "
            "set SSL_CERT_FILE to the file of its authority"
        ) from None
    except ssl.SSLError as e:
        raise Unavailable(f"{url} cannot be reached by TLS ({e.reason}); is http:// meant?") from None
    except OSError as e:
        why = os.strerror(e.errno).lower() if e.errno and e.errno > 0 else str(e)
        raise NoNode(f"no node answers at {url} ({why})") from None
    _keep_alive(writer.get_extra_info("socket"))
    return reader, writer


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _upgrade(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: str, path: str, key: str
) -> tuple[int, dict[str, str]]:
    """(status, headers by lower-case name). Raises `Unavailable` for what is no HTTP."""
    parts = urlsplit(url)
    nonce = base64.b64encode(os.urandom(16))
    lines = [
        f"GET {parts.path}{path} HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {nonce.decode()}",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
    ]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    writer.write("\r\n".join([*lines, "\r\n"]).encode())
    await writer.drain()
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *rest = head.rstrip().split("\r\n")
        status = int(status_line.split(" ", 2)[1])
    except (asyncio.LimitOverrunError, ValueError, IndexError):
        raise Unavailable(f"{url} does not answer like a node; check --url") from None
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    expected = base64.b64encode(hashlib.sha1(nonce + _GUID, usedforsecurity=False).digest()).decode()
    if status == 101 and headers.get("sec-websocket-accept") != expected:
        raise Unavailable(f"{url} accepts WebSockets, but not like a node; check --url")
    return status, headers


async def _refusal(reader: asyncio.StreamReader, url: str, status: int, headers: dict[str, str], key: str) -> MeshError:
    """Why the node said no, in its own words where it has some."""
    if status == 401:
        who = "this key" if key else "callers without a key"
        return Unauthenticated(f"{url} does not accept {who}; give one with --key-file or {KEY_VARIABLE}")
    length = headers.get("content-length", "")
    said = ""
    if length.isdecimal() and int(length) <= _BODY_BYTES_MAX:
        with suppress(Invalid, KeyError, TypeError):
            said = str(jsons.loads_object(await reader.readexactly(int(length)), "its body")["error"]["message"])
    return Unavailable(
        f"{url} answered HTTP status {status}{f': {said}' if said else ', not like a node; check --url'}"
    )
