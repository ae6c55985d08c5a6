"""The edges of what is carried: what lies just inside passes unchanged, what lies outside is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.node.mirrored.agents import LEGACY, MODERN, Agent, Clients, Told, saw, text_of
from tests.node.mirrored.messages import same
from tests.node.mirrored.world import CELL, CELLS, Mirrors

pytestmark = pytest.mark.asyncio(loop_scope="module")


def nested(levels: int, innermost: Any = None) -> Any:
    value = innermost
    for level in range(levels):
        value = [value] if level % 2 else {"d": value}
    return value


@CELLS
async def test_messages_as_deep_as_they_may_be_pass_both_ways(
    clients: Clients, era: str, server: str, place: str
) -> None:
    agent = await clients.of(era, server, place)
    # Around it: the message, params, arguments.
    deep = nested(200 - 3)
    assert same(saw(await agent.tool("mirror", {"value": deep}))["arguments"]["value"], deep)
    # Around it: the message, result; from the server it comes as text, which is not deep.
    text = f'{{"content":[],"deep":{text_of(nested(200 - 2))}}}'
    assert same((await agent.tool("mirror", {"raw": text})).result["deep"], nested(200 - 2))


# Each cell at more than the megabyte at which others stop; both transports and both eras at ten.
LONG = [(LEGACY, "stdio-old", "local"), (MODERN, "http-new", "remote")]


@pytest.mark.parametrize(
    ("era", "server", "place", "size"), [*((*c, 1_500_000) for c in CELL), *((*c, 10**7) for c in LONG)]
)
async def test_messages_of_many_megabytes_pass_both_ways(
    clients: Clients, era: str, server: str, place: str, size: int
) -> None:
    agent = await clients.of(era, server, place)
    text = "é" * (size // 2)
    told = await agent.tool("mirror", {"value": text, "answer": {"content": [{"type": "text", "text": text}]}})
    assert told.result["content"][0]["text"] == text
    assert saw(told)["arguments"]["value"] == text


OUTSIDE = {
    "lone surrogate": r'"\ud83d"',
    "lone surrogate in a name": r'{"\udc00":1}',
    "not a number": "NaN",
    "infinite": "-Infinity",
    "beyond a double": "1e400",
    "too deep": text_of(nested(200)),
}


@pytest.mark.parametrize("era", [LEGACY, MODERN])
@pytest.mark.parametrize("outside", list(OUTSIDE))
async def test_what_json_cannot_carry_is_refused_by_name_from_the_client(
    world: Mirrors, clients: Clients, era: str, outside: str
) -> None:
    agent = await clients.of(era, "http-old", "local")
    message = agent.request("tools/call", {"name": "mirror", "arguments": {"value": "PLACE"}})
    text = text_of(message).replace('"PLACE"', OUTSIDE[outside])
    before = world.old.counts.get("tools/call", 0)
    async with agent.post(text, **routing(agent, "tools/call", "mirror")) as response:
        told = await response.json()
    assert (response.status, told["id"], told["error"]["code"]) == (400, None, -32700)
    assert told["error"]["message"].isascii()
    assert named(told["error"]["message"]), told
    assert world.old.counts.get("tools/call", 0) == before


@CELLS
@pytest.mark.parametrize("outside", list(OUTSIDE))
async def test_what_json_cannot_carry_is_refused_by_name_from_the_server(
    clients: Clients, era: str, server: str, place: str, outside: str
) -> None:
    agent = await clients.of(era, server, place)
    told = await agent.tool("mirror", {"raw": f'{{"content":[],"x":{OUTSIDE[outside]}}}'})
    assert named(told.error["message"]), told.error
    # One unreadable answer is not the end of the connection.
    assert (await agent.tool("mirror", {"answer": {"x": 1}})).result["x"] == 1


def named(message: str) -> bool:
    return any(word in message for word in ("JSON", "surrogate", "deeper", "range", "number"))


def routing(agent: Agent, method: str, name: str) -> dict[str, str]:
    return {"MCP-Protocol-Version": MODERN, "Mcp-Method": method, "Mcp-Name": name} if agent.modern else {}


@CELLS
async def test_of_duplicate_members_the_one_decided_on_is_forwarded(
    clients: Clients, era: str, server: str, place: str
) -> None:
    agent = await clients.of(era, server, place)
    message = agent.request("tools/call", {"name": "mirror", "arguments": {"a": 1, "A": 2}, "Arguments": {"b": 1}})
    text = text_of(message).replace('"name":', '"name":"three","NAME":"four","name":')
    text = text.replace('{"a":1,', '{"a":0,"a":1,')
    async with agent.post(text, **routing(agent, "tools/call", "mirror")) as response:
        told = Told(await response.json())
    assert "three" not in told.result["x-saw"]
    heard = saw(told)
    assert heard["name"] == "mirror"
    assert heard["arguments"] == {"a": 1, "A": 2}
    # Members that differ by case alone are others, and mean nothing to anybody here.
    assert (heard["NAME"], heard["Arguments"]) == ("four", {"b": 1})


@CELLS
async def test_a_tools_name_may_be_any_text(clients: Clients, era: str, server: str, place: str) -> None:
    agent = await clients.of(era, server, place)
    assert saw(await agent.tool("spiegel-ü 😀", {}))["name"] == "spiegel-ü 😀"
