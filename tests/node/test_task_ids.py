"""Ids of tasks are addressed where MCP writes them, and nothing else is touched."""

from __future__ import annotations

from typing import Any

import pytest

from node.task_ids import RELATED, TaskExchange, by_server, heard_of, holder, outward, split, told
from proto.errors import Invalid
from tests.node.endpoints.conftest import Heard


@pytest.mark.parametrize(
    ("method", "result", "changed"),
    [
        (
            "tools/call",
            {"task": {"taskId": "t", "ttl": None}, "vendor": 1},
            {"task": {"taskId": "s__t", "ttl": None}, "vendor": 1},
        ),
        (
            "tools/call",
            {"resultType": "task", "taskId": "t", "v": None},
            {"resultType": "task", "taskId": "s__t", "v": None},
        ),
        ("tasks/get", {"taskId": "t", "status": "working"}, {"taskId": "s__t", "status": "working"}),
        ("tasks/get", {"taskId": "t", "result": {"taskId": "mine"}}, {"taskId": "s__t", "result": {"taskId": "mine"}}),
        ("tasks/list", {"tasks": [{"taskId": "t"}, 7]}, {"tasks": [{"taskId": "s__t"}, 7]}),
        (
            "tasks/result",
            {"content": [], "_meta": {RELATED: {"taskId": "t"}, "x": 1}},
            {"content": [], "_meta": {RELATED: {"taskId": "s__t"}, "x": 1}},
        ),
    ],
)
def test_an_answer_names_its_tasks_with_their_server(
    method: str, result: dict[str, Any], changed: dict[str, Any]
) -> None:
    before = repr(result)
    assert outward("s", method, {"result": result}) == {"result": changed}
    assert repr(result) == before


@pytest.mark.parametrize(
    "answer",
    [
        {"result": {"content": [], "structuredContent": {"taskId": "t"}, "taskId": "t"}},
        {"result": {"content": [], "task": {"taskId": "t"}}},
        {"result": {"content": [], "_meta": {RELATED: None, "taskId": "t"}}},
        {"result": None},
        {"error": {"code": 1, "data": {"taskId": "t"}}},
    ],
)
def test_what_only_looks_like_a_task_is_the_very_same_object(answer: dict[str, Any]) -> None:
    assert outward("s", "tools/call", answer) is answer


def test_an_address_is_taken_off_on_the_way_in() -> None:
    params = {"taskId": "a-b--c__t__1", "_meta": {RELATED: {"taskId": "a-b--c__t__1"}}, "x": None}
    assert split(params) == ("a-b--c", {"taskId": "t__1", "_meta": {RELATED: {"taskId": "t__1"}}, "x": None})
    for task_id in ("plain", "__t", "", None, 7):
        with pytest.raises(Invalid, match=r"params\.taskId"):
            split({"taskId": task_id})


def test_an_id_is_held_by_the_server_that_it_names_if_that_is_asked_about() -> None:
    assert holder("a--x__1__2", {"a--x", "a--y"}) == "a--x"
    for other in ("a__1", "a--z__1", "a--x", "a--x_1", "", None, 7, ["a--x__1"]):
        assert holder(other, {"a--x", "a--y"}) == ""


def test_one_listen_hears_of_the_tasks_of_one_server() -> None:
    asked = {"taskIds": ["plain", "b__1", "a__1", "b__2", None], "resourceSubscriptions": ["u:1"]}
    assert heard_of(asked, {"a", "b"}) == ("b", {"taskIds": ["1", "2"], "resourceSubscriptions": ["u:1"]})
    for none_named in ({"taskIds": ["plain"]}, {"taskIds": {}}, {}):
        assert heard_of(none_named, {"a", "b"}) == ("", none_named)


def test_a_listen_asks_each_server_for_its_own_tasks() -> None:
    assert by_server(["a__1", "b__1", "a__2"]) == {"a": {"taskIds": ["1", "2"]}, "b": {"taskIds": ["1"]}}
    assert by_server(None) == {}
    for task_ids in ("a__1", ["plain"], [7], {}):
        with pytest.raises(Invalid, match="taskId"):
            by_server(task_ids)


async def test_a_server_and_a_client_each_hear_of_a_task_by_the_id_that_they_know() -> None:
    heard = Heard()
    exchange = TaskExchange("s", heard)
    exchange.event({"method": "notifications/tasks/status", "params": {"taskId": "t", "status": "working"}})
    exchange.event({"method": "notifications/progress", "params": {"progressToken": 1, "taskId": "t"}})
    exchange.event({"method": "notifications/message", "params": {"_meta": {RELATED: {"taskId": "t"}}}})
    exchange.event({"method": "notifications/vendor"})
    assert heard.events == [
        {"method": "notifications/tasks/status", "params": {"taskId": "s__t", "status": "working"}},
        {"method": "notifications/progress", "params": {"progressToken": 1, "taskId": "t"}},
        {"method": "notifications/message", "params": {"_meta": {RELATED: {"taskId": "s__t"}}}},
        {"method": "notifications/vendor"},
    ]
    heard.said = {"result": {"action": "accept", "_meta": {RELATED: {"taskId": "s__t"}}}}
    # The task that a client runs for the server has the client's own id.
    asked = {"method": "tasks/get", "params": {"taskId": "the client's", "_meta": {RELATED: {"taskId": "t"}}}}
    assert await exchange.request(asked) == {"result": {"action": "accept", "_meta": {RELATED: {"taskId": "t"}}}}
    assert heard.asked == [
        {"method": "tasks/get", "params": {"taskId": "the client's", "_meta": {RELATED: {"taskId": "s__t"}}}}
    ]


def test_an_acknowledgement_names_tasks_too() -> None:
    said = {"method": "notifications/subscriptions/acknowledged", "params": {"notifications": {"taskIds": ["t"]}}}
    assert told("s", said)["params"]["notifications"] == {"taskIds": ["s__t"]}
    silent = {"method": "notifications/subscriptions/acknowledged", "params": {"notifications": {}}}
    assert told("s", silent) is silent
