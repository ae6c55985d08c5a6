"""Two real nodes: a caller proves itself at one, and its server belongs to the other."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from federation.ca import init_ca
from node.app import App
from tests.node.identity.conftest import US, Authority, Clock
from tests.node.waiting import until
from tests.node.working import MESH, Work, app_of, settings_of, up

BOTH = "application/json, text/event-stream"


async def started(stack: AsyncExitStack, settings: dict[str, Any], base: Path) -> App:
    app = app_of(settings, base)
    await app.start()
    stack.push_async_callback(app.stop)
    return app


async def call(app: App, token: str, work: Work) -> aiohttp.ClientResponse:
    """The slow tool, answered at once."""
    prefix = "io.modelcontextprotocol/"
    meta = {f"{prefix}protocolVersion": "2026-07-28", f"{prefix}clientCapabilities": {}}
    params = {"name": "work", "arguments": {}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {"Accept": BOTH, "Authorization": f"Bearer {token}", "MCP-Protocol-Version": "2026-07-28"}
    headers |= {"Mcp-Method": "tools/call", "Mcp-Name": "work"}
    async with aiohttp.ClientSession() as http, http.post(f"{app.url}/mcp/slow", json=body, headers=headers) as r:
        await r.read()
        return r


@pytest.mark.timeout(120)
async def test_who_called_arrives_whole_at_the_owner_and_who_is_not_valid_there_runs_nothing(tmp_path: Path) -> None:
    authority = Authority(url="https://issuer.example")
    authority.rotate("k1")
    (tmp_path / "jwks.json").write_text(json.dumps(authority.jwks()))
    now = int(time.time())
    work = Work()
    await work.start()
    init_ca(tmp_path / "ca", MESH)
    issuer = {"issuer": authority.url, "jwks": str(tmp_path / "jwks.json"), "audiences": [US]}
    async with AsyncExitStack() as stack:
        stack.push_async_callback(work.close)
        owner = await started(stack, settings_of("eu", tmp_path, servers={"slow": work.server}), tmp_path)
        assert owner.federation is not None
        static = [f"127.0.0.1:{owner.federation.bound_port}"]
        settings = settings_of("us", tmp_path, static=static, auth={"issuers": [issuer]})
        entry = await started(stack, settings, tmp_path)
        await until(entry, up(entry, "eu-1"))
        claims = {"aud": US, "iat": now, "exp": now + 600, "act": {"sub": "agent"}, "groups": ["g"], "scope": "s"}
        token = authority.token(**claims)
        work.begun.clear()

        async def answered() -> None:
            await work.begun.wait()
            work.end("done")

        answering = asyncio.create_task(answered())
        assert (await call(entry, token, work)).status == 200
        await answering
        there = owner.gateway.recent[-1]
        assert (there.side, there.subject, there.issuer) == ("owner", "ann", authority.url)
        assert (there.actors, there.credential) == (("agent",), "jti/t1")
        # The owner looks at its own clock: what has ended there runs nothing there, whatever the entry says.
        owner.identity._now_s = Clock(now + 10_000)
        work.begun.clear()
        refused = await call(entry, token, work)
        assert refused.status != 200
        assert not work.begun.is_set()
