"""A person's account at a server that a real authorization server guards: signed in at one, agreed to at another."""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from node.app import App
from node.config import parse
from node.credentials.ports import Asked
from node.demo.world import free_port
from tests.identity_server.test_flow import Agent, node
from tests.identity_server.world import PEOPLE, AuthorizationServer
from tests.node.consent.conftest import Browser, Page

pytestmark = [pytest.mark.oauth, pytest.mark.asyncio(loop_scope="session")]


async def registered(authority: AuthorizationServer, redirect_uri: str) -> str:
    """A client of the node's, for people who sign in with a browser."""
    asked = {
        "client_name": "node",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code"],
        "token_endpoint_auth_method": "none",
    }
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{authority.issuer}/.well-known/oauth-authorization-server") as answer:
            where = (await answer.json())["registration_endpoint"]
        async with http.post(where, json=asked) as answer:
            assert answer.status == 201, await answer.text()
            return str((await answer.json())["client_id"])


@asynccontextmanager
async def near(tmp_path: Path, logins: AuthorizationServer, far: App, guard: AuthorizationServer) -> AsyncIterator[App]:
    """Its people sign in at `logins`; its server is the other node's, which takes tokens of `guard`."""
    port = free_port(0)
    url = f"http://127.0.0.1:{port}"
    key = tmp_path / "secrets.key"
    key.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    key.chmod(0o600)
    login = {"client_id": await registered(logins, f"{url}/oauth/login/callback"), "scopes": ["mcp"]}
    settings = {
        "node": {"data_dir": str(tmp_path / "near")},
        "http": {"listen": f"127.0.0.1:{port}", "public_url": url},
        "search": {"embedder": "none"},
        "auth": {"issuers": [{"issuer": logins.issuer, "required_scopes": ["mcp"], "login": login}]},
        "secrets": {"key": {"file": str(key)}},
        "servers": {
            "far": {
                "url": f"{far.url}/mcp/shelf",
                "auth": {"kind": "authorization_code", "issuer": guard.issuer},
            }
        },
    }
    app = App(parse(settings, tmp_path))
    await app.start()
    try:
        await app.hosting.settled()
        yield app
    finally:
        await app.stop()


async def through(browser: Browser, page: Page, name: str, until: str) -> Page:
    """Sign in and agree wherever that is asked, until a page's text holds `until`."""
    for _ in range(6):
        if until in page.says:
            return page
        form = next((f for f in page.forms if "password" in f or "allow" in f), None)
        assert form is not None, f"{page.url}: {page.says}"
        fields = {"username": name, "password": PEOPLE[name]} if "password" in form else {}
        page = await browser.submit(page, form, **fields)
    raise AssertionError(f"{page.url}: {page.says}")


async def test_who_signs_in_at_one_issuer_consents_at_another_and_calls_with_that(authorities, tmp_path) -> None:
    logins, guard = authorities
    async with node(tmp_path / "far", {"issuer": guard.issuer}) as far, near(tmp_path, logins, far, guard) as app:
        agent = Agent(f"{app.url}/mcp/far", "ann")
        async with agent.client() as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["sign_in"]
            told = await client.call_tool("sign_in", {})
            assert told.is_error
            address = next(word for word in told.content[0].text.split() if "/oauth/start/" in word)
        browser = Browser(app.url)
        try:
            page = await browser.get(address)
            (link,) = [link for link in page.links if link.startswith("/oauth/login/0")]
            page = await through(browser, await browser.get(link), "ann", "What is asked for")
            assert f"ann ({logins.issuer})" in page.says
            # At the other authorization server the same person bears another name.
            page = await browser.submit(page, page.form("/oauth/connect/far"))
            page = await through(browser, page, "ben", "far is connected")
        finally:
            await browser.http.close()
        again = Agent(f"{app.url}/mcp/far", "ann")
        async with again.client() as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            assert "sign_in" not in tools
            assert tools
        assert app.signing_in.consents is not None
        (holder,) = app.signing_in.consents.grants.holders("far")
        grant = app.signing_in.consents.grants.get("far", holder)
        assert grant is not None
        assert grant.holder == (logins.issuer, "", "ann")
        assert grant.token.issuer == guard.issuer
        # Renewed at the real server as well, and what it rotates is kept.
        source = app.signing_in.consents.sources["far"]
        renewed = await source.renew(None, grant.token, Asked())
        assert renewed.access_token != grant.token.access_token
        assert renewed.refresh_token
        assert await source.remove(grant.holder)
