"""A real authorization server, the SDK's own OAuth client, a person with a browser, and a node between them."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import pytest
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from node.app import App
from node.config import parse
from node.demo.world import free_port
from node.identity import key_source
from tests.identity_server.world import CLIENTS, AuthorizationServer, Browser

pytestmark = [pytest.mark.oauth, pytest.mark.asyncio(loop_scope="session")]

SHELF = Path(__file__).parents[1] / "node" / "servers" / "shelf.py"
BACK = "http://127.0.0.1:1/back"
PRM = "/.well-known/oauth-protected-resource"


class Kept:
    """Where the SDK keeps tokens and its registration."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Agent:
    """The SDK's client of one person; `asked` are the addresses that its browser was sent to."""

    def __init__(self, url: str, name: str) -> None:
        self.kept = Kept()
        self.asked: list[str] = []
        self._url = url
        self._browser = Browser(name)
        self._answer: dict[str, str] = {}

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        metadata = OAuthClientMetadata(
            redirect_uris=[BACK],  # type: ignore[list-item]
            client_name="a test",
            grant_types=["authorization_code", "refresh_token"],
            token_endpoint_auth_method="none",
        )
        auth = OAuthClientProvider(self._url, metadata, self.kept, self._show, self._come_back)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._browser.close)
            http = await stack.enter_async_context(httpx2.AsyncClient(auth=auth, timeout=60))
            yield await stack.enter_async_context(Client(streamable_http_client(self._url, http_client=http)))

    async def _show(self, url: str) -> None:
        self.asked.append(url)
        self._answer = await self._browser.follow(url, BACK)

    async def _come_back(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(**{name: self._answer.get(name) for name in ("code", "state", "iss")})


@asynccontextmanager
async def node(tmp_path: Path, *issuers: dict[str, Any], **more: Any) -> AsyncIterator[App]:
    port = free_port(0)
    settings: dict[str, Any] = {
        "node": {"data_dir": str(tmp_path / "data")},
        "http": {"listen": f"127.0.0.1:{port}", "public_url": f"http://127.0.0.1:{port}"},
        "search": {"embedder": "none"},
        "auth": {"issuers": [{"required_scopes": ["mcp"], **issuer} for issuer in issuers]},
        "servers": {"shelf": {"command": [sys.executable, str(SHELF)], **more}},
    }
    app = App(parse(settings, tmp_path))
    await app.start()
    try:
        await app.hosting.settled()
        yield app
    finally:
        await app.stop()


async def told(url: str, token: str = "") -> tuple[int, str]:
    """(status, challenge) of a request with this token."""
    headers = {"Accept": "application/json, text/event-stream", "Authorization": f"Bearer {token}"}
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }
    async with aiohttp.ClientSession() as http, http.post(url, json=body, headers=headers if token else {}) as r:
        return r.status, r.headers.get("WWW-Authenticate", "")


async def test_an_agent_finds_the_way_in_by_itself_and_stays_in(authorities, tmp_path) -> None:
    """Discovery from the 401, registration, consent, a token for this resource, a call, and a refresh."""
    first = authorities[0]
    async with node(tmp_path, {"issuer": first.issuer}) as app:
        url = f"{app.url}/mcp/shelf"
        agent = Agent(url, "ann")
        first.issue(life_s=400)
        async with agent.client() as client:
            assert (await client.call_tool("count_books", {})).structured_content == {"result": 7}
            assert len(agent.asked) == 1
            assert "code_challenge_method=S256" in agent.asked[0]
            assert f"resource={url.replace(':', '%3A').replace('/', '%2F')}" in agent.asked[0]
            assert "scope=mcp" in agent.asked[0]
            before = agent.kept.tokens
            assert before is not None
            record = app.gateway.recent[-1]
            assert (record.subject, record.issuer) == ("ann", first.issuer)
        # The SDK looks at the time before it sends.
        again = Agent(url, "ann")
        again.kept = agent.kept
        assert before.refresh_token
        before.access_token, before.expires_in = "spoiled", -1
        async with again.client() as client:
            assert (await client.call_tool("count_books", {})).structured_content == {"result": 7}
        assert agent.kept.tokens is not None
        assert agent.kept.tokens.access_token not in ("", "spoiled")


async def test_a_tool_that_needs_more_leads_to_consent_for_more(authorities, tmp_path) -> None:
    first = authorities[0]
    async with node(tmp_path, {"issuer": first.issuer}, scopes={"burn_book": ["operator"]}) as app:
        agent = Agent(f"{app.url}/mcp/shelf", "ann")
        async with agent.client() as client:
            await client.call_tool("count_books", {})
            assert "operator" not in agent.asked[0]
            burnt = await client.call_tool("burn_book", {"title": "Emma"})
            assert burnt.structured_content == {"result": "Emma is ash"}
            assert "operator" in agent.asked[1]
            assert "operator" in (agent.kept.tokens.scope or "")  # type: ignore[union-attr]


async def token_of(app: App, server: AuthorizationServer, path: str = "/mcp") -> str:
    """What an agent of ann's ends up with."""
    agent = Agent(app.url + path, "ann")
    async with agent.client() as client:
        await client.list_tools()
    assert agent.kept.tokens is not None
    return agent.kept.tokens.access_token


async def test_a_token_opens_what_it_is_for_and_nothing_else(authorities, tmp_path) -> None:
    first, second = authorities
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(node(tmp_path / "a", {"issuer": first.issuer}))
        other = await stack.enter_async_context(node(tmp_path / "b", {"issuer": first.issuer}))
        foreign = await stack.enter_async_context(node(tmp_path / "c", {"issuer": second.issuer}))
        token = await token_of(ours, first, "/mcp/shelf")
        assert (await told(f"{ours.url}/mcp/shelf", token))[0] == 200
        # Another path of this node, another node of the same issuer, a node that does not know the issuer.
        for url in (f"{ours.url}/mcp", f"{other.url}/mcp/shelf", f"{foreign.url}/mcp/shelf"):
            status, challenge = await told(url, token)
            base, path = url[: url.index("/mcp")], url[url.index("/mcp") :]
            assert status == 401
            assert challenge == (f'Bearer error="invalid_token", scope="mcp", resource_metadata="{base}{PRM}{path}"')
        status, challenge = await told(f"{ours.url}/mcp/shelf")
        assert status == 401
        assert "error=" not in challenge


async def test_an_expired_token_is_refused(authorities, tmp_path) -> None:
    first = authorities[0]
    async with node(tmp_path, {"issuer": first.issuer, "clock_skew_s": 0}) as app:
        first.issue(life_s=400)
        token = await token_of(app, first)
        assert (await told(f"{app.url}/mcp", token))[0] == 200
        app.identity._now_s = lambda: time.time() + 401
        assert (await told(f"{app.url}/mcp", token))[0] == 401


async def test_keys_change_under_way(authorities, tmp_path, monkeypatch) -> None:
    first = authorities[0]
    monkeypatch.setattr(key_source, "INTERVAL_S", 0.0)
    async with node(tmp_path, {"issuer": first.issuer}) as app:
        old = await token_of(app, first)
        await first.rotate(keep=True)
        new = await token_of(app, first)
        assert (await told(f"{app.url}/mcp", new))[0] == 200
        assert (await told(f"{app.url}/mcp", old))[0] == 200
        await first.rotate(keep=False)
        assert (await told(f"{app.url}/mcp", await token_of(app, first)))[0] == 200
        app.identity._tokens.keep(lambda _: False)
        assert (await told(f"{app.url}/mcp", old))[0] == 401


async def test_opaque_tokens_are_asked_about(authorities, tmp_path) -> None:
    first = authorities[0]
    (client_id, secret), *_ = CLIENTS.items()
    issuer = {
        "issuer": first.issuer,
        "introspection": {"client_id": client_id, "client_secret": secret},
        "claims": {"subject": "username"},
    }
    async with node(tmp_path, issuer) as app:
        first.issue(opaque=True)
        try:
            token = await token_of(app, first)
        finally:
            first.issue()
        assert "." not in token
        assert (await told(f"{app.url}/mcp", token))[0] == 200
        assert (await told(f"{app.url}/mcp", "f" * 32))[0] == 401
        await first.stop()
        try:
            assert (await told(f"{app.url}/mcp", token))[0] == 200
            assert (await told(f"{app.url}/mcp", "e" * 32))[0] == 503
        finally:
            await first.start()
