"""Two real nodes: agents at one, the server and the browser's pages at the other."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from federation.ca import init_ca
from node.app import App
from node.cli import app as cli
from node.mesh_keys import make
from node.verbs.address import KEY_VARIABLE
from tests.node.consent.authority import Authority
from tests.node.consent.conftest import Browser
from tests.node.waiting import until
from tests.node.working import MESH, app_of, settings_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

PEOPLE = {
    name: f"{name}-{secrets.token_urlsafe(24)}"
    for name in ("alice", "bob", "carol", "dave", "erin", "mallory", "admin")
}
URL_MODE = {"elicitation": {"url": {}}}
WHOAMI = {"name": "whoami", "arguments": {}}
PATIENCE_S = 30.0


@dataclass
class World:
    owner: App
    entry: App
    authority: Authority
    http: aiohttp.ClientSession
    sessions: dict[str, str] = field(default_factory=dict)

    async def modern(
        self, who: str, params: dict[str, Any], capabilities: Any, path: str = "/mcp/files", method: str = "tools/call"
    ) -> dict[str, Any]:
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": capabilities,
        }
        headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method}
        if "name" in params:
            headers["Mcp-Name"] = params["name"]
        return await self._post(who, path, method, {**params, "_meta": meta}, headers)

    async def legacy(self, who: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
        headers = {"MCP-Protocol-Version": "2025-11-25", "Mcp-Session-Id": self.sessions[who]}
        return await self._post(who, "/mcp/files", method, params, headers)

    async def open_session(self, who: str, capabilities: dict[str, Any]) -> None:
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities,
            "clientInfo": {"name": "t", "version": "1"},
        }
        async with self.http.post(
            f"{self.entry.url}/mcp/files",
            json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params},
            headers=self._head(who),
        ) as answer:
            assert answer.status == 200, await answer.text()
            self.sessions[who] = answer.headers["Mcp-Session-Id"]

    async def _post(self, who: str, path: str, method: str, params: Any, headers: dict[str, str]) -> dict[str, Any]:
        message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        async with (
            asyncio.timeout(PATIENCE_S),
            self.http.post(self.entry.url + path, json=message, headers={**self._head(who), **headers}) as answer,
        ):
            text = await answer.text()
        if answer.content_type == "text/event-stream":
            text = next(line[6:] for line in reversed(text.splitlines()) if line.startswith("data: "))
        return json.loads(text)

    def _head(self, who: str) -> dict[str, str]:
        accept = "application/json, text/event-stream"
        return {"Authorization": f"Bearer {PEOPLE[who]}", "Accept": accept}

    async def consent(self, who: str, address: str, account: str) -> str:
        """In a browser of its own. What the last page says."""
        browser = Browser(self.owner.url)
        try:
            signing_in = await browser.get(address)
            page = await browser.sign_in(key=PEOPLE[who], at=signing_in)
            assert page.status == 200, page.says
            self.authority.account = account
            done = await browser.submit(page, page.form("/oauth/connect/files"))
            return done.says
        finally:
            await browser.http.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    base = tmp_path_factory.mktemp("consenting")
    init_ca(base / "ca", MESH)
    make(base / "mesh.key")
    key = base / "secrets.key"
    key.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    key.chmod(0o600)
    keys = [
        {
            "name": name,
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            **({"scopes": ["operator"]} if name == "admin" else {}),
            **({"servers": ["others"]} if name == "mallory" else {}),
        }
        for name, text in PEOPLE.items()
    ]
    authority = Authority()
    async with AsyncExitStack() as stack:
        runner = await authority.serve()
        stack.push_async_callback(runner.cleanup)
        server = {"url": f"{authority.base}/mcp", "auth": {"kind": "authorization_code"}, "title": "The files"}
        nodes: list[App] = []
        known: list[str] = []
        for region in ("ap", "eu"):
            settings = settings_of(region, base, static=known, auth={"keys": keys})
            settings["federation"]["mesh_keys"] = [str(base / "mesh.key")]
            if region == "ap":
                settings["servers"] = {"files": server}
                settings["secrets"] = {"key": {"file": str(key)}}
            app = app_of(settings, base / f"{region}-1")
            stack.push_async_callback(app.stop)
            await app.start()
            assert app.federation is not None
            known.append(f"127.0.0.1:{app.federation.bound_port}")
            nodes.append(app)
        owner, entry = nodes
        await until(entry, lambda: entry.catalog.find("ap-1", "files") is not None)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield World(owner, entry, authority, http)


def address_in(text: str) -> str:
    return next(word for word in text.split() if word.startswith("http://127.0.0.1"))


async def test_a_server_that_nobody_has_consented_at_says_where_one_can(world):
    server = world.entry.catalog.find("ap-1", "files")
    await until(world.entry, lambda: set(server.tools) == {"sign_in"} and server.up)
    assert f"{world.owner.url}/oauth/connect/files" in server.health["cause"]
    asked = (await world.modern("alice", {"name": "sign_in", "arguments": {}}, {}))["result"]
    assert asked["isError"]
    assert f"{world.owner.url}/oauth/start/" in asked["content"][0]["text"]
    said = await world.consent("alice", "/oauth/connect/files", "acc-alice")
    assert "files is connected" in said
    await until(world.entry, lambda: (s := world.entry.catalog.find("ap-1", "files")).up and "whoami" in s.tools)
    answer = await world.modern("alice", WHOAMI, {})
    assert answer["result"]["content"][0]["text"] == "acc-alice"


async def test_a_modern_agent_is_asked_and_its_retry_at_the_other_node_runs_as_that_person(world):
    asked = (await world.modern("bob", WHOAMI, URL_MODE))["result"]
    assert asked["resultType"] == "input_required"
    ((key, question),) = asked["inputRequests"].items()
    url = question["params"]["url"]
    assert url.startswith(f"{world.owner.url}/oauth/start/")
    ran = len(world.authority.ran)
    said = await world.consent("bob", url, "acc-bob")
    assert "files is connected" in said
    assert len(world.authority.ran) == ran
    retry = {**WHOAMI, "inputResponses": {key: {"action": "accept"}}, "requestState": asked["requestState"]}
    answer = await world.modern("bob", retry, URL_MODE)
    assert answer["result"]["content"][0]["text"] == "acc-bob"
    # And nobody else became somebody else by that.
    assert (await world.modern("alice", WHOAMI, {}))["result"]["content"][0]["text"] == "acc-alice"


async def test_an_address_that_was_made_for_another_is_worth_nothing(world):
    asked = (await world.modern("carol", WHOAMI, URL_MODE))["result"]
    url = asked["inputRequests"]["consent"]["params"]["url"]
    browser = Browser(world.owner.url)
    page = await browser.sign_in(key=PEOPLE["alice"], at=await browser.get(url))
    await browser.http.close()
    assert page.status == 403
    assert not [f for f in page.forms if f["_action"].startswith("/oauth/connect")]


async def test_a_legacy_client_gets_the_error_then_the_notice_and_its_next_call_runs(world):
    await world.open_session("carol", URL_MODE)
    head = {"MCP-Protocol-Version": "2025-11-25", "Mcp-Session-Id": world.sessions["carol"]}
    await world._post("carol", "/mcp/files", "logging/setLevel", {"level": "info"}, head)
    error = (await world.legacy("carol", "tools/call", WHOAMI))["error"]
    assert error["code"] == -32042
    (elicitation,) = error["data"]["elicitations"]
    heard = asyncio.get_running_loop().create_future()

    async def listen() -> None:
        async with world.http.get(
            f"{world.entry.url}/mcp/files", headers={**world._head("carol"), "Accept": "text/event-stream", **head}
        ) as stream:
            assert stream.status == 200
            async for line in stream.content:
                if line.startswith(b"data: {") and b"elicitation/complete" in line:
                    heard.set_result(json.loads(line[6:]))
                    return

    listening = asyncio.create_task(listen())
    await world.consent("carol", elicitation["url"], "acc-carol")
    async with asyncio.timeout(PATIENCE_S):
        notice = await heard
    await listening
    assert notice["params"]["elicitationId"] == elicitation["elicitationId"]
    answer = await world.legacy("carol", "tools/call", WHOAMI)
    assert answer["result"]["content"][0]["text"] == "acc-carol"


async def test_a_client_that_knows_no_addresses_gets_one_in_words_also_through_use_tool(world):
    direct = (await world.modern("dave", WHOAMI, {}))["result"]
    assert direct["isError"] is True
    arguments = {"mcp_server_name": "files", "mcp_tool_name": "whoami", "params": {}}
    used = (await world.modern("dave", {"name": "use_tool", "arguments": arguments}, {}, "/mcp"))["result"]
    assert used["isError"] is True
    address = address_in(used["content"][0]["text"])
    assert "files is connected" in await world.consent("dave", address, "acc-dave")
    used = (await world.modern("dave", {"name": "use_tool", "arguments": arguments}, {}, "/mcp"))["result"]
    assert used["content"][0]["text"] == "acc-dave"


async def test_an_agent_that_uses_the_meta_tools_is_asked_and_goes_on_by_them(world):
    params = {
        "name": "use_tool",
        "arguments": {"mcp_server_name": "files", "mcp_tool_name": "whoami", "params": {}},
    }
    asked = (await world.modern("erin", params, URL_MODE, "/mcp"))["result"]
    url = asked["inputRequests"]["consent"]["params"]["url"]
    await world.consent("erin", url, "acc-erin")
    responses = {"consent": {"action": "accept"}}
    again = {**params, "requestState": asked["requestState"], "inputResponses": responses}
    answer = (await world.modern("erin", again, URL_MODE, "/mcp"))["result"]
    assert answer["content"][0]["text"] == "acc-erin"


async def test_a_grant_taken_back_counts_from_the_next_call_on(world):
    def verb(*words: str, who: str = "admin") -> str:
        done = CliRunner().invoke(cli, ["grants", *words, "--url", world.owner.url], env={KEY_VARIABLE: PEOPLE[who]})
        assert done.exit_code == 0, done.output
        return str(done.output)

    text = await asyncio.to_thread(verb, "list", "--json")
    grants = {g["subject"]: g["id"] for g in json.loads(text)["grants"]}
    table = await asyncio.to_thread(verb, "list", "files")
    assert grants["bob"] in table
    assert not [token for token in world.authority.tokens if token in text + table]
    own = await asyncio.to_thread(lambda: verb("list", "--json", who="bob"))
    assert [g["subject"] for g in json.loads(own)["grants"]] == ["bob"]
    assert (await world.modern("bob", WHOAMI, {}))["result"]["content"][0]["text"] == "acc-bob"
    assert "removed" in await asyncio.to_thread(verb, "remove", grants["bob"])
    ran = len(world.authority.ran)
    assert (await world.modern("bob", WHOAMI, {}))["result"]["isError"] is True
    assert len(world.authority.ran) == ran
    assert (await world.modern("alice", WHOAMI, {}))["result"]["content"][0]["text"] == "acc-alice"


async def test_who_may_not_see_the_server_cannot_connect_to_it_either(world):
    browser = Browser(world.owner.url)
    home = await browser.sign_in(key=PEOPLE["mallory"])
    assert "No server here" in home.says
    page = await browser.get("/oauth/connect/files")
    unknown = await browser.get("/oauth/connect/nothing")
    form = {"_action": "/oauth/connect/files", "csrf": home.form("/oauth/signout")["csrf"]}
    sent = await browser.submit(home, form)
    await browser.http.close()
    assert (page.status, page.text) == (unknown.status, unknown.text)
    assert (page.status, sent.status) == (404, 404)


async def test_no_token_lies_in_the_clear_in_the_data_directory(world):
    files = [f for f in world.owner.data_dir.path.rglob("*") if f.is_file()]
    assert any(f.name == "secrets.db" for f in files)
    held = b"".join(f.read_bytes() for f in files)
    assert world.authority.tokens
    assert not [t for t in (*world.authority.tokens, *world.authority.refreshes) if t.encode() in held]
