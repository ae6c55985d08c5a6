"""What is promised to whom."""

from __future__ import annotations

from typing import Any

import pytest

from node.endpoints.capabilities import TASKS, promised, relayed, united

OLD, NEW = "2025-11-25", "2026-07-28"


def test_a_servers_capabilities_pass_as_they_are_and_changes_of_its_lists_are_told() -> None:
    claimed = {
        "tools": {},
        "resources": {"subscribe": True, "listChanged": False, "vendor": 1},
        "prompts": None,
        "logging": {},
        "completions": {"vendor": None},
        "experimental": {"x": {"y": 1}},
        "vendor/family": {"z": []},
    }
    kept = {"tools": {"listChanged": True}, "prompts": {"listChanged": True}}
    for era in (OLD, NEW):
        assert relayed(claimed, OLD, era) == {
            **claimed,
            **kept,
            "resources": {"subscribe": True, "listChanged": True, "vendor": 1},
        }
    assert claimed["resources"] == {"subscribe": True, "listChanged": False, "vendor": 1}


@pytest.mark.parametrize(
    ("server", "client", "tasks", "extensions"),
    [
        (OLD, OLD, True, ["vendor/x"]),
        (OLD, NEW, False, ["vendor/x"]),
        (NEW, OLD, False, ["vendor/x"]),
        (NEW, NEW, False, [TASKS, "vendor/x"]),
        ("", "", True, ["vendor/x"]),
    ],
)
def test_tasks_are_promised_where_both_sides_speak_the_same_era(
    server: str, client: str, tasks: bool, extensions: list[str]
) -> None:
    claimed = {"tasks": {"list": {}}, "extensions": {TASKS: {}, "vendor/x": {"a": 1}}}
    carried = relayed(claimed, server, client)
    assert ("tasks" in carried, sorted(carried["extensions"])) == (tasks, sorted(extensions))


def test_a_server_of_both_eras_promises_each_client_what_it_has_in_its_own() -> None:
    info = {
        "protocolVersion": OLD,
        "capabilities": {"tools": {}, "tasks": {"list": {}}},
        "modernCapabilities": {"tools": {}, "extensions": {TASKS: {}}},
    }
    tools = {"listChanged": True}
    assert promised(info, OLD) == {"tools": tools, "tasks": {"list": {}}}
    assert promised(info, NEW) == {"tools": tools, "extensions": {TASKS: {}}}
    assert promised({"protocolVersion": None, "capabilities": None}, NEW) == {}


def test_all_servers_together_promise_what_one_of_them_has_and_this_address_can_keep() -> None:
    said: list[dict[str, Any]] = [
        {"tools": {}, "logging": {"vendor": 1}, "experimental": {"x": {}}, "vendor/family": {}},
        {"resources": {"subscribe": True}, "tasks": {"list": {}, "requests": {"tools": {"call": {}}}}},
        {"resources": {"subscribe": False}, "tasks": {"cancel": {}, "requests": {"sampling": {}}}, "completions": {}},
        {"extensions": {TASKS: {"a": 1}, "vendor/x": {}}, "tasks": None, "logging": None},
        {"extensions": {TASKS: {"a": 2, "b": [3]}}},
    ]
    before = repr(said)
    assert united(said) == {
        "tools": {"listChanged": True},
        "prompts": {"listChanged": True},
        "resources": {"listChanged": True, "subscribe": True},
        "logging": {},
        "completions": {},
        "tasks": {"requests": {"tools": {"call": {}}, "sampling": {}}, "cancel": {}},
        "extensions": {TASKS: {"a": 1, "b": [3]}},
    }
    assert repr(said) == before


def test_lists_are_promised_before_any_server_has_come() -> None:
    assert united([]) == {family: {"listChanged": True} for family in ("tools", "prompts", "resources")}
