"""What HTTP itself decides, before any era's rules."""

import asyncio
import base64

import pytest

from node.ingress.http import IngressSettings

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


async def test_other_methods_are_refused_and_told_which_are_served(edge):
    async with edge.http.put(edge.url) as r:
        assert r.status == 405
        assert r.headers["Allow"] == "GET, POST, DELETE"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_get_and_delete_do_not_exist_in_the_modern_era(edge, method):
    headers = {"MCP-Protocol-Version": "2026-07-28", "Accept": "text/event-stream"}
    async with edge.http.request(method, edge.url, headers=headers) as r:
        assert r.status == 405
        assert r.headers["Allow"] == "POST"


async def test_a_body_beyond_the_bound_is_refused_whether_announced_or_without_end(serve):
    over = asyncio.Event()

    async def endless():
        while not over.is_set():
            yield b" " * 500

    async with serve(IngressSettings(body_bytes_max=1_000)) as edge:
        async with edge.post(b" " * 1_001) as r:
            assert r.status == 413
        headers = {"Content-Type": "application/json", "Accept": "*/*"}
        async with edge.http.post(edge.url, data=endless(), headers=headers) as r:
            assert r.status == 413
            over.set()


async def test_a_body_that_comes_in_pieces_is_read_whole(edge):
    async def pieces():
        yield b'{"jsonrpc":"2.0","id":1,'
        await asyncio.sleep(0)
        yield b'"method":"ping"}'

    session = await edge.session()
    headers = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in session.items()}}
    async with edge.http.post(edge.url, data=pieces(), headers=headers) as r:
        assert (await r.json())["result"] == {}


async def test_a_body_that_never_ends_is_given_up(serve):
    never = asyncio.Event()

    async def pieces():
        yield b"{"
        await never.wait()

    async with serve(IngressSettings(body_read_s=0.05)) as edge:
        headers = {"Content-Type": "application/json"}
        async with edge.http.post(edge.url, data=pieces(), headers=headers) as r:
            assert r.status == 408


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_only_json_is_taken(edge, content_type):
    async with edge.post(b"{}", Content_Type=content_type) as r:
        assert r.status == 415


async def test_a_charset_on_the_content_type_does_no_harm(edge):
    session = await edge.session()
    async with edge.post(PING, **session, Content_Type="application/json; charset=utf-8") as r:
        assert r.status == 200


async def test_accept_must_name_what_the_era_may_send(edge):
    async with edge.modern("tools/list", Accept="application/json") as r:
        assert r.status == 406
    async with edge.modern("tools/list", Accept="text/event-stream") as r:
        assert r.status == 406
    async with edge.modern("tools/list", Accept="application/json, text/event-stream;q=0") as r:
        assert r.status == 406
    async with edge.modern("tools/list", Accept="*/*") as r:
        assert r.status == 200
    session = await edge.session()
    async with edge.post(PING, **session, Accept="application/json") as r:
        assert r.status == 200
    async with edge.post(PING, **session, Accept="text/html") as r:
        assert r.status == 406
    headers = {k.replace("_", "-"): v for k, v in session.items()}
    async with edge.http.get(edge.url, headers={**headers, "Accept": "application/json"}) as r:
        assert r.status == 406


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", -32700),
        (b"\xff", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}', -32700),
        (b"[" * 300 + b"]" * 300, -32700),
        (b'"ping"', -32600),
        (b"7", -32600),
        (b'{"id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}', -32600),
        (b'{"jsonrpc":"2.0","id":1}', -32600),
        # As requests with ids that MCP forbids; an SDK was seen to acknowledge them as notifications.
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":[1],"method":"ping"}', -32600),
    ],
)
@pytest.mark.parametrize("version", ["2026-07-28", None])
async def test_what_is_no_message_is_refused_in_either_era(edge, body, code, version):
    async with edge.post(body, MCP_Protocol_Version=version) as r:
        assert r.status == 400
        answer = await r.json()
        assert answer["error"]["code"] == code
        assert answer["id"] is None


@pytest.mark.parametrize("version", ["2026-07-28", "2025-11-25", "2025-03-26"])
async def test_integers_beyond_64_bits_arrive_unchanged(edge, version):
    number = 2**70 + 1
    if version == "2026-07-28":
        async with edge.modern("vendor/echo", {"n": number}) as r:
            assert (await r.json())["result"]["params"]["n"] == number
    else:
        session = await edge.session(version)
        async with edge.post(edge.call("vendor/echo", {"n": number}), **session) as r:
            assert (await r.json())["result"]["params"]["n"] == number


async def test_credentials_reach_the_authenticator_in_each_of_their_forms(edge):
    basic = base64.b64encode(b"ann:pass:word").decode()
    for headers in (
        {"Authorization": "Bearer tok"},
        {"Authorization": "bearer  tok"},
        {"X-API-Key": "key"},
        {"Authorization": f"Basic {basic}"},
    ):
        async with edge.modern("tools/list", **{k.replace("-", "_"): v for k, v in headers.items()}) as r:
            assert r.status == 200
    seen = [(c.bearer, c.api_key, c.basic, c.peer) for c in edge.authenticator.seen]
    assert seen == [
        ("tok", "", "", "127.0.0.1"),
        ("tok", "", "", "127.0.0.1"),
        ("", "key", "", "127.0.0.1"),
        ("", "", "ann:pass:word", "127.0.0.1"),
    ]


async def test_who_is_not_known_is_challenged_before_the_body_is_looked_at(edge):
    edge.authenticator.open = False
    async with edge.post(b"{") as r:
        assert r.status == 401
        assert r.headers["WWW-Authenticate"] == "Bearer"
        assert (await r.json())["error"]["data"]["kind"] == "unauthenticated"
    async with edge.post(b"{", Authorization="Bearer wrong") as r:
        assert r.status == 401
        assert r.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    for unreadable in ("Bearer", "Digest x", "Basic !!!", "Basic YQ=="):
        async with edge.post(b"{", Authorization=unreadable) as r:
            assert r.status == 401, unreadable


async def test_an_authenticator_that_breaks_admits_nobody_and_tells_nothing(edge):
    async def broken(credentials):
        raise RuntimeError("database password is hunter2")

    edge.authenticator.authenticate = broken
    async with edge.modern("tools/list") as r:
        assert r.status == 500
        error = (await r.json())["error"]
        assert error["code"] == -32603
        assert "hunter2" not in await r.text()
        assert error["data"].keys() == {"kind", "fault_id"}


async def test_the_trace_context_is_taken_from_headers_or_meta_and_junk_is_not(edge):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with edge.modern("vendor/echo", traceparent=parent, tracestate="a=b") as r:
        assert r.status == 200
    async with edge.modern("vendor/echo", meta={"traceparent": parent}) as r:
        assert r.status == 200
    async with edge.modern("vendor/echo", traceparent="nonsense") as r:
        assert r.status == 200
    async with edge.modern("vendor/echo", traceparent=parent, tracestate="a=" + "b" * 511) as r:
        assert r.status == 200
    traces = [caller.trace for _, _, caller in edge.root.seen]
    assert traces == [
        {"traceparent": parent, "tracestate": "a=b"},
        {"traceparent": parent},
        {},
        {"traceparent": parent},
    ]


async def test_a_closed_ingress_takes_nothing_more(edge):
    await edge.ingress.close()
    await edge.ingress.close()
    async with edge.modern("tools/list") as r:
        assert r.status == 503
    assert edge.endpoints.listeners == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("//mcp", None),
        ("//v1/mcp", None),
        ("//mcp/time", "time"),
        ("//v1/mcp/time", "time"),
        ("//mcp-all", "*"),
    ],
)
async def test_every_address_serves_both_eras(edge, path, name):
    async with edge.modern("vendor/echo", {"a": 1}, path=path) as r:
        assert r.status == 200, await r.text()
    session = await edge.session(path=path)
    async with edge.post(edge.call("vendor/echo", {"a": 2}), path, **session) as r:
        assert (await r.json())["result"]["params"] == {"a": 2}
    assert [params["a"] for _, params, _ in edge.endpoints.endpoint(name).seen] == [1, 2]


async def test_a_session_of_the_alias_is_one_of_the_address(edge):
    session = await edge.session(path="//v1/mcp/time")
    async with edge.post(edge.call("ping"), "//mcp/time", **session) as r:
        assert r.status == 200
    async with edge.post(edge.call("ping"), "//mcp-all", **session) as r:
        assert r.status == 404


@pytest.mark.parametrize("path", ["//mcp/*", "//v1/mcp/%2A"])
async def test_everything_has_one_address_and_no_servers_name(edge, path):
    async with edge.modern("vendor/echo", path=path) as r:
        assert r.status == 404


async def test_initialize_and_discover_wait_for_a_server_that_still_starts(edge):
    edge.endpoints.starting["time"] = up = asyncio.Event()
    client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}

    async def answered(request):
        async with request as response:
            return (await response.json())["result"]["capabilities"]["tools"]

    for request in (
        edge.post(edge.call("initialize", client), "/time"),
        edge.modern("server/discover", path="/time"),
    ):
        asked = asyncio.create_task(answered(request))
        await edge.wait(edge.endpoints.awaited)
        assert not asked.done()
        up.set()
        assert await asked == {"listChanged": True}
        up.clear()
        edge.endpoints.awaited.clear()
