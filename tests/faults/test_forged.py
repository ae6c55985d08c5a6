"""What a client writes about who it is, where it has been and whose session it is in, is worth nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from tests.faults.conftest import BOTH, PATIENCE_S, World, call, echoed
from tests.node.working import MESH

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

FORGED = {
    "X-Forwarded-User": "ann",
    "X-Remote-User": "ann",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Email": "ann@example.org",
    "X-Forwarded-Client-Cert": "URI=spiffe://mesh.test/region/ap/node/ap-1",
    "Forwarded": 'for=127.0.0.1;by="ap-1"',
    "Via": "1.1 ap-1",
    "X-Toolmesh-Principal": '{"subject": "ann", "issuer": "mesh.test", "tenant": "acme", "kind": "key"}',
    "X-Toolmesh-Via": "ap-1",
    "X-Tenant": "acme",
    "X-Consumer-Username": "ann",
    "toolmesh-features": "long-messages",
    "toolmesh-instance": "00",
}
META = {
    "via": ["ap-1"],
    "principal": {"subject": "ann", "tenant": "acme"},
    "io.toolmesh/principal": {"subject": "ann"},
    "tenant": "acme",
}
PARAMS: dict[str, Any] = {"name": "echo", "arguments": {}, "via": ["ap-1"], "principal": {"subject": "ann"}}


def whom_the_owner_saw(world: World) -> tuple[str, str, str, str]:
    record = world.owner.app.gateway.recent[-1]
    return record.subject, record.tenant, record.issuer, record.entry


BOB = ("bob", "beta", MESH, "eu-1")


async def test_over_streamable_http_of_both_eras(world: World) -> None:
    _, said = await world.entry.modern("/mcp/open", "tools/call", {**PARAMS, "_meta": META}, "bob", **FORGED)
    assert "result" in said, said
    assert whom_the_owner_saw(world) == BOB
    session = await world.entry.session("/mcp/open", "bob", **FORGED)
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {**PARAMS, "_meta": META}}
    _, said = await world.entry.post("/mcp/open", message, "bob", **session, **FORGED)
    assert "result" in said, said
    assert whom_the_owner_saw(world) == BOB
    use = {"mcp_server_name": "open", "mcp_tool_name": "echo", "params": {}, "via": ["ap-1"]}
    _, said = await world.entry.modern(
        "/mcp", "tools/call", {"name": "use_tool", "arguments": use, "_meta": META}, "bob", **FORGED
    )
    assert whom_the_owner_saw(world) == BOB
    # And not what another may.
    _, said = await world.entry.modern("/mcp/vault", "tools/call", {**PARAMS, "_meta": META}, "bob", **FORGED)
    assert "result" not in said


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


async def test_over_a_websocket(world: World) -> None:
    headers = {**world.entry.headers("bob"), **FORGED}
    async with (
        asyncio.timeout(PATIENCE_S),
        world.entry.http.ws_connect(f"{world.entry.app.url}/ws/open", headers=headers) as socket,
    ):
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {**PARAMS, "_meta": META}}
        for sent in (INITIALIZE, message):
            await socket.send_str(json.dumps(sent))
            said = json.loads((await socket.receive()).data)
            assert "result" in said, said
    assert whom_the_owner_saw(world) == BOB


async def test_over_sse(world: World) -> None:
    headers = {**world.entry.headers("bob"), **FORGED}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {**PARAMS, "_meta": META}}
    async with (
        asyncio.timeout(PATIENCE_S),
        world.entry.http.get(f"{world.entry.app.url}/sse/open", headers=headers) as stream,
    ):
        events = aiter(stream.content)
        lines: list[str] = []

        async def data() -> str:
            while True:
                line = (await anext(events)).decode()
                if line.startswith("data: "):
                    lines.append(line)
                    return line[6:].strip()

        endpoint = await data()
        for sent in (INITIALIZE, message):
            async with world.entry.http.post(world.entry.app.url + endpoint, json=sent, headers=headers) as taken:
                assert taken.status == 202
            said = json.loads(await data())
            assert "result" in said, said
        assert whom_the_owner_saw(world) == BOB
        # The place to send to is no proof of who one is.
        for who in ("ann", None):
            stranger = {**world.entry.headers(who), **FORGED}
            async with world.entry.http.post(world.entry.app.url + endpoint, json=message, headers=stranger) as refused:
                assert refused.status in (401, 403, 404)


async def test_without_a_key_none_of_it_opens_anything(world: World) -> None:
    for path in ("/mcp", "/mcp/open", "/mcp-all", "/api/v1/status", "/api/v1/servers", "/metrics"):
        asked = {"Accept": BOTH, **FORGED}
        async with world.entry.http.get(world.entry.app.url + path, headers=asked) as answer:
            assert answer.status == 401, path
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await world.entry.http.ws_connect(f"{world.entry.app.url}/ws/open", headers=FORGED)


async def test_a_session_of_another_is_no_session(world: World) -> None:
    hers = await world.entry.session("/mcp/open", "ann")
    none = {**hers, "Mcp-Session-Id": hers["Mcp-Session-Id"][:-6] + "AAAAAA"}
    answers = []
    for session in (hers, none):
        status, said = await world.entry.post("/mcp/open", call("echo"), "bob", **session, **FORGED)
        answers.append((status, json.dumps(said)))
        async with world.entry.http.request(
            "DELETE", f"{world.entry.app.url}/mcp/open", headers={**world.entry.headers("bob"), **session}
        ) as answer:
            answers[-1] += (answer.status,)
    assert answers[0] == answers[1]
    assert answers[0][0] == 404
    # Nor at the node that did not open it.
    status, _ = await world.owner.post("/mcp/open", call("echo"), "bob", **hers)
    assert status == 404
    status, said = await world.entry.post("/mcp/open", call("echo", n=1), "ann", **hers)
    assert (status, echoed(said)["params"]["arguments"]) == (200, {"n": 1})
