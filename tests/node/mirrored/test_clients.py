"""Real clients: the SDK's, in each of its modes, with servers of both eras behind both transports, near and far.

The inspector is in `tests/node/test_inspector.py`, FastMCP's client in `tests/servers/test_fastmcp.py`.
"""

from __future__ import annotations

from typing import Any

import pytest
from mcp.client import Client
from mcp_types import (
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequestParams,
    ElicitResult,
    ListRootsResult,
    LoggingMessageNotificationParams,
    Root,
    TextContent,
)

from tests.node.mirrored.mirror import TOOLS
from tests.node.mirrored.world import PLACES, SERVERS, Mirrors

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # The SDK calls sampling, roots and logging deprecated; servers ask for them for as long as they please.
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

MODES = ["auto", "legacy", "2026-07-28"]
CELLS = pytest.mark.parametrize(
    ("mode", "server", "place"), [(mode, server, place) for mode in MODES for server in SERVERS for place in PLACES]
)
QUESTIONS = [
    {
        "method": "sampling/createMessage",
        "params": {"messages": [{"role": "user", "content": {"type": "text", "text": "a mesh?"}}], "maxTokens": 7},
    },
    {
        "method": "elicitation/create",
        "params": {"mode": "form", "message": "who?", "requestedSchema": {"type": "object", "properties": {}}},
    },
    {"method": "roots/list"},
]
REPLIES = [
    {"role": "assistant", "content": {"type": "text", "text": "sampled"}, "model": "none"},
    {"action": "accept", "content": {"name": "Ada"}},
    {"roots": [{"uri": "file:///workspace", "name": "workspace"}]},
]


class Agent:
    """The SDK's client, with something to say to every question."""

    def __init__(self, url: str, mode: str) -> None:
        self.asked: list[str] = []
        self.logged: list[Any] = []
        self.client = Client(
            url,
            mode=mode,
            sampling_callback=self._sample,
            elicitation_callback=self._elicit,
            list_roots_callback=self._roots,
            logging_callback=self._log,
            log_level=None if mode == "legacy" else "debug",
        )

    async def _sample(self, context: Any, params: CreateMessageRequestParams) -> CreateMessageResult:
        self.asked.append(params.messages[0].content.text)  # type: ignore[union-attr]
        return CreateMessageResult(role="assistant", content=TextContent(type="text", text="sampled"), model="none")

    async def _elicit(self, context: Any, params: ElicitRequestParams) -> ElicitResult:
        self.asked.append(params.message)
        return ElicitResult(action="accept", content={"name": "Ada"})

    async def _roots(self, context: Any) -> ListRootsResult:
        self.asked.append("roots")
        return ListRootsResult(roots=[Root(uri="file:///workspace", name="workspace")])

    async def _log(self, params: LoggingMessageNotificationParams) -> None:
        self.logged.append(params.data)


@CELLS
async def test_the_sdks_client_lists_calls_and_is_told_how_far_it_is(
    world: Mirrors, mode: str, server: str, place: str
) -> None:
    agent = Agent(world.url(place, f"/mcp/{server}"), mode)
    heard: list[tuple[float, float | None, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    async with agent.client as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {tool["name"] for tool in TOOLS}
        notify = [
            {"method": "notifications/progress", "params": {"progress": n, "total": 2, "message": "é"}} for n in (1, 2)
        ]
        orders = {"notify": notify, "answer": {"content": [{"type": "text", "text": "é"}], "structuredContent": {}}}
        result = await client.call_tool("mirror", orders, progress_callback=hear)
        assert [part.text for part in result.content] == ["é"]  # type: ignore[union-attr]
        assert heard == [(1, 2, "é"), (2, 2, "é")]
        log = {"method": "notifications/message", "params": {"level": "info", "data": {"to": mode}}}
        await client.call_tool("mirror", {"notify": [log]})
        assert agent.logged == [{"to": mode}]


@CELLS
async def test_the_sdks_client_is_asked_for_samples_forms_and_roots(
    world: Mirrors, mode: str, server: str, place: str
) -> None:
    agent = Agent(world.url(place, f"/mcp/{server}"), mode)
    async with agent.client as client:
        result = await client.call_tool("mirror", {"ask": QUESTIONS})
        assert sorted(agent.asked) == ["a mesh?", "roots", "who?"]
        for reply, expected in zip(result.structured_content["replies"], REPLIES, strict=True):
            assert {key: reply.get(key) for key in expected} == expected
