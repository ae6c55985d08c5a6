"""What HTTP tells of a request before its message is looked at: who asks, in what words it may be answered."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from aiohttp import web
from multidict import istr

from node.doors.forwarded import peer_of
from node.ports import Caller, Credentials
from proto.errors import Unauthenticated
from proto.records import Principal

AUTHORIZATION = istr("Authorization")
API_KEY = istr("X-API-Key")
NO_GUESS: web.RequestKey[bool] = web.RequestKey("no guess", bool)
"""Set on a request whose credentials were genuine once: the doors count guesses."""
TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.{0,128})?")
_TRACESTATE_MAX = 512
_QUALITY = re.compile(r"q\s*=\s*([01](?:\.[0-9]{0,3})?)")


@dataclass(frozen=True, slots=True)
class Incoming:
    """One request of an authenticated agent, whatever brought it.

    `headers` are looked up without regard to case; a transport without headers has none. `name` is the path's server,
    None at `/mcp`. `version_header` is empty where absent.
    """

    headers: Mapping[str, str]
    name: str | None
    principal: Principal
    version_header: str = ""
    accepts_sse: bool = True

    def caller(self, era: str, session_key: str, capabilities: dict[str, Any], params: dict[str, Any]) -> Caller:
        return Caller(self.principal, era, session_key, capabilities, trace_of(self.headers, params))


@lru_cache(maxsize=256)
def accepted(accept: str) -> tuple[bool, bool]:
    """(JSON, event stream) by an Accept header; wildcards count (RFC 9110 §12.5.1), quality 0 refuses."""
    kinds = set()
    for part in accept.lower().split(","):
        media, *parameters = (p.strip() for p in part.split(";"))
        if not any(re.fullmatch(r"q\s*=\s*0(\.0*)?", p) for p in parameters):
            kinds.add(media)
    return (
        not kinds.isdisjoint({"application/json", "application/*", "*/*"}),
        not kinds.isdisjoint({"text/event-stream", "text/*", "*/*"}),
    )


@lru_cache(maxsize=256)
def prefers_stream(accept: str) -> bool:
    """Is an event stream named ahead of JSON? By quality, and among equals by place, as clients mean it."""
    qualities: dict[str, float] = {}
    for part in accept.lower().split(","):
        media, *parameters = (p.strip() for p in part.split(";"))
        matched = next(filter(None, (_QUALITY.fullmatch(p) for p in parameters)), None)
        qualities.setdefault(media, float(matched[1]) if matched else 1.0)
    named = sorted(qualities, key=lambda media: -qualities[media])
    stream, json = "text/event-stream", "application/json"
    return stream in named and json in named and named.index(stream) < named.index(json)


def credentials_of(request: web.Request) -> Credentials:
    """What was presented, in headers and by TLS; a query is never looked at, since logs and histories keep it.

    Raises `Unauthenticated` for an Authorization header that cannot be read, and for one header that comes twice: who
    stands in front of this node may have looked at the other.
    """
    headers = request.headers
    authorization, api_key = headers.get(AUTHORIZATION, ""), headers.get(API_KEY, "")
    for name in (AUTHORIZATION, API_KEY):
        if name in headers and len(headers.getall(name)) > 1:
            raise Unauthenticated(f"{name} is given more than once; give it once", presented=True)
    transport = request.transport
    ssl = transport.get_extra_info("ssl_object") if transport is not None else None
    certificate = (ssl.getpeercert(True) or b"") if ssl is not None else b""
    bearer = basic = ""
    if authorization:
        scheme, _, value = authorization.partition(" ")
        value = value.strip()
        match scheme.lower():
            case "bearer" if value:
                bearer = value
            case "basic" if value:
                basic = _decoded(value)
            case _:
                raise Unauthenticated("Authorization must be 'Bearer TOKEN' or 'Basic CREDENTIALS'", presented=True)
    return Credentials(bearer, basic, api_key, certificate, peer_of(request), request.rel_url.raw_path)


def _decoded(credentials: str) -> str:
    """`USER:PASSWORD` (RFC 7617 §2)."""
    try:
        text = base64.b64decode(credentials, validate=True).decode()
    except ValueError:
        text = ""
    if ":" not in text:
        raise Unauthenticated("the Basic credentials are not base64 of USER:PASSWORD", presented=True)
    return text


def trace_of(headers: Mapping[str, str], params: dict[str, Any]) -> dict[str, str]:
    """The W3C trace context, from the headers or else from `params._meta`; empty if absent or malformed."""
    found: Mapping[str, Any] = headers
    if TRACEPARENT not in headers:
        meta = params.get("_meta")
        if not isinstance(meta, dict) or TRACEPARENT not in meta:
            return {}
        found = meta
    parent, state = found[TRACEPARENT], found.get(TRACESTATE)
    if not isinstance(parent, str) or not _TRACEPARENT.fullmatch(parent):
        return {}
    trace = {TRACEPARENT: parent}
    if isinstance(state, str) and 0 < len(state) <= _TRACESTATE_MAX:
        trace[TRACESTATE] = state
    return trace
