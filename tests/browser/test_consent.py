"""A person in a real browser: from the address in an agent's answer to a call that runs as that person."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from node.app import App
from tests.browser.chromium import Tab, chromium, lacking
from tests.node.consent.authority import Authority
from tests.node.waiting import until
from tests.node.working import app_of

pytestmark = pytest.mark.browser

KEY = f"alice-{secrets.token_urlsafe(24)}"
ARGUMENTS = {"mcp_server_name": "files", "mcp_tool_name": "whoami", "params": {}}


@dataclass
class Scene:
    node: App
    authority: Authority
    tab: Tab

    async def use_tool(self) -> str:
        """What an agent that knows no addresses reads."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": "use_tool", "arguments": ARGUMENTS, "_meta": meta}
        headers = {
            "Authorization": f"Bearer {KEY}",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/call",
            "Mcp-Name": "use_tool",
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.node.url}/mcp", json=message, headers=headers) as answer,
        ):
            return str((await answer.json())["result"]["content"][0]["text"])


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    if reason := lacking():
        pytest.skip(reason)
    key = tmp_path / "secrets.key"
    key.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    key.chmod(0o600)
    authority = Authority(account="acc-alice")
    async with AsyncExitStack() as stack:
        runner = await authority.serve()
        stack.push_async_callback(runner.cleanup)
        settings = {
            "node": {"data_dir": str(tmp_path / "data")},
            "auth": {"keys": [{"name": "alice", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]},
            "secrets": {"key": {"file": str(key)}},
            "servers": {"files": {"url": f"{authority.base}/mcp", "auth": {"kind": "authorization_code"}}},
        }
        node = app_of(settings, tmp_path)
        stack.push_async_callback(node.stop)
        await node.start()
        tab = await stack.enter_async_context(chromium(tmp_path / "profile"))
        yield Scene(node, authority, tab)


async def test_a_person_signs_in_agrees_and_takes_it_back(scene):
    tab = scene.tab
    await tab.open(f"{scene.node.url}/oauth/connect/files")
    assert "/oauth/signin" in await tab.url()
    await tab.type("#key", KEY)
    await tab.click("form:has(#key) button", until="What is asked for")
    assert "alice" in await tab.text()
    # The cookie is kept, and out of reach of pages.
    cookies = {c["name"]: c for c in (await tab.do("Network.getCookies"))["cookies"]}
    session = cookies["__Host-toolmesh"]
    assert session["httpOnly"]
    assert session["secure"]
    assert session["sameSite"] == "Lax"
    assert await tab.value("document.cookie") == ""
    # The form's answer leads on to another host though forms may go to this one alone.
    await tab.click("main form[action^='/oauth/connect'] button", until="files is connected")
    assert (await tab.url()).startswith(f"{scene.node.url}/oauth?")
    await until(scene.node, lambda: (found := scene.node.catalog.find("local", "files")) is not None and found.up)
    assert await scene.use_tool() == "acc-alice"
    await tab.click("form[action^='/oauth/remove'] button", until="Not connected")
    assert scene.authority.revoked
    address = next(word for word in (await scene.use_tool()).split() if "/oauth/start/" in word)
    await tab.open(address)
    assert "An agent that calls as you wants to use files" in await tab.text()
    assert tab.said == [], "the browser refused something of our own pages"


async def test_what_another_site_sends_does_nothing(scene, tmp_path):
    """A page of another origin frames ours and sends a form in the person's name."""
    from aiohttp import web

    tab = scene.tab
    await tab.open(f"{scene.node.url}/oauth/signin")
    await tab.type("#key", KEY)
    await tab.click("form:has(#key) button", until="Not connected")
    target = f"{scene.node.url}/oauth/connect/files"

    async def page(_: web.Request) -> web.Response:
        text = f'<p>here</p><form method="post" action="{target}"><button>Win</button></form><iframe src="{target}">'
        return web.Response(text=text, content_type="text/html")

    app = web.Application()
    app.add_routes([web.get("/", page)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        # Another name of this machine: another site to the browser.
        await tab.open(f"http://localhost:{runner.addresses[0][1]}/")
        framed = await tab.value("document.querySelector('iframe').contentDocument === null")
        assert framed is True
        assert any("frame" in said or "X-Frame-Options" in said for said in tab.said), tab.said
        # The session's cookie does not go with it (SameSite).
        await tab.click("button", until="you are not signed in any more; nothing was done")
    finally:
        await runner.cleanup()
    assert scene.authority.asked == []
