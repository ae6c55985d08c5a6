"""What the doors themselves say, and the headers that every answer of a node bears."""

from __future__ import annotations

from collections.abc import MutableMapping
from http import HTTPStatus

from aiohttp import web
from mcp_types.jsonrpc import INVALID_REQUEST
from multidict import istr

from node.ingress import envelope
from proto import jsons

HSTS = "max-age=31536000"
"""RFC 6797 §6.1.1: a year. Without includeSubDomains, which are not this node's to speak for."""
CSP = "default-src 'none'; frame-ancestors 'none'"
_MCP_PATHS = ("/mcp", "/sse", "/ws", "/v1/")

_NOSNIFF = istr("X-Content-Type-Options")
_CSP = istr("Content-Security-Policy")
_REFERRER = istr("Referrer-Policy")
_CACHE = istr("Cache-Control")
_HSTS = istr("Strict-Transport-Security")
_SERVER = istr("Server")


def guard_headers(headers: MutableMapping[str, str], *, secure: bool) -> None:
    """Add what is not there yet: a part that serves pages sets a Content-Security-Policy of its own.

    Nothing may be kept by caches unless a part says so, since almost every answer depends on who asks. What software
    answers is told to nobody before he is known.
    """
    headers.setdefault(_NOSNIFF, "nosniff")
    headers.setdefault(_CSP, CSP)
    headers.setdefault(_REFERRER, "no-referrer")
    headers.setdefault(_CACHE, "no-store")
    if secure:
        headers.setdefault(_HSTS, HSTS)
    headers.pop(_SERVER, None)


class Unrouted(web.Response):
    """An answer that no route gives: the application's signals never see it, so it guards its own headers."""

    secure = False

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        guard_headers(self.headers, secure=self.secure)


def refusal(path: str, status: int, detail: str, *, secure: bool = False, retry_after_s: int = 0) -> web.Response:
    """A refusal in the words of whom the path is for: JSON-RPC for agents, problem details (RFC 9457) for others."""
    headers = {"Retry-After": str(retry_after_s)} if retry_after_s else None
    if path.startswith(_MCP_PATHS):
        body, kind = envelope.error(None, INVALID_REQUEST, detail), "application/json"
    else:
        title = HTTPStatus(status).phrase
        problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        body, kind = jsons.dumps(problem), "application/problem+json"
    response = Unrouted(status=status, body=body, content_type=kind, headers=headers)
    response.secure = secure
    return response


_FULL = b"this node has as many connections as it may; try again later"
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: 5\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_FULL), _FULL)
)
"""For a connection that is one too many, said before it has asked anything."""
