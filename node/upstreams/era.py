"""How to speak to a server: over which transport, and whether it understands 2026-07-28 (MCP.md, era of an upstream).

A server is asked `server/discover` on a connection, or in a process, that serves for nothing else: servers of before
that revision may die of an unknown first request.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Literal

from node.upstreams.handshake import HANDSHAKE_VERSIONS
from node.upstreams.http import HttpWire
from node.upstreams.http_sse import SseWire
from node.upstreams.login import Login
from node.upstreams.modern import MODERN_VERSION, discover_message, envelope
from node.upstreams.refusals import Refused
from node.upstreams.spec import UpstreamSpec
from node.upstreams.stdio import StdioWire
from node.upstreams.websocket import WebSocketWire
from node.upstreams.wire import Wire, logger
from proto.calls import Answer
from proto.errors import MeshError, OutcomeUnknown, Unavailable
from proto.records import Principal

Transport = Literal["stdio", "http", "sse", "websocket"]

PROBE_TIMEOUT_S = 5.0
"""A server that says nothing for so long to `server/discover` is taken for one of before 2026-07-28."""
PROBE_START_S = 15.0
"""The same for a command, which has to start first. Those on mcp 1.6 neither answer nor end, and cost all of it."""
PROBE_GRACE_S = 0.5
"""For the end of the process that was only asked: it has nothing to finish."""

HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022
_MODERN_CODES = (HEADER_MISMATCH, MISSING_CAPABILITY)

_NO_ENDPOINT = (400, 404, 405)
"""What an HTTP+SSE server may answer a POST to its stream's address with (MCP 2025-11-25, backwards compatibility)."""


@dataclass(frozen=True, slots=True)
class Era:
    """`modern`: it understands 2026-07-28 (which does not say that it no longer knows `initialize`).

    `capabilities`: what it says of itself there.
    """

    transport: Transport
    modern: bool
    capabilities: dict[str, Any] = field(default_factory=dict, compare=False)


async def detect(spec: UpstreamSpec) -> Era:
    """Ask the server. The verdict holds for as long as the same program, or address, is behind `spec`.

    Raises `Unavailable` where it cannot be reached or started, or speaks none of our revisions.
    """
    transport = transport_of(spec)
    if transport == "sse":
        return Era("sse", modern=False)
    patience_s = min(PROBE_START_S, spec.start_timeout_s) if transport == "stdio" else PROBE_TIMEOUT_S
    try:
        answer = await _ask(build_wire(spec, transport, PROBE_GRACE_S), patience_s)
    except Refused as e:
        if spec.transport == "auto" and e.status in _NO_ENDPOINT and await _serves_sse(spec):
            return Era("sse", modern=False)
        if e.status in (401, 403):
            raise
        answer = None
    result = answer.get("result") if answer is not None else None
    said = result.get("capabilities") if isinstance(result, dict) else None
    return Era(transport, _is_modern(spec.name, answer), said if isinstance(said, dict) else {})


def transport_of(spec: UpstreamSpec) -> Transport:
    """What the configuration says; over HTTP, `auto` stands for Streamable HTTP until the server was asked."""
    if spec.command:
        return "stdio"
    if spec.transport == "auto":
        return "websocket" if spec.url.startswith(("ws:", "wss:")) else "http"
    return spec.transport


def build_wire(
    spec: UpstreamSpec, transport: Transport, grace_s: float | None = None, principal: Principal | None = None
) -> Wire:
    """A closed wire, signed in for `principal`, or (None) for the server's lists.

    `grace_s` (stdio): how long the process has to end before it is killed.
    """
    match transport:
        case "stdio":
            return StdioWire(spec) if grace_s is None else StdioWire(spec, grace_s=grace_s)
        case "sse":
            return SseWire(spec, Login(spec, principal))
        case "websocket":
            return WebSocketWire(spec, Login(spec, principal))
        case "http":
            return HttpWire(spec, Login(spec, principal))


class _Ear:
    """A `Sink` for one answer; None for a server that ends, or says what cannot be read."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()

    def received(self, message: Any, related: int | None = None) -> None:
        for part in message if isinstance(message, list) else (message,):
            if isinstance(part, dict) and "method" not in part and not self.answer.done():
                self.answer.set_result(part)

    def unreadable(self, request_id: int | None, why: str) -> None:
        """A banner on stdout, say: the answer may follow."""

    def lost(self, cause: str) -> None:
        if not self.answer.done():
            self.answer.set_result(None)


async def _ask(wire: Wire, patience_s: float) -> Answer | None:
    """What it answers to `server/discover`; None: nothing. Raises `Unavailable` where it could not be asked."""
    ear = _Ear()
    try:
        await wire.open(ear)
        if isinstance(wire, HttpWire):
            wire.envelope = envelope
            await wire.agreed(MODERN_VERSION)
        async with asyncio.timeout(patience_s):
            try:
                await wire.carry(discover_message(), lambda: None)
            except OutcomeUnknown as e:
                logger.debug("%r: asked for its era, it said nothing of use: %s", wire, e)
                return None
            return await ear.answer
    except TimeoutError:
        return None
    finally:
        await wire.close()


def _is_modern(name: str, answer: Answer | None) -> bool:
    if answer is None:
        return False
    result, error = answer.get("result"), answer.get("error")
    if isinstance(result, dict):
        versions = result.get("supportedVersions")
    elif isinstance(error, dict) and error.get("code") == UNSUPPORTED_VERSION:
        data = error.get("data")
        versions = data.get("supported") if isinstance(data, dict) else None
    else:
        return isinstance(error, dict) and error.get("code") in _MODERN_CODES
    known = [v for v in versions if isinstance(v, str)] if isinstance(versions, list) else []
    if MODERN_VERSION in known:
        return True
    if known and not set(known) & set(HANDSHAKE_VERSIONS):
        raise Unavailable(
            f"server {name!r} supports the revisions {', '.join(known)[:200]}; "
            f"supported here are {', '.join((*HANDSHAKE_VERSIONS, MODERN_VERSION))}"
        )
    return False


async def _serves_sse(spec: UpstreamSpec) -> bool:
    wire = SseWire(spec, Login(spec))
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await wire.open(_Ear())
    except (MeshError, TimeoutError) as e:
        logger.debug("server %s: is no HTTP+SSE server either: %s", spec.name, e)
        return False
    else:
        return True
    finally:
        await wire.close()
