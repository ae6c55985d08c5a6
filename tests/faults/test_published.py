"""Faults that were published of other products of this field: each would fail its test here, if we had it.

What each fault was is told in docs/security.md, by its advisory; the tests run against real nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from node.outbound.outbound import Outbound
from proto.errors import MeshError
from tests.faults.conftest import BOTH, PATIENCE_S, Node, World, call, echoed

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]


def routes(node: Node) -> set[tuple[str, str]]:
    """(method, path) of every route, with a name put into each place of one."""
    assert node.app.listener is not None
    found = set()
    for route in node.app.listener.app.router.routes():
        path = route.resource.canonical if route.resource is not None else "/"
        for part in ("{name}", "{server}", "{n}", "{ticket}", "{tail}", "{path}"):
            path = path.replace(part, "open")
        found |= {(method, path) for method in (("GET", "POST", "DELETE") if route.method == "*" else (route.method,))}
    return found


def children() -> set[str]:
    """The command lines of what runs below this process."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found.add(" ".join(process.cmdline()))
    return found


async def status_of(node: Node, method: str, path: str, **headers: str) -> int:
    async with (
        asyncio.timeout(PATIENCE_S),
        node.http.request(method, node.app.url + path, headers=headers, allow_redirects=False) as answer,
    ):
        return answer.status


# ---- commands --------------------------------------------------------------------------


async def test_cve_2025_49596_no_page_and_no_query_starts_a_command(alone: Node, tmp_path: Path) -> None:
    marker, before = tmp_path / "ran", children()
    query = f"transportType=stdio&command=touch&args={marker}&url=http%3A%2F%2F127.0.0.1%3A1%2F"
    for path in ("/sse", "/sse/open", "/mcp", "/mcp/open", "/ws", "/stdio", "/message"):
        for origin in ({}, {"Origin": "http://evil.example"}):
            asked: dict[str, str] = {"Accept": BOTH, **origin}
            async with (
                asyncio.timeout(PATIENCE_S),
                alone.http.get(f"{alone.app.url}{path}?{query}", headers=asked) as answer,
            ):
                if origin:
                    assert answer.status == 403, path
    assert not marker.exists()
    assert children() <= before


async def test_cve_2026_42271_no_key_starts_a_command_that_a_request_brings(world: World, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    config = {"name": "x", "transport": "stdio", "command": "touch", "args": [str(marker)], "env": {"A": "b"},
              "server": {"command": ["touch", str(marker)]}}  # fmt: skip
    before = children()
    for who in ("ann", "bob", "admin"):
        paths = {p for m, p in routes(world.entry) if m in ("POST", "PUT") and not p.endswith(("/leave", "/drain"))}
        for path in sorted(paths | {"/mcp-rest/test/connection", "/mcp-rest/test/tools/list", "/api/v1/servers"}):
            for method in ("POST", "PUT"):
                async with (
                    asyncio.timeout(PATIENCE_S),
                    world.entry.http.request(
                        method, world.entry.app.url + path, json=config, headers=world.entry.headers(who)
                    ) as answer,
                ):
                    assert answer.status >= 400, (who, method, path)
        for name in (json.dumps(config), f"touch {marker}", "x; touch y", "../../bin/sh"):
            add = {"name": "add_mcp_server", "arguments": {"mcp_server_name": name, **config}}
            _, answer_ = await world.entry.modern("/mcp", "tools/call", add, who)
            assert answer_.get("error") or answer_["result"]["isError"], answer_
    assert not marker.exists()
    assert children() <= before


# ---- names, hosts and paths --------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["CVE-2025-64443 (a gateway)", "CVE-2025-66416 (an SDK's default)"])
async def test_cve_2025_64443_and_cve_2025_66416_a_rebound_name_reaches_no_route_of_a_node_as_it_comes(
    alone: Node, what: str
) -> None:
    forged = {"Host": "evil.example"} if "gateway" in what else {"Origin": "http://evil.example"}
    expected = 421 if "gateway" in what else 403
    asked = routes(alone)
    assert {("POST", "/mcp"), ("GET", "/sse"), ("GET", "/ws"), ("GET", "/api/v1/status")} <= asked
    for method, path in sorted(asked):
        assert await status_of(alone, method, path, **forged) == expected, (method, path)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:{port}/healthz?", "127.0.0.1:{port}/healthz#", "localhost/healthz?x=", "a@127.0.0.1:{port}",
     "127.0.0.1:{port}\\healthz", "127.0.0.1:{port} /healthz", "/healthz", "127.0.0.1:99999999", "[::1"],
)  # fmt: skip
async def test_cve_2026_48710_no_host_makes_one_path_pass_for_another(world: World, host: str) -> None:
    """Whose path is judged is the one that is routed: /healthz is everybody's, the status is not."""
    header = host.format(port=world.entry.port)
    answer = await world.entry.raw(f"GET /api/v1/status HTTP/1.1\r\nHost: {header}\r\n\r\n")
    assert int(answer.split(b" ", 2)[1]) in (400, 401, 421), answer
    assert b'"servers"' not in answer
    # An address in the request line counts instead of Host (RFC 9112 §3.2.2), and is held to the same.
    absolute = f"GET http://{header}/api/v1/status HTTP/1.1\r\nHost: 127.0.0.1:{world.entry.port}\r\n\r\n"
    answer = await world.entry.raw(absolute)
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")) or answer.endswith(b'{"status":"ok"}'), answer
    assert b'"servers"' not in answer


@pytest.mark.parametrize(
    "path", ["//api/v1/status", "/healthz/../api/v1/status", "/api/v1/%73tatus", "/api/v1/status;/healthz", "/api\\v1"]
)
async def test_cve_2026_48710_a_path_that_could_be_read_as_another_is_not_read_at_all(world: World, path: str) -> None:
    answer = await world.entry.raw(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{world.entry.port}\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


FORBIDDEN = [IPv4Address(a) for a in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1")]


@pytest.mark.parametrize(
    "address",
    [
        form
        for v4 in FORBIDDEN
        for form in (
            IPv6Address(0x2002 << 112 | int(v4) << 80),  # 6to4
            IPv6Address(0x64FF9B << 96 | int(v4)),  # NAT64
            IPv6Address(0x64FF9B0001 << 80 | int(v4)),  # NAT64 of a local network
            IPv6Address(0xFFFF << 32 | int(v4)),
        )
    ]
    + [IPv6Address("fec0::1"), IPv6Address("feff::7f00:1")],
    ids=str,
)
async def test_cve_2026_44430_no_form_of_a_private_address_is_dialled(address: IPv6Address) -> None:
    outbound = Outbound()
    url = f"https://[{address}]/.well-known/x"
    with pytest.raises(MeshError):
        outbound.check_url(url)
    session = outbound.session("a test")
    try:
        with pytest.raises(MeshError, match=r"may not|not dialled|refused|is "):
            await session.get(url)
    finally:
        await session.close()


# ---- one transport checked, another forgotten --------------------------------------------------------


async def test_cve_2026_7663_no_transport_serves_whoever_has_not_said_who_he_is(world: World) -> None:
    messages: list[Any] = [
        call("echo"),
        *({"jsonrpc": "2.0", "id": 1, "method": m, "params": {}} for m in ("initialize", "tools/list", "ping",
          "resources/list", "prompts/list", "server/discover", "subscriptions/listen", "tasks/list")),
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        [call("echo"), call("secret")],
    ]  # fmt: skip
    paths = [f"{edge}{server}" for edge in ("/mcp", "/v1/mcp", "/sse", "/ws") for server in ("", "/open", "/vault")]
    for path in [*paths, "/mcp-all", "/mcp/no-such-server"]:
        for method in ("GET", "DELETE"):
            status = await status_of(world.entry, method, path, Accept=BOTH)
            assert status in (401, 404, 405), (method, path, status)
        for message in messages:
            status, said = await world.entry.post(path, message)
            assert status in (401, 404, 405), (path, message, status)
            assert "result" not in said
    for path in ("/ws", "/ws/open"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await world.entry.http.ws_connect(world.entry.app.url + path)
        assert refused.value.status == 401


INJECTED = {
    "mcp-init-host": "vault.example",
    "router-key": "secret-api-key",
    "x-mcp-authorized": "vault,open",
    "x-mcp-servername": "vault",
    "x-mcp-toolname": "secret",
    "x-forwarded-host": "vault",
    "x-original-url": "/healthz",
}


async def test_ghsa_g53w_w6mj_hrpp_no_header_stands_in_for_a_credential_or_another_server(world: World) -> None:
    start = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}}
    for path in ("/mcp", "/mcp/vault", "/mcp-all", "/sse", "/v1/mcp/vault"):
        status, said = await world.entry.post(path, start, **INJECTED)
        assert (status in (401, 405), "result" in said) == (True, False), path
    # Whom they are sent with is whom they are sent for, and where they are sent is where they go.
    _, said = await world.entry.modern("/mcp/vault", "tools/call", {"name": "echo", "arguments": {}}, "bob", **INJECTED)
    _, plain = await world.entry.modern("/mcp/nowhere", "tools/call", {"name": "echo", "arguments": {}}, "bob")
    assert json.dumps(said).replace("vault", "…") == json.dumps(plain).replace("nowhere", "…")
    _, said = await world.entry.modern("/mcp/open", "tools/call", {"name": "echo", "arguments": {}}, "bob", **INJECTED)
    assert not any("INIT_HOST" in name for name in echoed(said)["env"])


# ---- one caller's things and another's ---------------------------------------------------------------


async def test_ghsa_vw82_7fv8_r6gp_a_server_that_is_not_listed_for_one_cannot_be_used_by_its_name(world: World) -> None:
    entry = world.entry
    for path in ("/mcp/{}", "/mcp/{}--ap-1", "/v1/mcp/{}"):
        for method, params in (
            ("tools/list", {}),
            ("tools/call", {"name": "echo", "arguments": {}}),
            ("server/discover", {}),
            ("resources/read", {"uri": "file:///x"}),
        ):
            answers = []
            for server in ("vault", "never"):
                said = await entry.modern(path.format(server), method, dict(params), "bob")
                answers.append(json.dumps(said).replace(server, "…"))
            assert answers[0] == answers[1], (path, method)
            assert '"result"' not in answers[0]
    for server in ("vault", "vault--ap-1"):
        use = {"mcp_server_name": server, "mcp_tool_name": "echo", "params": {}}
        _, said = await entry.modern("/mcp", "tools/call", {"name": "use_tool", "arguments": use}, "bob")
        assert said["result"]["isError"]
        _, said = await entry.modern("/mcp-all", "tools/call", {"name": f"{server}__echo", "arguments": {}}, "bob")
        assert "result" not in said or said["result"]["isError"]
    # And whose it is uses it.
    _, said = await entry.modern("/mcp/vault", "tools/call", {"name": "echo", "arguments": {"n": 1}}, "ann")
    assert echoed(said)["params"] == {"name": "echo", "arguments": {"n": 1}}


async def test_cve_2026_25536_answers_and_notifications_of_clients_with_equal_ids_never_meet(world: World) -> None:
    """One process serves both, answers the later call first, and both clients count their requests from 1."""

    async def ask(who: str, n: int, session: dict[str, str] | None) -> None:
        marker = f"{who}-{n}"
        params: dict[str, Any] = {
            "name": "pair",
            "arguments": {"marker": marker},
            "_meta": {"progressToken": 1},
        }
        if session is None:
            _, said = await world.entry.modern("/mcp/open", "tools/call", params, who)
        else:
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            async with (
                asyncio.timeout(PATIENCE_S),
                world.entry.http.post(
                    world.entry.app.url + "/mcp/open", json=message, headers=world.entry.headers(who, **session)
                ) as answer,
            ):
                text = await answer.text()
            messages = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
            said = messages[-1] if messages else json.loads(text)
            progress = [m["params"]["message"] for m in messages if m.get("method") == "notifications/progress"]
            assert set(progress) <= {marker}
        assert said["id"] == 1
        assert echoed(said)["params"]["arguments"] == {"marker": marker}

    sessions: list[tuple[str, dict[str, str] | None]] = [
        ("ann", None),
        ("bob", None),
        ("ann", await world.entry.session("/mcp/open", "ann")),
        ("bob", await world.entry.session("/mcp/open", "bob")),
    ]
    for n in range(6):
        await asyncio.gather(*(ask(who, n, session) for who, session in sessions))


async def test_cve_2026_52870_a_task_is_known_to_whoever_began_it_alone(world: World) -> None:
    """At a server whose one session all callers share, asked through another node."""
    sessions = {who: await world.entry.session("/mcp/open", who) for who in ("ann", "bob")}

    async def ask(who: str, method: str, **params: Any) -> dict[str, Any]:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return (await world.entry.post("/mcp/open", message, who, **sessions[who]))[1]

    begun = await ask("ann", "tools/call", name="task", arguments={"marker": "hers"}, task={"ttl": 60_000})
    task = begun["result"]["task"]["taskId"]
    for method in ("tasks/get", "tasks/result", "tasks/cancel"):
        his = await ask("bob", method, taskId=task)
        none = await ask("bob", method, taskId="none")
        assert "result" not in his
        assert json.dumps(his).replace(task, "…") == json.dumps(none).replace("none", "…")
    assert "result" not in await ask("bob", "tasks/list")
    assert (await ask("ann", "tasks/get", taskId=task))["result"]["marker"] == "hers"


# ---- one message read in two ways --------------------------------------------------------------------

SMUGGLED = [
    b'{"name": "echo", "Name": "secret", "arguments": {"a": 1}, "Arguments": {"a": 2}}',
    b'{"Name": "secret", "name": "echo", "ARGUMENTS": {"a": 2}, "arguments": {"a": 1}}',
    '{"name": "echo", "n\u0430me": "secret", "arguments": {"a": 1}}'.encode(),
    '{"name": "echo", "\uff4eame": "secret", "arguments": {"a": 1}}'.encode(),
]


@pytest.mark.parametrize("params", SMUGGLED)
async def test_ghsa_4gph_2hhr_5mwg_a_member_in_other_letters_is_another_member(world: World, params: bytes) -> None:
    session = await world.entry.session("/mcp/shut", "ann")
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "Method": "tools/list", "params": ' + params + b"}"
    _, said = await world.entry.post("/mcp/shut", body, "ann", **session)
    reached = echoed(said)["params"]
    assert (reached["name"], reached["arguments"]) == ("echo", {"a": 1})
    assert "secret" not in (reached["name"], reached.get("method"))


@pytest.mark.parametrize(
    "params",
    [b'{"name": "echo", "name": "secret", "arguments": {}}', b'{"name": "secret", "name": "echo", "arguments": {}}'],
)
async def test_ghsa_4gph_2hhr_5mwg_of_a_member_that_comes_twice_the_one_that_is_decided_on_is_sent(
    world: World, params: bytes
) -> None:
    session = await world.entry.session("/mcp/shut", "ann")
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ' + params + b"}"
    _, said = await world.entry.post("/mcp/shut", body, "ann", **session)
    if "result" in said:
        assert echoed(said)["params"]["name"] == "echo"
    else:
        assert "'secret'" in said["error"]["message"]
