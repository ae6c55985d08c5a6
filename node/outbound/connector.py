"""Connections to addresses that may be dialled, and to no others: every name's every address is judged, then dialled.

Two gates, neither of which a caller can go round: `connect` sees the URL of each request, those of redirects too, and
the resolver sees what a name stands for. The connection goes to the address that was judged, so that a name that
resolves to something else a moment later (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from node.outbound.addresses import forbidden_reason
from node.outbound.allowed import Allowed
from node.outbound.urls import reason_against
from proto.errors import Unavailable

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

CONNECTIONS_MAX = 32
"""Of one session; one more waits for its turn."""


class JudgedResolver(AbstractResolver):
    """Raises `Unavailable` for a name of which any address may not be dialled: one bad answer among good ones is no
    accident."""

    def __init__(self, allowed: Allowed, purpose: str, resolver: AbstractResolver | None = None) -> None:
        self._allowed = allowed
        self._purpose = purpose
        self._resolver = resolver or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if not self._allowed.host(host, port):
            for result in found:
                address = result["host"]
                reason = forbidden_reason(address)
                if reason and not self._allowed.address(address):
                    raise Unavailable(
                        f"{self._purpose}: {host!r} may not be dialled: its address {address} {reason}. If it is "
                        "meant, add it to outbound.allow"
                    )
        return found

    async def close(self) -> None:
        await self._resolver.close()


class JudgedConnector(aiohttp.TCPConnector):
    def __init__(self, allowed: Allowed, purpose: str, resolver: AbstractResolver | None = None, **more: Any) -> None:
        # Resolved for each connection, never from a cache: what was judged is what is dialled, and a mend shows soon.
        options = {"limit": CONNECTIONS_MAX, **more}
        super().__init__(resolver=JudgedResolver(allowed, purpose, resolver), use_dns_cache=False, **options)
        self._allowed_here = allowed
        self._purpose_here = purpose

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:
        host, port = req.url.raw_host or "", req.url.port or 0
        if not self._allowed_here.host(host, port) and (reason := reason_against(host, port)):
            raise Unavailable(
                f"{self._purpose_here}: {host!r} may not be dialled: {reason}. If it is meant, add it to outbound.allow"
            )
        return await super().connect(req, traces, timeout)
