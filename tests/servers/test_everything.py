"""The reference server that uses every part of the protocol, over its three transports, by agents of both eras."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mcp_types import PromptReference, ResourceTemplateReference

from tests.servers.world import ERAS, Agent, World, text_of

pytestmark = [
    pytest.mark.servers,
    pytest.mark.asyncio(loop_scope="session"),
    # What 2026-07-28 has done away with is what is tried here.
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
    pytest.mark.parametrize("era", ERAS),
    pytest.mark.parametrize("name", ["everything", "everything-http", "everything-sse"]),
]


def agent(world: World, name: str, era: str, **more: Any) -> Agent:
    return Agent(f"{world.url}/mcp/{name}", era, **more)


async def test_progress_reaches_the_caller_in_order(world: World, name: str, era: str) -> None:
    heard: list[float] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(progress)

    async with agent(world, name, era).client as client:
        arguments = {"duration": 0.05, "steps": 5}
        await client.call_tool("trigger-long-running-operation", arguments, progress_callback=hear)
    assert heard == [1, 2, 3, 4, 5]


async def test_structured_and_annotated_content_images_and_links_come_through(
    world: World, name: str, era: str
) -> None:
    async with agent(world, name, era).client as client:
        weather = await client.call_tool("get-structured-content", {"location": "New York"})
        assert weather.structured_content is not None
        assert set(weather.structured_content) == {"temperature", "conditions", "humidity"}
        annotated = await client.call_tool("get-annotated-message", {"messageType": "error"})
        assert annotated.content[0].annotations is not None
        assert annotated.content[0].annotations.priority == 1
        assert "image" in [part.type for part in (await client.call_tool("get-tiny-image", {})).content]
        linked = await client.call_tool("get-resource-links", {"count": 2})
        assert [part.type for part in linked.content].count("resource_link") == 2


async def test_resources_prompts_and_completions_are_reached(world: World, name: str, era: str) -> None:
    async with agent(world, name, era).client as client:
        templates = (await client.list_resource_templates()).resource_templates
        uri = "demo://resource/dynamic/text/7"
        assert any(t.uri_template.startswith("demo://resource/dynamic/text/") for t in templates)
        assert "Resource 7" in (await client.read_resource(uri)).contents[0].text  # type: ignore[union-attr]
        prompt = await client.get_prompt("args-prompt", {"city": "Oslo"})
        assert "Oslo" in prompt.messages[0].content.text  # type: ignore[union-attr]
        departments = await client.complete(
            PromptReference(name="completable-prompt"), {"name": "department", "value": "E"}
        )
        assert departments.completion.values == ["Engineering"]
        resource = ResourceTemplateReference(uri=templates[0].uri_template)
        assert (await client.complete(resource, {"name": "resourceId", "value": "3"})).completion.values == ["3"]


async def test_the_client_is_asked_for_a_sample_and_the_tool_goes_on_with_it(world: World, name: str, era: str) -> None:
    await world.surveyed(name)
    asking = agent(world, name, era)
    async with asking.client as client:
        said = text_of(await client.call_tool("trigger-sampling-request", {"prompt": "what is a mesh?"}))
    assert "a sampled answer" in said
    assert "what is a mesh?" in asking.asked[-1].messages[0].content.text


async def test_the_user_is_asked_for_input_and_the_tool_goes_on_with_it(world: World, name: str, era: str) -> None:
    await world.surveyed(name)
    asking = agent(world, name, era)
    async with asking.client as client:
        said = text_of(await client.call_tool("trigger-elicitation-request", {}))
    assert "Ada" in said
    assert asking.asked[-1].requested_schema is not None


async def test_the_roots_of_the_client_are_asked_for(world: World, name: str, era: str) -> None:
    await world.surveyed(name)
    async with agent(world, name, era).client as client:
        assert "file:///workspace/mesh" in text_of(await client.call_tool("get-roots-list", {}))


async def test_a_log_line_outside_of_calls_reaches_a_legacy_session(world: World, name: str, era: str) -> None:
    if era != "legacy":
        # 2026-07-28 has log lines on the stream of a request alone.
        return
    hearing = agent(world, name, era)
    async with hearing.client as client, asyncio.timeout(15):
        await client.set_logging_level("debug")
        await client.call_tool("toggle-simulated-logging", {})
        await hearing.logged.wait()
        await client.call_tool("toggle-simulated-logging", {})
    assert "message" in str(hearing.told[0].data)


async def test_who_has_subscribed_to_a_resource_hears_that_it_was_updated(world: World, name: str, era: str) -> None:
    uri = "demo://resource/dynamic/text/1"
    hearing = agent(world, name, era)
    async with hearing.client as client, asyncio.timeout(15):
        if era == "legacy":
            await client.subscribe_resource(uri)
            await client.call_tool("toggle-subscriber-updates", {})
            assert await hearing.updated.get() == uri
            await client.unsubscribe_resource(uri)
        else:
            async with client.listen(resource_subscriptions=[uri]) as subscription:
                await client.call_tool("toggle-subscriber-updates", {})
                async for event in subscription:
                    assert event.uri == uri  # type: ignore[union-attr]
                    break
        await client.call_tool("toggle-subscriber-updates", {})
