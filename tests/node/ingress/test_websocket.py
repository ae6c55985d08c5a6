"""WebSocket: what the opening demands, what a frame must be, and how a dead connection is noticed."""

import asyncio

import aiohttp
import pytest

from node.ingress.duplex import Duplex
from node.ingress.http import IngressSettings
from node.ports import EVERYTHING
from tests.node.ingress.conftest import TwinEndpoint, served
from tests.node.ingress.talking import dialled, gone

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


async def refused(edge, path="/ws", **headers):
    """(status, the error's message) of an opening that is refused."""
    base = edge.url.removesuffix("/mcp")
    async with edge.http.get(base + path, headers={**UPGRADE, **headers}) as r:
        return r.status, (await r.json())["error"]["message"]


async def test_the_addresses_are_those_of_streamable_http(edge):
    edge.endpoints.by_name[EVERYTHING] = TwinEndpoint()
    for path, name in (("/ws", None), ("/ws/time", "time"), ("/ws-all", EVERYTHING)):
        async with dialled(edge, path) as agent:
            await agent.initialize()
            assert "result" in await agent.ask("tools/list", {})
        assert [method for method, _, _ in edge.endpoints.endpoint(name).seen] == ["tools/list"]
    async with dialled(edge, "/ws/nowhere") as agent:
        assert (await agent.initialize())["error"]["data"]["kind"] == "unknown"


async def test_the_subprotocol_is_chosen_where_it_is_offered_and_not_demanded(edge):
    async with dialled(edge, protocols=("mcp",)) as agent:
        assert agent.socket.protocol == "mcp"
    async with dialled(edge) as agent:
        assert agent.socket.protocol is None
        assert "result" in await agent.initialize()


async def test_the_caller_is_who_opened_the_connection(edge):
    async with dialled(edge, headers={"Authorization": "Bearer ada"}) as agent:
        await agent.initialize()
        await agent.ask("tools/list", {})
    assert edge.root.seen[-1][2].principal.subject == "ada"


async def test_an_opening_without_good_credentials_is_401(edge):
    status, _ = await refused(edge, Authorization="Bearer wrong")
    assert status == 401


async def test_a_page_of_another_origin_is_403(edge):
    status, why = await refused(edge, Origin="https://evil.example.org")
    assert (status, why) == (403, "this Origin may not call; add it to http.allowed_origins")


async def test_a_request_without_the_upgrade_is_426(edge):
    async with edge.http.get(edge.url.removesuffix("/mcp") + "/ws") as r:
        assert (r.status, r.headers["Upgrade"]) == (426, "websocket")
        assert "WebSocket" in (await r.json())["error"]["message"]


async def test_one_connection_beyond_the_bound_is_503_until_one_ends():
    async with served(IngressSettings(connections_max=1)) as edge:
        async with dialled(edge):
            status, why = await refused(edge)
            assert (status, why.partition(";")[0]) == (503, "1 connections are open")
        await gone(edge)
        async with dialled(edge) as agent:
            assert "result" in await agent.initialize()


async def test_a_binary_frame_is_no_message_and_the_connection_stays(edge):
    async with dialled(edge) as agent:
        await agent.socket.send_bytes(b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
        assert (await agent.hear())["error"]["code"] == -32700
        assert (await agent.ask("ping"))["result"] == {}


async def test_text_that_is_not_utf_8_is_no_message_and_the_connection_stays(edge):
    async with dialled(edge) as agent:
        await agent.socket.send_frame(b'{"\xff":1}', aiohttp.WSMsgType.TEXT)
        assert (await agent.hear())["error"]["code"] == -32700
        assert (await agent.ask("ping"))["result"] == {}


async def test_a_message_at_the_bound_is_taken_and_a_longer_one_ends_the_connection():
    async with served(IngressSettings(body_bytes_max=2_000)) as edge, dialled(edge) as agent:
        assert agent.socket._response.headers["Toolmesh-Message-Bytes-Max"] == "2000"
        await agent.say('{"jsonrpc":"2.0","id":1,"method":"ping"}'.ljust(2_000))
        assert (await agent.hear())["result"] == {}
        await agent.say(" " * 2_001)
        assert await agent.closed() == 1009
        await gone(edge)


async def test_a_connection_that_answers_no_ping_is_ended():
    async with served(IngressSettings(ping_s=0.05)) as edge, dialled(edge, autoping=False):
        # The socket stays open, and nobody is behind it.
        await gone(edge)


async def test_a_fault_in_what_takes_messages_ends_the_connection(edge, monkeypatch):
    def broken(self, message):
        raise KeyError("a bug of ours")

    async with dialled(edge) as agent:
        monkeypatch.setattr(Duplex, "take", broken)
        await agent.say({})
        await agent.closed()
    await gone(edge)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_other_methods_are_not_served(edge, method):
    async with edge.http.request(method, edge.url.removesuffix("/mcp") + "/ws") as r:
        assert r.status == 405


async def test_a_node_that_closes_takes_no_more_connections(edge):
    async with dialled(edge) as agent:
        closing = asyncio.create_task(edge.ingress.close())
        assert await agent.closed() == 1001
        await closing
    status, why = await refused(edge)
    assert (status, why) == (503, "this node is shutting down")
