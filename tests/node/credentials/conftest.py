from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey

from node.config import parse
from node.credentials.callers import CallerTokens
from node.credentials.choose import Signing
from node.outbound.outbound import Outbound
from node.upstreams.offer import Offer
from node.upstreams.upstream import Upstream
from proto.calls import Answer, Call, Notification
from proto.errors import Unavailable
from proto.names import NodeId
from proto.records import Principal
from tests.node.credentials.world import CLIENT, SECRET, Issuer, McpServer, serve

ME = NodeId.of("test.toolmesh", "here", "me")
PATIENCE_S = 20.0


def new_pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


PEM = new_pem()


class Deaf:
    """An `Exchange` of a client that hears nothing."""

    def event(self, notification: Notification) -> None:
        return

    async def request(self, request: Notification) -> Answer:
        raise Unavailable("nobody to ask")


@dataclass
class World:
    """One authorization server, one MCP server, and the node's side of it, started by `connect`."""

    issuer: Issuer
    server: McpServer
    callers: CallerTokens = field(default_factory=CallerTokens)
    upstreams: list[Upstream] = field(default_factory=list)
    health: list[tuple[str, str]] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def auth(self, **more: Any) -> dict[str, Any]:
        return {
            "kind": "client_credentials",
            "client_id": CLIENT,
            "client_secret": SECRET,
            "issuer": self.issuer.url,
            **more,
        }

    def keyed(self) -> dict[str, Any]:
        """A client whose authorization server nobody has pinned."""
        return {"kind": "client_credentials", "client_id": CLIENT, "client_key": PEM}

    def exchange(self, **more: Any) -> dict[str, Any]:
        self.issuer.key = ECKey.import_key(PEM)
        own = {} if more.get("subject") == "token" else {"assertion_key": PEM}
        return {**self.auth(kind="token_exchange"), **own, **more}

    async def connect(self, auth: dict[str, Any], path: str = "/mcp", *, wait: str = "up", **more: Any) -> Upstream:
        """An upstream that is up, or, with `wait` "down", one that has failed once."""
        url = self.server.url.replace("http:", "ws:") if path == "/ws" else self.server.url
        server = {"url": f"{url}{path}", "auth": auth, "survey": False, **more}
        config = parse({"servers": {"strict": server}}, Path.cwd()).servers["strict"]
        spec = Signing(ME, Outbound(["127.0.0.1"]), self.callers).spec("strict", config)
        upstream = Upstream(spec, self._hear)
        self.upstreams.append(upstream)
        await upstream.start()
        await self.until(upstream, wait)
        return upstream

    async def until(self, upstream: Upstream, state: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while upstream.health.state != state:
                self._news.clear()
                await self._news.wait()

    def _hear(self, offer: Offer) -> None:
        self.health.append((offer.health.state, offer.health.cause))
        self._news.set()


async def whoami(upstream: Upstream, principal: Principal, via: tuple[str, ...] = ("me",), **more: Any) -> str:
    """Whom the server takes the caller for."""
    call = Call("c", "strict", "tools/call", {"name": "whoami", "arguments": {}}, principal=principal, via=via, **more)
    async with asyncio.timeout(PATIENCE_S):
        answer = await upstream.run(call, Deaf())
    said: str = answer["result"]["content"][0]["text"]
    return said


@asynccontextmanager
async def started() -> AsyncIterator[World]:
    issuer = Issuer()
    server = McpServer(issuer)
    runners = []
    for part in (issuer, server):
        runner, part.url = await serve(part.app())
        runners.append(runner)
    made = World(issuer, server)
    try:
        yield made
    finally:
        await asyncio.gather(*(u.stop() for u in made.upstreams))
        for runner in runners:
            await runner.cleanup()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with started() as world:
        yield world
