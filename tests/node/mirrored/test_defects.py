"""Each defect that was found in the SDK or in other gateways, by name: here it is not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.node.mirrored.agents import LEGACY, MODERN, Agent, Clients, saw, text_of
from tests.node.mirrored.mirror import META, TOOLS
from tests.node.mirrored.world import CELLS, PLACES, SERVERS, Mirrors

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE_S = 20.0
ERAS = pytest.mark.parametrize("era", [LEGACY, MODERN])


@CELLS
async def test_the_same_id_twice_in_one_session_does_not_get_the_first_ones_answer(
    clients: Clients, era: str, server: str, place: str
) -> None:
    agent = await clients.of(era, server, place)

    async def use(mark: str) -> Any:
        # The server answers both together, the later one first.
        told = await agent.tool("mirror", {"answer": {"x-mark": mark}, "together": 2}, request_id=1)
        return told.result["x-mark"]

    assert await asyncio.gather(use("a"), use("b")) == ["a", "b"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("server", SERVERS)
async def test_a_batch_of_2025_03_26_is_accepted(world: Mirrors, server: str, place: str) -> None:
    agent = await Agent(world.http, world.url(place, f"/mcp/{server}"), "2025-03-26").open()
    calls = [
        agent.request("tools/call", {"name": "mirror", "arguments": {"answer": {"x-mark": n}}}, request_id=f"é{n}")
        for n in range(3)
    ]
    note = {"jsonrpc": "2.0", "method": "notifications/vendor"}
    async with agent.post([calls[0], note, *calls[1:], {"jsonrpc": "2.0", "id": 9, "method": "ping"}]) as response:
        answers = {answer["id"]: answer["result"] for answer in await response.json()}
    assert answers.pop(9) == {}
    assert {key: result["x-mark"] for key, result in answers.items()} == {"é0": 0, "é1": 1, "é2": 2}
    await agent.close()


@ERAS
@pytest.mark.parametrize("request_id", [1.5, None, True, [1], {}], ids=repr)
async def test_a_request_with_an_id_that_is_none_is_refused_and_not_taken_for_a_notification(
    world: Mirrors, clients: Clients, era: str, request_id: Any
) -> None:
    agent = await clients.of(era, "http-old", "local")
    before = world.old.counts.get("tools/call", 0)
    message = {**agent.request("tools/call", {"name": "mirror", "arguments": {}}), "id": request_id}
    async with agent.post(message) as response:
        told = await response.json()
    assert (response.status, told["id"], told["error"]["code"]) == (400, None, -32600)
    assert "id must be a string or an integer" in told["error"]["message"]
    assert world.old.counts.get("tools/call", 0) == before


@CELLS
async def test_an_event_above_a_megabyte_is_carried(clients: Clients, era: str, server: str, place: str) -> None:
    agent = await clients.of(era, server, place)
    long = "é\n\n" * 300_000
    # Progress ahead of the answer makes a stream of events of it, on both sides.
    progress = {"method": "notifications/progress", "params": {"progress": 1, "message": long}}
    orders = {"notify": [progress], "answer": {"content": [{"type": "text", "text": long}]}}
    told = await agent.tool("mirror", orders, _meta={"progressToken": 1})
    assert told.events[0]["params"]["message"] == long
    assert told.result["content"][0]["text"] == long


async def counted(clients: Clients, server: str) -> dict[str, int]:
    counts: dict[str, int] = (await (await clients.of(LEGACY, server, "local")).tool("counts", {})).result[
        "structuredContent"
    ]
    return counts


@pytest.mark.parametrize("server", SERVERS)
async def test_a_hundred_calls_list_nothing_and_open_nothing(clients: Clients, server: str) -> None:
    agents = [await clients.of(era, server, place) for era in (LEGACY, MODERN) for place in PLACES]
    for agent in agents:
        await agent.tool("mirror", {})
    before = await counted(clients, server)
    for agent in agents:
        await asyncio.gather(*(agent.tool("mirror", {}) for _ in range(100 // len(agents))))
    after = await counted(clients, server)
    changed = {method: n - before.get(method, 0) for method, n in after.items() if n != before.get(method, 0)}
    assert changed == {"tools/call": 100 + 1}


async def exchanged(url: str, lines: list[str], body: bytes) -> tuple[int, bytes]:
    """Status and body of one POST, whose header lines go out as they are: clients strip blanks."""
    host, port = url.removeprefix("http://").split("/")[0].split(":")
    path = "/" + url.removeprefix("http://").split("/", 1)[1]
    reader, writer = await asyncio.open_connection(host, int(port))
    head = [f"POST {path} HTTP/1.1", f"Host: {host}", "Connection: close", f"Content-Length: {len(body)}", *lines]
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]


async def test_header_values_with_blanks_around_them_mean_what_they_mean_without(
    world: Mirrors, clients: Clients
) -> None:
    agent = await clients.of(MODERN, "http-new", "local")
    message = agent.request("tools/call", {"name": "mirror", "arguments": {}})
    lines = [
        "Content-Type:   application/json \t",
        "Accept: application/json, text/event-stream  ",
        f"MCP-Protocol-Version: {MODERN}   ",
        "Mcp-Method:\ttools/call  ",
        "Mcp-Name: mirror \t ",
    ]
    status, body = await exchanged(agent.url, lines, text_of(message).encode())
    assert (status, b"x-saw" in body) == (200, True)


@CELLS
async def test_a_server_is_spoken_to_in_its_own_era_whatever_its_clients(
    clients: Clients, era: str, server: str, place: str
) -> None:
    """Against a proxy that mirrors the era of its front."""
    agent = await clients.of(era, server, place)
    meta = saw(await agent.tool("mirror", {}))["_meta"] if server.endswith("new") else {}
    heard = await counted(clients, server)
    if server.endswith("new"):
        assert meta[META + "protocolVersion"] == MODERN
        assert "notifications/initialized" not in heard
    else:
        envelope = [key for key in saw(await agent.tool("mirror", {})).get("_meta", {}) if key.startswith(META)]
        assert envelope == []
        assert heard["notifications/initialized"] >= 1


@CELLS
async def test_every_page_of_a_list_is_listed(clients: Clients, era: str, server: str, place: str) -> None:
    agent = await clients.of(era, server, place)
    names, cursor = [], None
    while True:
        told = await agent.ask("tools/list", {} if cursor is None else {"cursor": cursor})
        names += [tool["name"] for tool in told.result["tools"]]
        cursor = told.result.get("nextCursor")
        if cursor is None:
            break
    assert sorted(names) == sorted(str(tool["name"]) for tool in TOOLS)


@ERAS
@pytest.mark.parametrize("place", PLACES)
async def test_a_server_that_never_answers_initialize_does_not_hang_a_call(
    world: Mirrors, era: str, place: str
) -> None:
    """A client that can be asked gets a session of its own with the server, which this one never opens."""
    agent = await Agent(world.http, world.url(place, "/mcp/http-hasty"), era, {"sampling": {"x": era + place}}).open()
    world.old.silent = True
    try:
        async with asyncio.timeout(PATIENCE_S):
            told = await agent.tool("mirror", {})
    finally:
        world.old.silent = False
    assert told.error["data"]["kind"] in ("unavailable", "expired")
    assert "http-hasty" in told.error["message"]
    assert "1 s" in told.error["message"]
    # It was one session's, and not the server's: the next one opens, or the one after where a second is short.
    async with asyncio.timeout(PATIENCE_S):
        while "error" in (answer := (await agent.tool("mirror", {})).answer):
            assert answer["error"]["data"]["kind"] in ("unavailable", "expired"), answer
    assert "x-saw" in answer["result"]
    await agent.close()
