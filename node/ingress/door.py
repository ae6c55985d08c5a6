"""What every HTTP request of an agent passes once the node's doors (node/doors) let it in: credentials, body."""

from __future__ import annotations

import asyncio

from aiohttp import web
from mcp_types.jsonrpc import INVALID_REQUEST, PARSE_ERROR

from node.ingress import envelope
from node.ingress.errors import refusal as error_of
from node.ingress.incoming import API_KEY, AUTHORIZATION, NO_GUESS, credentials_of
from node.ingress.reply import Outcome
from node.ingress.settings import IngressSettings
from node.ports import Authenticator, ProofEnded
from proto.errors import Unauthenticated
from proto.records import Principal


class Door:
    """One per node, shared by its transports. Once `closed`, everybody is turned away."""

    def __init__(self, authenticator: Authenticator, settings: IngressSettings) -> None:
        self._authenticator = authenticator
        self._settings = settings
        self.closed = False

    def turned_away(self) -> web.Response | None:
        """Why the request is not even looked at; None: it is."""
        if self.closed:
            return refusal(503, INVALID_REQUEST, "this node is shutting down")
        return None

    async def authenticate(self, request: web.Request) -> Principal | web.Response:
        try:
            return await self._authenticator.authenticate(credentials_of(request))
        except Unauthenticated as e:
            if AUTHORIZATION in request.headers or API_KEY in request.headers:
                e.data["presented"] = True
            if isinstance(e, ProofEnded):
                request[NO_GUESS] = True
            cause: Exception = e
        except Exception as e:  # the edge where every failure becomes protocol
            cause = e
        refused = error_of(cause)
        body = envelope.error(None, refused.code, refused.message, refused.data)
        status = refused.status if refused.status != 200 else 500
        return Outcome(body, status, refused.headers).response()

    async def body(self, request: web.Request) -> bytes | web.Response:
        """The whole body, bounded in size and time. Small ones are already there."""
        limit = self._settings.body_bytes_max
        content = request.content
        if (request.content_length or 0) > limit:
            return self._too_large()
        parts: list[bytes] = []
        size = 0
        try:
            if content.is_eof():
                body = content.read_nowait()
                return body if len(body) <= limit else self._too_large()
            async with asyncio.timeout(self._settings.body_read_s):
                async for part in content.iter_any():
                    size += len(part)
                    if size > limit:
                        return self._too_large()
                    parts.append(part)
        except TimeoutError:
            return refusal(408, INVALID_REQUEST, f"the body took longer than {self._settings.body_read_s} s to arrive")
        except web.RequestPayloadError as e:
            return refusal(400, PARSE_ERROR, f"the body is not what its headers say: {e}")
        return b"".join(parts)

    def _too_large(self) -> web.Response:
        return refusal(413, INVALID_REQUEST, f"the body is longer than {self._settings.body_bytes_max} bytes")


def refusal(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON-RPC error without an id, under an HTTP status."""
    return Outcome(envelope.error(None, code, message), status, headers or {}).response()
