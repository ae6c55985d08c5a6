from __future__ import annotations

import hashlib
from typing import Any

import pytest

from proto import jsons
from proto.errors import Invalid
from router.metatools import META_TOOLS, parse_add, parse_search, parse_use

# Clients pin descriptions: change this only together with a line in the changelog.
PINNED = "c61889bf9467245e"


def test_the_three_tools_stay_byte_stable() -> None:
    assert [tool["name"] for tool in META_TOOLS] == ["search_mcp_server", "add_mcp_server", "use_tool"]
    assert hashlib.sha256(jsons.dumps(META_TOOLS)).hexdigest()[:16] == PINNED


def test_every_argument_is_described_and_every_required_one_exists() -> None:
    for tool in META_TOOLS:
        schema = tool["inputSchema"]
        assert set(schema["required"]) <= set(schema["properties"])
        assert all(p["description"] for p in schema["properties"].values())


@pytest.mark.parametrize(
    ("key_words", "expected"),
    [
        (None, []),
        ("", []),
        ("github", ["github"]),
        ("github, issues ,", ["github", "issues"]),
        (["pull request", " a,b "], ["pull request", "a,b"]),
    ],
)
def test_key_words_come_as_string_list_or_array(key_words: Any, expected: list[str]) -> None:
    arguments = {"task_description": " find issues ", "key_words": key_words}
    assert parse_search(arguments) == ("find issues", expected)
    assert parse_search({"task_description": "x"}) == ("x", [])


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (None, {}),
        ({}, {}),
        ("", {}),
        ({"a": 1}, {"a": 1}),
        ('{"a": [1]}', {"a": [1]}),
        ('{"n": 12345678901234567890}', {"n": 12345678901234567890}),
    ],
)
def test_params_come_as_object_or_json_text(params: Any, expected: dict[str, Any]) -> None:
    arguments = {"mcp_server_name": " time ", "mcp_tool_name": "now", "params": params}
    assert parse_use(arguments) == ("time", "now", expected)


def test_add_takes_a_name() -> None:
    assert parse_add({"mcp_server_name": "time--eu-1"}) == "time--eu-1"


@pytest.mark.parametrize(
    ("parse", "arguments", "message"),
    [
        (parse_search, {}, "search_mcp_server needs task_description"),
        (parse_search, {"task_description": 5}, "task_description is a number; give a string"),
        (parse_search, {"task_description": " "}, "task_description is empty"),
        (parse_search, {"task_description": "x", "key_words": 5}, "key_words must be a string"),
        (parse_search, {"task_description": "x", "key_words": ["a", None]}, "key_words must be a string"),
        (parse_search, {"task": "x"}, "takes task_description, key_words, not 'task'"),
        (parse_add, {"name": "x"}, "takes mcp_server_name, not 'name'"),
        (parse_add, {"mcp_server_name": None}, "mcp_server_name is null; give a string"),
        (parse_use, {"mcp_server_name": "x"}, "use_tool needs mcp_tool_name"),
        (parse_use, {"mcp_server_name": "x", "mcp_tool_name": "y", "zone": 1}, "go inside params"),
        (
            parse_use,
            {"mcp_server_name": "x", "mcp_tool_name": "y", "params": [1]},
            "params is an array; give an object",
        ),
        (parse_use, {"mcp_server_name": "x", "mcp_tool_name": "y", "params": "[1]"}, "must be a JSON object"),
        (parse_use, {"mcp_server_name": "x", "mcp_tool_name": "y", "params": "{oops"}, "not valid JSON"),
    ],
)
def test_wrong_arguments_are_refused_with_field_problem_and_mend(
    parse: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(Invalid, match=message):
        parse(arguments)
