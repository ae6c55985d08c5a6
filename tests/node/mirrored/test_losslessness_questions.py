"""What a server asks in mid-call reaches the client as it was asked, and its replies the server, between all eras.

And what a client tells its server out of any call.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.node.mirrored.agents import LEGACY, Clients
from tests.node.mirrored.messages import OBJECTS, QUESTIONS, RESULTS, generated, same
from tests.node.mirrored.world import CELLS, PLACES

pytestmark = pytest.mark.asyncio(loop_scope="module")

NUMBERS = itertools.count()


@CELLS
@generated
@given(questions=st.lists(QUESTIONS, min_size=1, max_size=3), replies=st.lists(RESULTS, min_size=3, max_size=3))
async def test_a_servers_questions_and_the_clients_replies_pass_unchanged(
    clients: Clients,
    era: str,
    server: str,
    place: str,
    questions: list[dict[str, Any]],
    replies: list[dict[str, Any]],
) -> None:
    agent = await clients.of(era, server, place, answering=True)
    # By what it was asked, a client knows what to reply.
    questions = [{**q, "params": {**q["params"], "x-number": n}} for n, q in enumerate(questions)]
    agent.replies = lambda question: replies[question["params"]["x-number"]]
    told = await agent.tool("mirror", {"ask": questions})
    asked = sorted(told.asked, key=lambda question: question["params"]["x-number"])
    assert same(asked, questions)
    assert same(json.loads(told.result["x-replies"]), replies[: len(questions)])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("server", ["stdio-old", "http-old"])
@generated
@given(params=OBJECTS)
async def test_a_clients_notifications_reach_its_server_unchanged(
    clients: Clients, server: str, place: str, params: dict[str, Any]
) -> None:
    agent = await clients.of(LEGACY, server, place, answering=True)
    await agent.tool("mirror", {})
    method = f"notifications/vendor/é {next(NUMBERS)}"
    await agent.notify(method, params)
    told = await agent.tool("mirror", {"heard": method})
    # Without params and with empty ones is the same to JSON-RPC, and here.
    assert same(json.loads(told.result["x-heard"]) or {}, params)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("server", ["stdio-old", "http-old"])
async def test_a_clients_refusal_of_a_question_reaches_its_server_unchanged(
    clients: Clients, server: str, place: str
) -> None:
    agent = await clients.of(LEGACY, server, place, answering=True)
    error = {"code": -31234, "message": "not on Sundays", "data": {"until": [None, 2**70]}, "x-more": 1.0}
    message = agent.request("tools/call", {"name": "mirror", "arguments": {"ask": [{"method": "roots/list"}]}})
    async with agent.posted(message) as heard:
        asked = await anext(heard)
        assert asked["method"] == "roots/list"
        await agent.reply({"jsonrpc": "2.0", "id": asked["id"], "error": error})
        answer = await anext(heard)
    assert same(json.loads(answer["result"]["x-replies"]), [{"error": error}])
