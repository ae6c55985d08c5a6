"""Talking to a running node: its operator API, and MCP 2026-07-28, one request at a time. Raises `MeshError`s only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp

from node.upstreams.sse import SseParser
from node.verbs.address import KEY_VARIABLE, URL_VARIABLE, key_of, url_of
from proto import jsons
from proto.errors import ERRORS, Expired, Invalid, MeshError, Unauthenticated, Unavailable

ANSWER_BYTES_MAX = 256 * 1024 * 1024
CONNECT_TIMEOUT_S = 5.0

URL_BYTES_MAX = 32_000
"""Of a path and what is asked there; a node reads no longer line (`node.doors.listener.LINE_BYTES_MAX`)."""

REVISION = "2026-07-28"
_META = "io.modelcontextprotocol/"


@dataclass(frozen=True, slots=True, repr=False)
class Remote:
    """Where a node answers and the key to show it; `key` may be empty."""

    url: str
    key: str = ""
    timeout_s: float = 30.0

    @classmethod
    def of(cls, url: str | None, key_file: Path | None, timeout_s: float = 30.0) -> Remote:
        """From options, then `TOOLMESH_URL` and `TOOLMESH_KEY`. Raises `Invalid` naming the option."""
        return cls(url_of(url), key_of(key_file), timeout_s)

    def __repr__(self) -> str:
        return f"Remote({self.url}, {'with' if self.key else 'without'} a key)"

    async def get(self, path: str, **params: str) -> dict[str, Any]:
        """One resource of the operator's API."""
        _, _, raw = await self._send("GET", path, params=params)
        return _object(raw)

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Change something by the operator's API; the answer to it."""
        headers = {"Content-Type": "application/json"}
        _, _, raw = await self._send("POST", path, headers=headers, data=jsons.dumps(body))
        return _object(raw)

    async def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Let something be so by the operator's API; the answer to it."""
        headers = {"Content-Type": "application/json"}
        _, _, raw = await self._send("PUT", path, headers=headers, data=jsons.dumps(body))
        return _object(raw)

    async def delete(self, path: str, **params: str) -> dict[str, Any]:
        """Let something be no more; parameters that are empty are left out."""
        _, _, raw = await self._send("DELETE", path, params={k: v for k, v in params.items() if v})
        return _object(raw)

    async def use_tool(self, server: str, tool: str, params: dict[str, Any]) -> dict[str, Any]:
        """The MCP result of one tool, whichever node runs it; a failing tool is a result with `isError`."""
        arguments = {"mcp_server_name": server, "mcp_tool_name": tool, "params": params}
        return await self.ask("/mcp", "tools/call", {"name": "use_tool", "arguments": arguments})

    async def ask(self, path: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result of one MCP request at one address of the node."""
        meta = {
            f"{_META}protocolVersion": REVISION,
            f"{_META}clientInfo": {"name": "toolmesh-cli", "version": _version()},
            f"{_META}clientCapabilities": {},
        }
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": REVISION,
            "Mcp-Method": method,
        }
        if "name" in params:
            headers["Mcp-Name"] = params["name"]
        _, kind, raw = await self._send("POST", path, headers=headers, data=jsons.dumps(request))
        answer = _from_events(raw) if kind == "text/event-stream" else _object(raw)
        result = answer.get("result")
        if isinstance(result, dict):
            return result
        raise _rpc_error(answer.get("error"))

    async def _send(self, method: str, path: str, **options: Any) -> tuple[int, str, bytes]:
        if len(path) + len(urlencode(options.get("params", {}))) > URL_BYTES_MAX:
            raise Invalid("what is asked for is far longer than any name or question; shorten it")
        headers = dict(options.pop("headers", {}))
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        timeout = aiohttp.ClientTimeout(total=self.timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                # A key must not follow a redirect to another host.
                session.request(method, self.url + path, headers=headers, allow_redirects=False, **options) as response,
            ):
                raw = await _read(response)
        except TimeoutError:
            raise Expired(f"{self.url} gave no answer within {self.timeout_s:g} s; --timeout-s waits longer") from None
        except aiohttp.InvalidURL as e:
            raise Invalid(f"--url {self.url!r} is not an address: {e}") from None
        except aiohttp.ClientConnectorCertificateError as e:
            why = getattr(e.certificate_error, "verify_message", "") or "it does not verify"
            raise Unavailable(
                f"the certificate of {self.url} is not trusted ({why}); set SSL_CERT_FILE to the file of its authority"
            ) from None
        except aiohttp.ClientSSLError as e:
            reason = getattr(e.os_error, "reason", "") or "the handshake failed"
            raise Unavailable(f"{self.url} cannot be reached by TLS ({reason}); is http:// meant?") from None
        except aiohttp.ClientConnectorError as e:
            raise Unavailable(
                f"no node answers at {self.url} ({_reason(e)}); start one with 'toolmesh up -c FILE', "
                f"or name another with --url or {URL_VARIABLE}"
            ) from None
        except aiohttp.ClientConnectionError:
            # What speaks TLS only ends a connection that begins without.
            mend = "is https:// meant?" if self.url.startswith("http:") else "is it stopping? See its log"
            raise Unavailable(f"{self.url} hung up without an answer; {mend}") from None
        except aiohttp.ClientError as e:
            raise Unavailable(f"{self.url} does not answer like a node: {_reason(e)}") from None
        if response.status == 401:
            raise Unauthenticated(
                f"{self.url} does not accept {'this key' if self.key else 'callers without a key'}; "
                f"give one with --key-file or {KEY_VARIABLE}"
            )
        if response.status >= 300 and not _is_rpc(response.content_type, raw):
            raise _problem(self.url, response.status, response.content_type, raw)
        return response.status, response.content_type, raw


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_chunked(64 * 1024):
        parts.append(part)
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise Unavailable(f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
    return b"".join(parts)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        return jsons.loads_object(raw, "its body")
    except Invalid as e:
        # `Invalid` is what the caller got wrong; this is the other side's doing.
        raise Unavailable(f"the answer is not that of a node: {e.message}; check --url") from None


def _is_rpc(content_type: str, raw: bytes) -> bool:
    return content_type == "application/json" and b'"jsonrpc"' in raw


def _from_events(raw: bytes) -> dict[str, Any]:
    # The blank line ends an event that the node did not finish itself.
    for event in SseParser(ANSWER_BYTES_MAX).feed(raw + b"\n\n"):
        if event.data:
            message = _object(event.data)
            if message.get("id") == 1 and ("result" in message or "error" in message):
                return message
    raise Unavailable("the node closed the stream before the result came; whether the tool ran is not known")


def _rpc_error(error: Any) -> MeshError:
    if not isinstance(error, dict):
        return Unavailable("the node's answer holds neither a result nor an error")
    data = error.get("data")
    kind = data.get("kind") if isinstance(data, dict) else None
    text = f"{error.get('message', 'no message')}"
    # A code without our kind is the upstream server's own.
    return ERRORS.get(str(kind), MeshError)(text if kind else f"{text} (JSON-RPC error {error.get('code')})")


def _problem(url: str, status: int, content_type: str, raw: bytes) -> MeshError:
    if content_type == "application/problem+json":
        body = _object(raw)
        kind = ERRORS.get(str(body.get("kind")), Unavailable)
        return kind(str(body.get("detail") or body.get("title") or f"HTTP status {status}"))
    return Unavailable(f"{url} answered HTTP status {status}, not like a node; check --url")


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        # asyncio puts the address into strerror; the plain words are enough beside the URL.
        return os.strerror(error.os_error.errno).lower()
    return str(error) or type(error).__name__


def _version() -> str:
    from importlib.metadata import version

    return version("toolmesh")
