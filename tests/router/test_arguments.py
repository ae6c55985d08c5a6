"""What agents write, in every shape that other routers' clients have been seen to write it."""

from __future__ import annotations

from typing import Any

import pytest

from proto.errors import Invalid
from router.arguments import LIMIT_MAX, TASK_MAX, Search, Taking, Use
from router.metatools import READ, parse_add, parse_search, parse_use


@pytest.mark.parametrize(
    ("key_words", "expected"),
    [
        (None, ()),
        ("", ()),
        (" ", ()),
        ([], ()),
        ("github", ("github",)),
        ("github, issues ,", ("github", "issues")),
        ("天气，城市、预报", ("天气", "城市", "预报")),
        ("a；b;c", ("a", "b", "c")),
        (["pull request", " a,b ", ""], ("pull request", "a,b")),
        ('["pull request", "issue"]', ("pull request", "issue")),
        ('[ "a" ,]', ('"a"',)),
        ("[draft, wip]", ("draft", "wip")),
    ],
)
def test_key_words_come_as_list_array_or_its_text_with_commas_of_any_script(
    key_words: Any, expected: tuple[str, ...]
) -> None:
    assert parse_search({"task_description": " find issues ", "key_words": key_words}) == Search(
        "find issues", expected
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"taskDescription": "x", "keyWords": ["a"], "mcpServerName": "wiki", "limit": "7"},
        {"task_description": "x", "key_words": "a", "server": "wiki", "limit": 7},
        {"TaskDescription": "x", "keywords": "a,", "Server": " wiki ", "top_k": 7.0},
        {
            "task-description": "x",
            "key-words": "a",
            "server": "wiki",
            "limit": 7,
            "region": None,
            "detail": "Signature",
        },
    ],
)
def test_arguments_are_understood_however_they_are_spelt(arguments: dict[str, Any]) -> None:
    assert parse_search(arguments) == Search("x", ("a",), 7, server="wiki")


@pytest.mark.parametrize(
    "arguments",
    [
        {"mcp_server_name": " time ", "mcp_tool_name": "now", "params": {"a": 1}},
        {"mcpServerName": "time", "mcpToolName": "now", "params": '{"a": 1}'},
        {"mcpServerName": "time", "toolName": "now", "params": ' {"a": 1} '},
        {"server": "time", "mcp_tool_name": "now", "params": {"a": 1}},
    ],
)
def test_a_tool_to_run_is_understood_however_it_is_spelt(arguments: dict[str, Any]) -> None:
    assert parse_use(arguments) == Use("time", "now", {"a": 1})
    assert parse_use(arguments, READ) == Use("time", "now", {"a": 1})


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (None, {}),
        ({}, {}),
        ("", {}),
        ('{"a": [1]}', {"a": [1]}),
        ('{"n": 12345678901234567890}', {"n": 12345678901234567890}),
    ],
)
def test_params_come_as_object_or_json_text(params: Any, expected: dict[str, Any]) -> None:
    assert parse_use({"mcp_server_name": "time", "mcp_tool_name": " now", "params": params}).params == expected


def test_a_tools_name_keeps_its_spaces_and_a_servers_does_not() -> None:
    asked = parse_use({"mcp_server_name": " time ", "mcp_tool_name": " now "})
    assert (asked.server, asked.tool) == ("time", " now ")
    assert parse_add({"mcpServerName": "time--eu-1"}) == "time--eu-1"


def test_what_nobody_can_see_in_a_task_is_left_out() -> None:
    assert parse_search({"task_description": "\u200bread\x00 a\u2028file\x1b"}).task == "read  a file"


@pytest.mark.parametrize(
    ("parse", "arguments", "message"),
    [
        (parse_search, {}, "search_mcp_server needs task_description"),
        (parse_search, {"task_description": 5}, "task_description is a number; give a string"),
        (parse_search, {"task_description": None}, "task_description is null; give a string"),
        (parse_search, {"task_description": " \n"}, "task_description is empty"),
        (parse_search, {"task_description": "\x00\x01\u200b"}, "task_description holds no character that can be read"),
        (parse_search, {"task_description": "x" * (TASK_MAX + 1)}, r"is 4001 characters long, at most 4000"),
        (parse_search, {"task_description": "x", "key_words": 5}, "key_words must be a string"),
        (parse_search, {"task_description": "x", "key_words": ["a", None]}, "key_words must be a string"),
        (parse_search, {"task_description": "x", "key_words": '["a", 1]'}, "key_words must be a string"),
        (parse_search, {"task_descripton": "x"}, "not 'task_descripton'; did you mean task_description?"),
        (parse_search, {"task_description": "x", "colour": 1}, r"takes task_description, .*, not 'colour'$"),
        (parse_search, {"task_description": "x", "taskDescription": "y"}, "task_description is given twice"),
        (parse_search, {"task_description": "x", "limit": 0}, f"limit is 0; give a whole number from 1 to {LIMIT_MAX}"),
        (parse_search, {"task_description": "x", "limit": 21}, "limit is 21; give a whole number"),
        (parse_search, {"task_description": "x", "limit": True}, "limit is True; give a whole number"),
        (parse_search, {"task_description": "x", "limit": "many"}, "limit is 'many'; give a whole number"),
        (parse_search, {"task_description": "x", "detail": "schmas"}, "did you mean schemas?"),
        (parse_search, {"task_description": "x", "detail": "all"}, "give one of names, signatures, schemas$"),
        (parse_search, {"task_description": "x", "kind": "agent"}, "give one of tool, prompt, resource$"),
        (parse_search, {"task_description": "x", "server": ["a"]}, "server is an array; give a string, or leave it"),
        (
            parse_search,
            {"task_description": "x", "key_words": "," * 8_001},
            "key_words is 8001 characters long; give a few",
        ),
        (parse_search, {"task_description": "x", "key_words": ["a"] * 257}, "key_words holds 257 words; give a few"),
        (parse_search, {"task_description": "x", "key_words": ["a" * 8_001]}, "key_words holds more than 8000 char"),
        (parse_search, {"task_description": "x", "server": "s" * 201}, "server is 201 characters long, at most 200"),
        (parse_add, {"nam": "x"}, "takes mcp_server_name, not 'nam'"),
        (parse_add, {"mcp_server_name": None}, "mcp_server_name is null; give a string"),
        (parse_use, {"mcp_server_name": "x"}, "use_tool needs mcp_tool_name"),
        (parse_use, {"mcp_server_name": "x", "mcp_tool_name": "y", "zone": 1}, "go inside params"),
        (parse_use, {"mcp_server_name": "x", "mcp_tool_name": "y", "parms": {}}, "did you mean params?"),
        (
            parse_use,
            {"mcp_server_name": "x", "mcp_tool_name": "y", "params": [1]},
            "params is an array; give an object",
        ),
        (parse_use, {"mcp_server_name": "x", "mcp_tool_name": "y", "params": "[1]"}, "must be a JSON object"),
        (parse_use, {"mcp_server_name": "x", "mcp_tool_name": "y", "params": "{oops"}, "not valid JSON"),
    ],
)
def test_wrong_arguments_are_refused_with_argument_problem_and_mend(
    parse: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(Invalid, match=message):
        parse(arguments)


def test_a_refusal_repeats_little_of_what_was_sent() -> None:
    with pytest.raises(Invalid) as e:
        Taking("t", ("a",)).read({"x" * 100_000: 1})
    assert len(e.value.message) < 200
