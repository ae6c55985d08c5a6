"""A node that signs in to another one, as to any protected server, through a real authorization server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from node.app import App
from node.config import parse
from tests.identity_server.test_flow import node
from tests.identity_server.world import CLIENTS, AuthorizationServer

pytestmark = [pytest.mark.oauth, pytest.mark.asyncio(loop_scope="session")]


@asynccontextmanager
async def in_front_of(protected: App, tmp_path: Path, secret: str, issuer: str) -> AsyncIterator[App]:
    """A node of another mesh, open on loopback, that has the first one's server behind it."""
    auth = {"kind": "client_credentials", "client_id": "gateway", "client_secret": secret, "issuer": issuer}
    settings: dict[str, Any] = {
        "node": {"name": "front", "data_dir": str(tmp_path / "front")},
        "http": {"listen": "127.0.0.1:0"},
        "search": {"embedder": "none"},
        # The authorization server is learned of from the protected node, and runs on this machine.
        "outbound": {"allow": ["127.0.0.1"]},
        "servers": {"far": {"url": f"{protected.public_url}/mcp/shelf", "auth": auth, "survey": False}},
    }
    app = App(parse(settings, tmp_path))
    await app.start()
    try:
        await app.hosting.settled()
        yield app
    finally:
        await app.stop()


async def test_a_node_discovers_signs_in_and_calls(authorities: list[AuthorizationServer], tmp_path: Path) -> None:
    issuer = {"issuer": authorities[0].issuer}
    async with (
        node(tmp_path, issuer) as protected,
        in_front_of(protected, tmp_path, CLIENTS["gateway"], authorities[0].issuer) as front,
        Client(f"{front.url}/mcp/far") as agent,
    ):
        far = front.catalog.find("front", "far")
        assert far is not None
        assert far.health == {**far.health, "state": "up"}, far.health
        names = {tool.name for tool in (await agent.list_tools()).tools}
        shelf = protected.catalog.find("local", "shelf")
        assert shelf is not None
        assert names == set(shelf.tools)
        read = await agent.list_resources()
        assert read.resources


async def test_a_wrong_secret_is_named_and_nothing_of_it_shown(
    authorities: list[AuthorizationServer], tmp_path: Path
) -> None:
    issuer = authorities[0].issuer
    async with (
        node(tmp_path, {"issuer": issuer}) as protected,
        in_front_of(protected, tmp_path, "not-the-secret", issuer) as front,
    ):
        far = front.catalog.find("front", "far")
        assert far is not None
        assert far.health["state"] == "down"
        assert f"{authorities[0].issuer} refused a token: invalid_client" in far.health["cause"]
        assert "not-the-secret" not in far.health["cause"]


async def test_another_issuer_than_the_configured_one_gets_nothing(
    authorities: list[AuthorizationServer], tmp_path: Path
) -> None:
    issuer, other = (authority.issuer for authority in authorities)
    async with (
        node(tmp_path, {"issuer": issuer}) as protected,
        in_front_of(protected, tmp_path, CLIENTS["gateway"], other) as front,
    ):
        far = front.catalog.find("front", "far")
        assert far is not None
        assert f"it takes tokens of {issuer}, not of the configured issuer {other!r}" in far.health["cause"]
