"""What agents do with the meta-tools is what search learns from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from node.endpoints.meta import MetaSettings
from node.telemetry import _feedback
from proto.records import Kind
from router.feedback import Feedback
from tests.node.endpoints.conftest import EU, US, House

TASK = {"task_description": "read_page of wiki"}
READ = {"mcp_server_name": "wiki", "mcp_tool_name": "read_page", "params": {}}


@pytest.fixture
def feedback() -> Feedback:
    return Feedback()


@pytest.fixture
async def house(feedback: Feedback) -> AsyncIterator[House]:
    house = House(feedback=feedback, settings=MetaSettings(aliases=("toolhive",)))
    house.offer(EU, "wiki", Kind.TOOL, "read_page", "write_page")
    house.offer(US, "mail", Kind.TOOL, "send")
    await house.router.start()
    await house.router.settled()
    yield house
    await house.router.stop()


async def test_a_call_that_succeeds_after_a_search_is_a_vote_for_its_tool(house: House, feedback: Feedback) -> None:
    await house.use("search_mcp_server", TASK)
    assert feedback.status().own == 0
    await house.use("use_tool", READ)
    [entry] = feedback.kept()[1]
    assert (entry.subject.owner, entry.subject.server, entry.subject.tool) == ("eu-1", "wiki", "read_page")
    assert entry.subject.digest == house.catalog.owners["eu-1"].servers["wiki"].tools["read_page"].digest


async def test_it_lifts_the_tool_in_the_next_search_and_explain_says_by_how_much(
    house: House, feedback: Feedback
) -> None:
    await house.use("search_mcp_server", TASK)
    await house.use("use_tool", READ)
    caller, _ = house.as_clerk()
    lifted = await house.router.search(
        TASK["task_description"], principal="\x1f".join(caller.principal.identity), explain=True
    )
    why = {hit.entry.key.tool: hit.why.feedback for hit in lifted.hits if hit.why}
    assert why["read_page"] == pytest.approx(feedback.greatest, rel=0.01)
    assert why["write_page"] == 0


async def test_metrics_tell_how_much_was_learned(house: House, feedback: Feedback) -> None:
    await house.use("search_mcp_server", TASK)
    await house.use("use_tool", READ)
    samples = {(s.name, *s.labels.values()): s.value for m in _feedback(feedback.status()) for s in m.samples}
    # Named in docs/operations.md, which tests/node/test_operations.py holds against them.
    assert samples == {
        ("toolmesh_feedback_entries", "here"): 1,
        ("toolmesh_feedback_entries", "peers"): 0,
        ("toolmesh_feedback_tools",): 1,
        ("toolmesh_feedback_votes_total",): 1,
    }


async def test_without_a_search_a_call_teaches_nothing(house: House, feedback: Feedback) -> None:
    await house.use("use_tool", READ)
    await house.use("search_mcp_server", TASK, caller="intern")
    await house.use("use_tool", READ)
    assert feedback.status().own == 0


@pytest.mark.parametrize(
    "answer",
    [
        {"result": {"content": [], "isError": True}},
        {"error": {"code": -32000, "message": "no"}},
        {"result": {"resultType": "input_required", "inputRequests": {}}},
        {"result": {"task": {"taskId": "1", "status": "working"}}},
    ],
    ids=["the tool failed", "the server refused", "it asks the client first", "a task has only begun"],
)
async def test_what_has_not_succeeded_teaches_nothing(house: House, feedback: Feedback, answer: dict[str, Any]) -> None:
    await house.use("search_mcp_server", TASK)
    house.servers.answers["tools/call"] = answer
    await house.endpoints.endpoint(None).handle(
        "tools/call", {"name": "use_tool", "arguments": READ}, *house.as_clerk()
    )
    assert feedback.status().own == 0


async def test_a_search_under_another_gateways_name_for_it_counts_too(house: House, feedback: Feedback) -> None:
    await house.use("find_tool", {"tool_description": TASK["task_description"], "tool_keywords": "wiki"})
    await house.use("call_tool", {"tool_name": "wiki__read_page", "parameters": {}})
    assert feedback.status().own == 1


async def test_a_node_without_feedback_answers_all_the_same() -> None:
    house = House()
    house.offer(EU, "wiki", Kind.TOOL, "read_page")
    await house.use("search_mcp_server", TASK)
    assert (await house.use("use_tool", READ))["at"] == "wiki--eu-1"
